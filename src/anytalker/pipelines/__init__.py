"""From pictures and recordings to a video and its record: checks, encoding, denoising, decoding, writing."""
