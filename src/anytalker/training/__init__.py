"""Training: both stages of AnyTalker, LoRA, and the autoencoder and decoder of the miniature."""
