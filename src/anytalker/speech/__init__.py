"""Text to speech: one way to ask for it, and the engines behind it."""
