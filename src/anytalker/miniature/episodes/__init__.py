"""Episodes: minutes of raw footage of the drawn world, with everything known about it."""
