"""Which models and videos fit on this machine: their memory is simulated before anything is loaded."""
