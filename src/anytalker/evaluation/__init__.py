"""How good a talking video is."""
