"""Training: the autoencoder of the miniature, and AnyTalker's first stage on single and joined clips."""
