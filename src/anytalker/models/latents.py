"""Between pixels and normalised latents, for every autoencoder with Wan's 4×8×8 contract."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from anytalker.models.upscaler import halved

CHUNK = 8
"""Latent frames that are decoded together."""
SETTLED_GREY = 32
"""Latent frames after which the encoding of grey frames no longer changes: Wan's encoder looks back 28 of them."""
SETTLED_STILL = 5
"""The same for a still picture; what changes after them is too little to matter."""

_WAN_LOOKS_BACK = 38
"""Latent frames before one on which its video frames depend in Wan's decoder."""


def latent_statistics(vae: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the latents, each (1, channels, 1, 1, 1), from the autoencoder's configuration."""
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean, dtype=latents.dtype, device=latents.device).view(shape)
    deviation = torch.tensor(vae.config.latents_std, dtype=latents.dtype, device=latents.device).view(shape)
    return mean, deviation


@torch.no_grad()
def encode_video(vae: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Encode pixels (B, 3, 4(f-1)+1, H, W) in [-1, 1] to normalised latents (B, channels, f, H/8, W/8)."""
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().to(pixels.dtype)
    mean, deviation = latent_statistics(vae, latents)
    return (latents - mean) / deviation


@torch.no_grad()
def decode_video(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """Decode normalised latents (B, channels, f, h, w) to pixels (B, 3, 4(f-1)+1, 8h, 8w) in [-1, 1]."""
    mean, deviation = latent_statistics(vae, latents)
    pixels = vae.decode((latents * deviation + mean).to(vae.dtype)).sample.to(latents.dtype)
    return Deblocking(vae)(pixels, last=True).clamp_(-1, 1)


def picture_latents(vae: Any, picture: torch.Tensor, frames: int) -> torch.Tensor:
    """Condition latents of the release: the picture as first frame, grey (zero) frames after it.

    Args:
        vae: the autoencoder.
        picture: (B, 3, 1, H, W) in [-1, 1].
        frames: number of latent frames f.

    Returns:
        (B, channels, f, H/8, W/8) normalised latents.
    """
    batch, channels, _, height, width = picture.shape
    rest = picture.new_zeros(batch, channels, 4 * (frames - 1), height, width)
    return encode_video(vae, torch.cat([picture, rest], dim=2))


def still_latents(vae: Any, picture: torch.Tensor, frames: int, settled: int = SETTLED_STILL) -> torch.Tensor:
    """Condition latents of the miniature: the picture standing still for the whole video.

    A small model need not then learn to carry the picture through time. A causal encoder's answer to a still picture
    stops changing after a few latent frames, so only `settled` of them are computed.

    Args:
        vae: the autoencoder.
        picture: (B, 3, 1, H, W) in [-1, 1].
        frames: number of latent frames f.
        settled: latent frames after which the encoding no longer changes.

    Returns:
        (B, channels, f, H/8, W/8) normalised latents.
    """
    computed = min(frames, settled)
    latents = encode_video(vae, picture.expand(-1, -1, 4 * (computed - 1) + 1, -1, -1))
    last = latents[:, :, -1:].expand(-1, -1, frames - computed, -1, -1)
    return torch.cat([latents, last], dim=2)


def condition_latents(vae: Any, picture: torch.Tensor, frames: int, condition: str) -> torch.Tensor:
    """Condition latents as far as they change; the last frame stands for all later ones, so length costs nothing.

    Args:
        vae: the autoencoder.
        picture: (B, 3, 1, H, W) in [-1, 1].
        frames: latent frames f of the video.
        condition: "zeros" or "still", see `PipelineSettings.condition`.

    Returns:
        (B, channels, up to f, H/8, W/8) normalised latents.
    """
    if condition == "still":
        return still_latents(vae, picture, min(frames, SETTLED_STILL))
    return picture_latents(vae, picture, min(frames, SETTLED_GREY))


@torch.no_grad()
def decode_chunks(
    vae: Any, latents: Iterable[torch.Tensor], picture: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """Decode a video of any length in parts, with the numbers of decoding it as a whole.

    However the latents come, they are decoded `CHUNK` frames at a time from the first on, so that the result does not
    depend on it. Wan's causal autoencoder keeps what it needs of the past in its feature cache (spatial tiling is not
    used: a latent frame at a time is small enough); others may look at no other latent frame, as the miniature's.

    Args:
        vae: the autoencoder.
        latents: normalised (B, channels, n, h, w) of any n, the video's first frame first.
        picture: (B, 3, 16h, 16w) in [-1, 1], to make frames of that size; for autoencoders with an upscaler. Of a
            photograph with the areas in which it moves, see `PictureUpscaler.enlarge`.

    Yields:
        Pixels (B, 3, t, 8h, 8w), or of the picture's size, in [-1, 1], about 4·CHUNK frames at a time.
    """
    decode = _decode_with_cache(vae) if hasattr(vae, "clear_cache") else _decode_apart(vae)
    # Of Wan's, the decoder may be less exact than the encoder.
    dtype = next(vae.decoder.parameters()).dtype if hasattr(vae, "clear_cache") else vae.dtype
    deblock, chunks = Deblocking(vae), regroup(latents, CHUNK)
    chunk = next(chunks, None)
    while chunk is not None:
        following = next(chunks, None)
        mean, deviation = latent_statistics(vae, chunk)
        frames = deblock(decode((chunk * deviation + mean).to(dtype)).to(chunk.dtype), last=following is None)
        yield enlarged(vae, frames.clamp_(-1, 1), picture)
        del frames  # before the next ones are decoded
        chunk = following


def enlarged(vae: Any, frames: torch.Tensor, picture: torch.Tensor | None) -> torch.Tensor:
    """Decoded frames (B, 3, t, h, w) at the size of a picture (B, 3, 2h, 2w), with its detail; None: as they are."""
    if picture is None:
        return frames
    videos = [
        vae.upscaler.enlarge(video.transpose(0, 1), one, _unmoved(vae, one.to(video)) if len(one) > 3 else None)
        for video, one in zip(frames, picture, strict=True)
    ]
    return torch.stack(videos).transpose(1, 2)


def _unmoved(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    """What the autoencoder makes of a picture (3 or more, 2h, 2w) at half its size: (3, h, w)."""
    return decode_video(vae, encode_video(vae, halved(picture[None, :3])[:, :, None]))[0, :, 0]


def latents_behind(vae: Any, start: int, stop: int, total: int) -> tuple[int, int]:
    """The latent frames on which video frames depend.

    Args:
        vae: the autoencoder.
        start, stop: the video frames, `stop` exclusive.
        total: latent frames of the video.

    Returns:
        The first of them, and the one after the last.
    """
    # Without a cache, `Deblocking` looks at the latent frames beside, and half decodes what it begins with.
    back, ahead = (_WAN_LOOKS_BACK, 0) if hasattr(vae, "clear_cache") else (2, 1)
    return max(0, (start + 3) // 4 - back), min(total, (stop + 2) // 4 + 1 + ahead)


def decode_frames(
    vae: Any,
    latents: torch.Tensor,
    start: int,
    stop: int,
    device: torch.device | str,
    picture: torch.Tensor | None = None,
) -> Iterator[torch.Tensor]:
    """Decode a part of a video: as `decode_chunks`, without what it doesn't need.

    Args:
        vae: the autoencoder.
        latents: normalised (B, channels, f, h, w), of the whole video, on any device.
        start, stop: the video frames, `stop` exclusive.
        device: where they are decoded.
        picture: see `decode_chunks`.

    Yields:
        Pixels (B, 3, t, 8h, 8w), or of the picture's size, in [-1, 1] of these frames, in order.
    """
    first, last = latents_behind(vae, start, stop, latents.shape[2])
    parts = (part.to(device) for part in latents[:, :, first:last].split(CHUNK, dim=2))
    number = 4 * first  # the first of them is decoded to one frame, wherever it stands
    for pixels in decode_chunks(vae, parts):
        count = pixels.shape[2]
        wanted = pixels[:, :, max(0, start - number) : max(0, stop - number)]
        number += count
        if wanted.shape[2]:
            yield enlarged(vae, wanted, picture)


class Deblocking:
    """Softens the jumps between latent frames of an autoencoder that decodes them apart, as video codecs do.

    A jump is compared with the mean of the differences just before and after it. Of what is beyond that, the share
    `vae.config.deblocking` is taken away by moving the two frames on either side towards each other, the nearer ones
    twice as far, but no value further than `vae.config.deblocking_limit`: a large change is a mouth that opens, not an
    artefact. The picture in front stays as it is. Autoencoders without these settings are left alone.

    Args:
        vae: the autoencoder.
    """

    def __init__(self, vae: Any) -> None:
        self.strength = getattr(vae.config, "deblocking", 0.0)
        self.limit = getattr(vae.config, "deblocking_limit", math.inf)
        self._held: torch.Tensor | None = None
        self._begin = 0

    def __call__(self, pixels: torch.Tensor, last: bool) -> torch.Tensor:
        """The next frames; two are held back until what follows them is known.

        Args:
            pixels: (B, 3, t, H, W), whole latent frames, the video's first frame first; changed in place.
            last: whether these are the last ones.
        """
        if not self.strength:
            return pixels
        frames = pixels if self._held is None else torch.cat([self._held, pixels], dim=2)
        count = frames.shape[2]
        for place in range((1 - self._begin) % 4, count - 1, 4):
            if place == 0:
                continue
            after, jump = frames[:, :, place + 1] - frames[:, :, place], frames[:, :, place] - frames[:, :, place - 1]
            before = frames[:, :, place - 1] - frames[:, :, place - 2] if place > 1 else after
            excess = (self.strength / 2 * (jump - (before + after) / 2)).clamp_(-self.limit, self.limit)
            frames[:, :, place] -= excess
            frames[:, :, place + 1] -= excess / 2
            if place > 1:
                frames[:, :, place - 1] += excess
                frames[:, :, place - 2] += excess / 2
        if last:
            return frames
        self._held = frames[:, :, -2:].clone()
        self._begin += count - 2
        return frames[:, :, :-2]


def regroup(latents: Iterable[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """The same frames (B, channels, n, h, w), `size` at a time, the rest last."""
    held: list[torch.Tensor] = []
    for part in latents:
        held.append(part)
        count = sum(one.shape[2] for one in held)
        if count >= size:
            joined = torch.cat(held, dim=2)
            whole = count - count % size
            yield from joined[:, :, :whole].split(size, dim=2)
            held = [joined[:, :, whole:]] if count % size else []
    if held:
        yield torch.cat(held, dim=2)


def _decode_apart(vae: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """For autoencoders whose latent frames don't see each other, but for the first, which gives one frame only."""
    last: list[torch.Tensor] = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        pixels = vae.decode(torch.cat([*last, latents], dim=2)).sample[:, :, len(last) :]
        last[:] = [latents[:, :, -1:]]
        return pixels

    return decode


def _decode_with_cache(vae: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """The loop of `AutoencoderKLWan._decode`, with a feature cache that lives from one call to the next."""
    vae.clear_cache()
    cache, begun = list(vae._feat_map), False

    def decode(latents: torch.Tensor) -> torch.Tensor:
        nonlocal begun
        if hasattr(vae, "_hf_hook"):  # accelerate's offloading: brings the weights where they are needed
            vae._hf_hook.pre_forward(vae)
        states, parts = vae.post_quant_conv(latents), []
        for frame in states.split(1, dim=2):
            parts.append(vae.decoder(frame, feat_cache=cache, feat_idx=[0], first_chunk=not begun))
            begun = True
        pixels = torch.cat(parts, dim=2)
        if vae.config.patch_size is not None:
            from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

            pixels = unpatchify(pixels, patch_size=vae.config.patch_size)
        return pixels

    return decode
