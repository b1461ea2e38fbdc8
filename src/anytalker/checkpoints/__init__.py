"""Model weights in files: their formats, and conversion between them."""
