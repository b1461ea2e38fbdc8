"""Many videos: batches, their workers, benchmark sets."""
