"""Model weights in files: their formats, and from one to another."""
