"""The transformer, its audio-face attention, and the way to and from the release's checkpoints."""
