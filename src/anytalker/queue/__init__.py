"""A durable queue of videos to be made: one SQLite file, worker processes that keep the model, a folder a video."""
