"""From the name of a model to its parts: presets, folders, downloads."""
