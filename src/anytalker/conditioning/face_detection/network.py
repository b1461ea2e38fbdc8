"""MediaPipe's full-range face detector as a small torch module: one box for every fourth pixel of any picture."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

STRIDE = 4
"""Pixels from one box of the network to the next."""
MULTIPLE = 32
"""Both sides of a picture must be multiples of this."""


def _depthwise(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels)


class Pointwise(nn.Conv2d):
    """A 1×1 convolution as a product of matrices, faster than PyTorch's own on a CPU with channels last."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) to (B, out, H, W)."""
        y = functional.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias)
        return y.permute(0, 3, 1, 2)


class Block(nn.Module):
    """Two separable convolutions through a bottleneck, added to the input where the shape stays."""

    def __init__(self, channels: int, bottleneck: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise_in = _depthwise(channels, stride)
        self.reduce = Pointwise(channels, bottleneck)
        self.depthwise_out = _depthwise(bottleneck)
        self.expand = Pointwise(bottleneck, out)
        self.residual = channels == out and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.expand(self.depthwise_out(torch.relu_(self.reduce(self.depthwise_in(x)))))
        return torch.relu_(y.add_(x) if self.residual else y)


class Head(nn.Module):
    """A few values for every cell of the finest grid."""

    def __init__(self, channels: int, values: int) -> None:
        super().__init__()
        self.project = Pointwise(channels, 4 * values)
        self.gather = _depthwise(4 * values, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pixel_shuffle(self.gather(self.project(x)), 2)


def _stage(channels: int, bottleneck: int, out: int, repeats: int) -> nn.Sequential:
    return nn.Sequential(
        Block(channels, bottleneck, out, stride=2), *(Block(out, bottleneck, out) for _ in range(repeats))
    )


class FaceNetwork(nn.Module):
    """The detector, fully convolutional, so that pictures may have any size (multiples of 32).

    The layers are registered in the order of the original graph, by which `tools/convert_face_detector.py` fills them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, padding=1)
        self.stage1 = nn.Sequential(Block(32, 8, 32), Block(32, 8, 32))
        self.stage2 = _stage(32, 16, 64, 2)
        self.lateral2 = Pointwise(64, 48)
        self.stage3 = _stage(64, 32, 128, 2)
        self.lateral3 = Pointwise(128, 64)
        self.stage4 = _stage(128, 48, 192, 2)
        self.lateral4 = Pointwise(192, 96)
        self.stage5 = _stage(192, 96, 384, 3)
        self.lateral5 = Pointwise(384, 96)
        self.up4 = nn.Sequential(Block(96, 48, 96), Block(96, 48, 96))
        self.narrow4 = Pointwise(96, 64)
        self.up3 = nn.Sequential(Block(64, 32, 64), Block(64, 32, 64))
        self.narrow3 = Pointwise(64, 48)
        self.up2 = nn.Sequential(Block(48, 24, 48))
        self.score_head = Head(48, 1)
        self.box_head = Head(48, 16)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Raw scores and boxes.

        Args:
            pixels: (B, 3, H, W) in [-1, 1], H and W multiples of 32.

        Returns:
            Logits (B, 1, H/4, W/4), and (B, 16, H/4, W/4): a box's centre from the middle of its cell, its width and
            height, and six points (eyes, nose, mouth, ears), all in pixels.
        """
        fine = self.stage2(self.stage1(torch.relu_(self.stem(pixels))))
        middle = self.stage3(fine)
        coarse = self.stage4(middle)
        x = torch.relu_(self.lateral5(self.stage5(coarse)))
        x = self.up4(torch.relu_(self.lateral4(coarse)) + _twice(x))
        x = self.up3(torch.relu_(self.lateral3(middle)) + _twice(torch.relu_(self.narrow4(x))))
        x = self.up2(torch.relu_(self.lateral2(fine)) + _twice(torch.relu_(self.narrow3(x))))
        return self.score_head(x), self.box_head(x)


def _twice(x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
