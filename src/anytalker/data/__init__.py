"""Clips as data: records, shards, and what turns footage into them."""
