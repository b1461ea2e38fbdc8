"""The drawn world: people, scenes, and the truth about them."""
