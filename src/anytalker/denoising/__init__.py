"""From noise and conditioning to latents: sampler, guidance, windows."""
