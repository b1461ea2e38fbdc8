"""The drawn world's voices: sentences and speech with its visemes."""
