"""From checked inputs to a finished video."""
