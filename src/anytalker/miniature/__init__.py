"""A small AnyTalker that runs anywhere: the drawn world it lives in, its voices, and the recipe of its weights."""
