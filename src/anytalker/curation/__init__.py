"""From raw footage to training clips."""
