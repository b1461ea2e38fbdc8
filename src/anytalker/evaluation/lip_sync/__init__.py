"""How well lips and voices agree, and whose voice is whose."""
