"""Many videos: batches, the worker processes that make them and report failures, sets of jobs for benchmarks."""
