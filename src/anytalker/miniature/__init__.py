"""The small model in the package: the drawn world, its voices, and the recipe of its weights."""
