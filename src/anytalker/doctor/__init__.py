"""What this machine can do: memory and time, counted and advised."""
