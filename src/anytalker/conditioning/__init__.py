"""From pictures, recordings and boxes to the inputs of the transformer: faces, masks, audio features."""
