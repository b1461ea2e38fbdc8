"""MediaPipe's face mesh with attention as a torch module: 468 points of a face, those of lips and eyes looked at twice.

A trunk places all points. Then its early features are cut out around the lips and around each eye, straightened by the
points found, and three small networks place the points there again (Grishchenko et al., "Attention Mesh", 2020).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

SIZE = 192
"""Side in pixels of the picture that the network sees."""
POINTS = 468
LIP_POINTS, EYE_POINTS = 80, 71

_PATCH = 16
_PATCH_STRIDE = 4
"""Pixels of the picture from one value of the early features to the next."""
_REACH = 1.5
"""How much larger than the points' bounding box the part is that is looked at again."""


class _Convolution(nn.Conv2d):
    """A convolution that pads as TensorFlow does, which with stride 2 is only below and to the right."""

    def __init__(self, channels: int, out: int, size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, size, stride, padding=1 if size == 3 and stride == 1 else 0, groups=groups)
        self.grows = size == 3 and stride == 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(functional.pad(x, (0, 1, 0, 1)) if self.grows else x)


class Block(nn.Module):
    """A separable convolution added to its input, of which stride 2 keeps the largest of four values."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.wider = stride, out - channels
        self.depthwise = _Convolution(channels, channels, 3, stride, groups=channels)
        self.pointwise = nn.Conv2d(channels, out, 1)
        self.activation = nn.PReLU(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skipped = functional.max_pool2d(x, 2) if self.stride == 2 else x
        if self.wider:
            skipped = functional.pad(skipped, (0, 0, 0, 0, 0, self.wider))
        return self.activation(skipped + self.pointwise(self.depthwise(x)))


class Narrow(nn.Module):
    """A pointwise convolution to fewer channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(channels, out, 1)
        self.activation = nn.PReLU(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.pointwise(x))


def _stage(channels: int, out: int) -> list[nn.Module]:
    return [Block(channels, out, stride=2), Block(out, out), Block(out, out)]


class Region(nn.Module):
    """Places points in a straightened cut-out of features (B, 32, 16, 16): (B, points, 2), in pixels of the picture."""

    def __init__(self, points: int) -> None:
        super().__init__()
        blocks = [Block(32, 32), Block(32, 32), *_stage(32, 64), *_stage(64, 128), *_stage(128, 128)]
        self.blocks = nn.Sequential(*blocks, Narrow(128, 32), Block(32, 32))
        self.points = nn.Conv2d(32, 2 * points, 2)

    def forward(self, patch: torch.Tensor) -> torch.Tensor:
        return self.points(self.blocks(patch)).view(len(patch), -1, 2)


class MeshNetwork(nn.Module):
    """The whole network.

    Its buffers say which points each region replaces (`lips`, `left_eye`, `right_eye`: those of the person's right eye
    are on the left of the picture, and come first), and from which to which it is straightened.
    """

    REGIONS = ("lips", "left_eye", "right_eye")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Convolution(3, 16, 3, stride=2), nn.PReLU(16))
        self.early = nn.Sequential(Block(16, 16), Block(16, 16), Block(16, 32, stride=2))
        blocks = [Block(32, 32), Block(32, 32), *_stage(32, 64), *_stage(64, 128), *_stage(128, 128)]
        self.late = nn.Sequential(*blocks, *_stage(128, 128), Narrow(128, 32), Block(32, 32))
        self.points = nn.Conv2d(32, 3 * POINTS, 3)
        self.presence = nn.Conv2d(32, 1, 3)
        self.regions = nn.ModuleDict(
            {name: Region(LIP_POINTS if name == "lips" else EYE_POINTS) for name in self.REGIONS}
        )
        for name in self.REGIONS:
            count = LIP_POINTS if name == "lips" else EYE_POINTS
            self.register_buffer(f"{name}_points", torch.zeros(count, dtype=torch.int16))
            self.register_buffer(f"{name}_axis", torch.zeros(2, dtype=torch.int16))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of faces.

        Args:
            pixels: (B, 3, 192, 192) RGB in [0, 1], a face that fills two thirds of it, upright.

        Returns:
            Points (B, 468, 3): x and y in pixels, depth in the same unit; and logits (B,) of there being a face.
        """
        early = self.early(self.stem(pixels))
        late = self.late(early)
        points = self.points(late).view(-1, POINTS, 3)
        refined = points.clone()
        for name, region in self.regions.items():
            chosen, axis = self.get_buffer(f"{name}_points").long(), self.get_buffer(f"{name}_axis").long()
            place = _straightened(points[:, chosen, :2] / _PATCH_STRIDE, points[:, axis, :2])
            found = region(_cut(early, place))
            refined[:, chosen, :2] = found @ place[:, :, :2].mT + place[:, None, :, 2] * _PATCH_STRIDE
        return refined, self.presence(late).flatten()


def _straightened(points: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    """Matrices (B, 2, 3) from places in a patch to places where points (B, N, 2) are, turned along axis (B, 2, 2)."""
    along = functional.normalize(axis[:, 1] - axis[:, 0], dim=1)
    turn = torch.stack([along, torch.stack([-along[:, 1], along[:, 0]], dim=1)], dim=2)
    turned = points @ turn
    low, high = turned.amin(dim=1), turned.amax(dim=1)
    matrix = turn * (_REACH / _PATCH * (high - low))[:, None]
    center = (turn @ ((low + high) / 2)[..., None])[..., 0]
    corner = center - matrix.sum(dim=2) * _PATCH / 2
    return torch.cat([matrix, corner[..., None]], dim=2)


def _cut(features: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Patches (B, C, 16, 16) of features (B, C, H, W) at matrices (B, 2, 3)."""
    middles = torch.arange(_PATCH, dtype=features.dtype, device=features.device) + 0.5
    rows, columns = torch.meshgrid(middles, middles, indexing="ij")
    spots = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
    size = torch.tensor([features.shape[3], features.shape[2]], dtype=features.dtype, device=features.device)
    grid = torch.einsum("bij,hwj->bhwi", place, spots) / size * 2 - 1
    return functional.grid_sample(features, grid, padding_mode="border", align_corners=False)
