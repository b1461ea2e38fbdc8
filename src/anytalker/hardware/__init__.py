"""Where a model is placed, and what makes it faster there: caches, kernels, compilation, several devices."""
