"""Training data: records, shards, and the preparation of both from footage."""
