"""From what people give (pictures, recordings, boxes) to what the transformer is told."""
