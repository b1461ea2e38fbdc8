"""Masks that tie people to places: where a person's voice may act, and what the transformer may repaint (release)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

WIDEN = 1.2
HEIGHTEN = 1.1
LATENT = 8
PATCH = 2


def expanded_mask(box: Sequence[float], height: int, width: int) -> torch.Tensor:
    """A person's face box, widened by 1.2 and heightened by 1.1 about its centre, as a mask.

    Args:
        box: (x, y, width, height) in pixels.
        height: of the picture in pixels.
        width: of the picture in pixels.

    Returns:
        float32 (height, width), 1 inside and 0 outside.
    """
    x, y, box_width, box_height = (int(round(value)) for value in box)
    columns, rows = _expanded(x, box_width, WIDEN, width), _expanded(y, box_height, HEIGHTEN, height)
    mask = torch.zeros(height, width)
    mask[rows, columns] = 1.0
    return mask


def _expanded(start: int, length: int, factor: float, limit: int) -> slice:
    """Pixels `start` to `start + length - 1`, and those around them; the release counts both ends in."""
    center, reach = start + (length - 1) / 2, int(length * factor) / 2
    return slice(max(0, math.floor(center - reach)), min(limit - 1, math.floor(center + reach)) + 1)


def resize_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Bilinear resize of a mask (rows, columns) to (height, width), without antialiasing as in the release."""
    resized = torch.nn.functional.interpolate(mask[None, None], (height, width), mode="bilinear", align_corners=False)
    return resized[0, 0]


def face_token_masks(
    boxes: Sequence[Sequence[float]],
    height: int,
    width: int,
    frames: int,
    latent: int = LATENT,
    patch: int = PATCH,
    picture: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Face masks on the token grid, for Audio-Face Cross Attention.

    Args:
        boxes: one face box (x, y, width, height) a person, in pixels of the picture.
        height: of the video in pixels.
        width: of the video in pixels.
        frames: latent frames f; the masks are the same for all.
        latent: pixels a latent.
        patch: latents a token.
        picture: its width and height in pixels; None: those of the video.

    Returns:
        float32 (N, f, height/latent/patch, width/latent/patch) in [0, 1].
    """
    grid = (height // latent // patch, width // latent // patch)
    wide, tall = picture or (width, height)
    masks = [resize_mask(expanded_mask(box, tall, wide), *grid) for box in boxes]
    return torch.stack(masks)[:, None].expand(-1, frames, -1, -1).contiguous()


def condition_mask(
    boxes: Sequence[Sequence[float]],
    height: int,
    width: int,
    frames: int,
    latent: int = LATENT,
    picture: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The four mask channels in front of the condition latents.

    Latent frame 0 is all ones (the picture is given); later frames hold the sum of all people's masks.

    Args:
        boxes: one face box (x, y, width, height) a person, in pixels of the picture.
        height: of the video in pixels.
        width: of the video in pixels.
        frames: latent frames f.
        latent: pixels a latent.
        picture: its width and height in pixels; None: those of the video.

    Returns:
        float32 (4, f, height/latent, width/latent).
    """
    wide, tall = picture or (width, height)
    summed = torch.zeros(tall, wide)
    for box in boxes:
        summed += expanded_mask(box, tall, wide)
    faces = resize_mask(summed, height // latent, width // latent)
    mask = faces.expand(4, frames, -1, -1).clone()
    mask[:, 0] = 1.0
    return mask
