"""Wan's autoencoder: how long a video takes to encode and to decode, in float32 and in ways that are faster."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from anytalker.hardware.acceleration import set_decoder_precision
from anytalker.models.latents import CHUNK, decode_chunks, encode_video
from gpu_parts.scale import Row, Scale, random_vae, reset_peak, taken, timed


@torch.no_grad()
def measure_autoencoder(scale: Scale, device: str) -> Iterator[Row]:
    """Seconds a video of `scale.frames`, and PSNR against float32; with random weights, so PSNR is a lead."""
    frames, rows, columns = scale.grid
    torch.manual_seed(0)
    vae = random_vae(scale, device)
    pixels = torch.rand(1, 3, scale.frames, scale.size[1], scale.size[0], device=device) * 2 - 1
    latents = torch.randn(1, 16, frames, 2 * rows, 2 * columns, device=device)
    exact: dict[str, torch.Tensor] = {}

    def row(what: str, work: str) -> Row:
        reset_peak()
        run = _encode if work == "encode" else _decode
        first, _ = timed(lambda: run(vae, pixels if work == "encode" else latents))
        seconds, made = timed(lambda: run(vae, pixels if work == "encode" else latents))
        reference = exact.setdefault(work, made)
        result: Row = {"what": f"{work}, {what}", "s": round(seconds, 3), "s a frame": seconds / scale.frames}
        result |= {"PSNR dB": _psnr(made, reference), "peak GiB": taken()}
        if first > 2 * seconds + 1:
            result["first, s"] = round(first, 1)
        return result

    yield row("float32", "decode")
    yield row("float32", "encode")
    torch.backends.cudnn.allow_tf32, before = True, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.benchmark = True
    yield row("float32, cuDNN chooses", "decode")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    yield row("float32, no TF32", "decode")
    torch.backends.cudnn.allow_tf32 = before
    set_decoder_precision(vae, "bfloat16", device)
    yield row("--decoder bfloat16, channels last", "decode")
    vae.to(torch.bfloat16)
    for parameter in vae.parameters():
        parameter.data = parameter.data.contiguous()
    yield row("bfloat16", "decode")
    yield row("bfloat16", "encode")


def _encode(vae: object, pixels: torch.Tensor) -> torch.Tensor:
    return encode_video(vae, pixels)


def _decode(vae: object, latents: torch.Tensor) -> torch.Tensor:
    return torch.cat([part.cpu() for part in decode_chunks(vae, latents.split(CHUNK, dim=2))], dim=2)


def _psnr(value: torch.Tensor, reference: torch.Tensor) -> float:
    span = float(reference.float().max() - reference.float().min())
    error = float((value.float() - reference.float()).square().mean())
    return float("inf") if error == 0 else float(10 * np.log10(span**2 / error))
