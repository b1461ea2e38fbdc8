"""How eyes and brows move: tracks of landmarks, Interactivity."""
