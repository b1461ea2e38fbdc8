"""Landmarks of faces: where lips and eyes are, how far they are open, and where the face turns."""
