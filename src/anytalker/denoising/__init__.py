"""From noise to latents: sampler, guidance, windows."""
