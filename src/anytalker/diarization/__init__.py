"""Who speaks when, from sound alone: voice activity, speaker embeddings, clustering, sharp borders, overlaps."""
