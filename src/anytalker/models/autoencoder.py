"""The miniature's video autoencoder: four frames to a latent frame, 8×8 pixels to a latent.

Wan's causal autoencoder is too slow to train and run on two cores. This one keeps its contract (4n+1 frames, ×4 in
time, ×8 in space, 16 channels, `encode(...).latent_dist`, `decode(...).sample`, latent statistics in the configuration)
with plain 2-D convolutions and nothing across latent frames: it starts as a principal component analysis of 4×8×8
patches and learns the rest. A single frame, such as the picture in front, is treated as four equal ones.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, IdentityDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

from anytalker.models.upscaler import PictureUpscaler

FRAMES = 4
PATCH = 8


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions added to their input (n, width, h, w); starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.conv_in = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        _start_at_zero(self.conv_out)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        inner = self.conv_in(nn.functional.silu(self.norm(hidden_states)))
        return hidden_states + self.conv_out(nn.functional.silu(inner))


class MiniatureAutoencoder(ModelMixin, ConfigMixin):
    """Encodes (B, 3, 4(f-1)+1, H, W) in [-1, 1] to (B, latent_channels, f, H/8, W/8) and back.

    Args:
        latent_channels: channels of a latent.
        width: channels of the convolutions on the latent grid.
        blocks: residual blocks there, in the encoder and in the decoder.
        fine_width: channels of the decoder's convolutions on the grid of 4×4 pixels.
        fine_blocks: residual blocks there.
        deblocking, deblocking_limit: share of the jumps between latent frames that a decoded video is freed of, and how
            far a value from -1 to 1 may be moved for it, see `Deblocking`.
        upscaler_width, upscaler_blocks: of the `PictureUpscaler` that makes decoded frames twice as large with the
            picture's detail; 0: there is none.
        latents_mean, latents_std: statistics of the latents, one value a channel, for the diffusion model.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        width: int = 192,
        blocks: int = 3,
        fine_width: int = 64,
        fine_blocks: int = 2,
        deblocking: float = 1.0,
        deblocking_limit: float = 0.04,
        upscaler_width: int = 0,
        upscaler_blocks: int = 2,
        latents_mean: tuple[float, ...] = (0.0,) * 16,
        latents_std: tuple[float, ...] = (1.0,) * 16,
    ) -> None:
        super().__init__()
        values = 3 * FRAMES * PATCH * PATCH
        self.encode_linear = nn.Conv2d(values, latent_channels, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(values, width, 1),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.SiLU(),
            nn.Conv2d(width, latent_channels, 3, padding=1),
        )
        self.decode_linear = nn.Conv2d(latent_channels, values, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(blocks)),
            nn.Conv2d(width, 4 * fine_width, 1),
            nn.PixelShuffle(2),
            *(ResidualBlock(fine_width) for _ in range(fine_blocks)),
            nn.SiLU(),
            nn.Conv2d(fine_width, values // 4, 3, padding=1),
        )
        self.upscaler = PictureUpscaler(upscaler_width, upscaler_blocks) if upscaler_width else None
        for last in (self.encoder[-1], self.decoder[-1]):
            _start_at_zero(last)

    @apply_forward_hook
    def encode(self, pixels: torch.Tensor) -> AutoencoderKLOutput:
        """Encode pixels (B, 3, 4(f-1)+1, H, W); `latent_dist.mode()` is (B, latent_channels, f, H/8, W/8)."""
        patches = patches_of(pixels)
        latents = self.encode_linear(patches) + self.encoder(patches)
        return AutoencoderKLOutput(latent_dist=IdentityDistribution(_to_video(latents, len(pixels))))

    @apply_forward_hook
    def decode(self, latents: torch.Tensor) -> DecoderOutput:
        """Decode latents (B, latent_channels, f, h, w); the result's `sample` is (B, 3, 4(f-1)+1, 8h, 8w).

        The decoder's convolutions may be in a precision of their own, see `set_decoder_precision`.
        """
        batch = len(latents)
        grid = latents.transpose(1, 2).flatten(0, 1)
        coarse = nn.functional.pixel_shuffle(self.decode_linear(grid), PATCH)
        fine = self.decoder(grid.to(next(self.decoder.parameters()).dtype)).to(grid.dtype)
        fine = nn.functional.pixel_shuffle(fine, PATCH // 2)
        pixels = (coarse + fine).unflatten(0, (batch, -1)).unflatten(2, (FRAMES, 3))
        first = pixels[:, :1].mean(dim=2)
        video = torch.cat([first, pixels[:, 1:].flatten(1, 2)], dim=1)
        return DecoderOutput(sample=video.transpose(1, 2))

    def deepened(self, fine_blocks: int) -> MiniatureAutoencoder:
        """The same function with more residual blocks on the decoder's fine grid, for training to go on from.

        Raises:
            ValueError: if there are more blocks already.
        """
        if fine_blocks < self.config.fine_blocks:
            raise ValueError(f"fine_blocks is {fine_blocks}, but there are {self.config.fine_blocks} already.")
        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        deeper = type(self)(**config | {"fine_blocks": fine_blocks})
        if deeper.dtype != self.dtype:
            deeper = deeper.to(self.dtype)
        for name, part in self.named_children():
            if name != "decoder":
                getattr(deeper, name).load_state_dict(part.state_dict())
        known = list(self.decoder)
        for layer in deeper.decoder:
            if known and type(layer) is type(known[0]):  # an added block starts as the identity
                layer.load_state_dict(known.pop(0).state_dict())
        return deeper

    def with_upscaler(self, width: int = 48, blocks: int = 2) -> MiniatureAutoencoder:
        """The same with an untrained upscaler in place of the one that there may be."""
        config = {name: value for name, value in self.config.items() if not name.startswith("_")}
        other = type(self)(**config | {"upscaler_width": width, "upscaler_blocks": blocks}).to(self.dtype)
        for name, part in self.named_children():
            if name != "upscaler":
                getattr(other, name).load_state_dict(part.state_dict())
        return other.eval()

    @torch.no_grad()
    def start_from_components(self, pixels: torch.Tensor) -> None:
        """Set the linear parts to the principal components of the patches in `pixels` (B, 3, T, H, W)."""
        values = patches_of(pixels).permute(0, 2, 3, 1).flatten(0, 2)
        mean = values.mean(0)
        covariance = (values - mean).T @ (values - mean) / len(values)
        strengths, components = torch.linalg.eigh(covariance)
        channels = self.config.latent_channels
        strengths, components = strengths.flip(0)[:channels], components.flip(1)[:, :channels]
        scale = strengths.clamp_min(1e-6).sqrt()
        self.encode_linear.weight.copy_((components / scale).T[:, :, None, None])
        assert self.encode_linear.bias is not None
        assert self.decode_linear.bias is not None
        self.encode_linear.bias.copy_(-(components / scale).T @ mean)
        self.decode_linear.weight.copy_((components * scale)[:, :, None, None])
        self.decode_linear.bias.copy_(mean)


def _start_at_zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def patches_of(pixels: torch.Tensor) -> torch.Tensor:
    """Patches (B·f, 768, H/8, W/8) of pixels (B, 3, 4(f-1)+1, H, W); the first frame counts four times."""
    whole = torch.cat([pixels[:, :, :1].expand(-1, -1, FRAMES - 1, -1, -1), pixels], dim=2)
    grouped = whole.transpose(1, 2).unflatten(1, (-1, FRAMES)).flatten(0, 1)
    return nn.functional.pixel_unshuffle(grouped.flatten(1, 2), PATCH)


def _to_video(grid: torch.Tensor, batch: int) -> torch.Tensor:
    return grid.unflatten(0, (batch, -1)).transpose(1, 2)
