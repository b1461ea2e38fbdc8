"""From raw footage to a training set: shots, faces, voices, who speaks, and the clips that are worth keeping."""
