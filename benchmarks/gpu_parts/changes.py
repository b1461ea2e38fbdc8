"""What was changed for speed on a GPU, before and after: waits, contexts, frames on their way to the file."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from anytalker.denoising import denoiser as denoising
from anytalker.denoising.denoiser import Conditioning, Denoiser, budget_of, free_memory
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.schedule import unshifted_sigmas
from anytalker.hardware.acceleration import best_attention
from anytalker.loading.scheduler import make_scheduler
from anytalker.media import video as output
from anytalker.media.video import write_video
from anytalker.models.latents import CHUNK, decode_chunks
from anytalker.pipelines.prepared_video import _on_cpu
from gpu_parts.scale import GIB, Row, Scale, random_transformer, random_vae, reset_peak, shape_of, taken, timed

_STEPS, _TIMED = 5, 2


@torch.no_grad()
def measure_denoising(name: str, scale: Scale, device: str) -> Iterator[Row]:
    """Seconds and waits of a guided step with and without what is found once a window; what a context costs.

    Args:
        name: "1.3b" or "14b".
        scale: sizes.
        device: where.
    """
    model = random_transformer(shape_of(name, scale).transformer, device)
    dtype = model.patch_embedding.weight.dtype
    yield {"what": "attention chosen", "is": best_attention(torch.device(device), dtype) or "torch's own"}
    part = _conditioning(model.config, scale, device)
    noise = torch.randn(1, 16, *part.condition.shape[2:], device=device)
    run_of = _runs(model, part, noise)
    run_of(True)
    for what, after in (("found anew every step (before)", False), ("found once (after)", True)) * 2:
        seconds, waits = run_of(after)
        yield {"what": what, "a guided step, s": round(seconds, 4), "waits a step": waits}
    context = model.make_context(*part.branches(("all",)), part.regions(model, 1))
    seconds, _ = timed(lambda: model.make_context(*part.branches(("all",)), part.regions(model, 1)))
    yield {"what": "a context made anew", "s": round(seconds, 4), "GiB": context.nbytes / GIB}
    free = free_memory(torch.device(device))
    for what, budget in (("4 GiB (before)", 4 * GIB), ("of the card (after)", budget_of(free))):
        yield {"what": f"contexts kept, {what}", "contexts": budget // context.nbytes, "GiB": budget / GIB}


def _runs(model: Any, part: Conditioning, noise: torch.Tensor) -> Callable[[bool], tuple[float, int]]:
    denoiser = Denoiser(model, make_scheduler(3.0), _STEPS, Guidance(4.5, 4.5))

    def run(after: bool) -> tuple[float, int]:
        """Seconds of a later step, and the waits of another."""
        with ExitStack() as stack:
            if not after:
                stack.enter_context(patch.object(denoising, "set_timesteps", _set_timesteps_as_before))
                stack.enter_context(patch.object(Conditioning, "coefficients", _coefficients_as_before))
            begun = denoiser.begin(lambda start, stop: noise[:, :, start:stop], part)
            begun.advance()
            seconds, _ = timed(lambda: [begun.advance() for _ in range(_TIMED)])
            return seconds / _TIMED, _waits_of(begun.advance)

    return run


def _waits_of(work: Callable[[], object]) -> int:
    """How often something waits for the GPU; 0 without one."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            if torch.cuda.is_available():
                torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in seen)


def _set_timesteps_as_before(scheduler: Any, steps: int, device: Any = None) -> None:
    scheduler.set_timesteps(steps, device=device, sigmas=unshifted_sigmas(steps))


def _coefficients_as_before(part: Conditioning, guidance: Guidance) -> Any:
    return guidance.coefficients(part.face_masks)


def _conditioning(config: Any, scale: Scale, device: str) -> Conditioning:
    frames, rows, columns = scale.grid
    masks = torch.zeros(1, 2, frames, rows, columns, device=device)
    masks[:, 0, :, : rows // 2, : columns // 3] = 1
    masks[:, 1, :, : rows // 2, -(columns // 3) :] = 1
    voices = (config.audio_window, config.audio_blocks, config.audio_channels)
    shapes = {
        "condition": (1, 20, frames, 2 * rows, 2 * columns),
        "prompt_embeds": (1, config.text_len, config.text_dim),
        "negative_prompt_embeds": (1, config.text_len, config.text_dim),
        "image_embeds": (1, 257, config.image_dim),
        "face_embeds": (1, 2, 257, config.image_dim),
        "audio_embeds": (1, 2, scale.frames, *voices),
    }
    drawn = {name: torch.randn(shape, device=device) for name, shape in shapes.items()}
    return Conditioning(**drawn, face_masks=masks)


@torch.no_grad()
def measure_writing(scale: Scale, device: str) -> Iterator[Row]:
    """Seconds from latents to the MP4: decoding and encoding in turns or beside each other, as floats or as bytes."""
    frames, rows, columns = scale.grid
    torch.manual_seed(0)
    vae = random_vae(scale, device)
    latents = torch.randn(1, 16, frames, 2 * rows, 2 * columns, device=device)

    def decoded(eight_bit: bool) -> Iterator[np.ndarray]:
        for pixels in decode_chunks(vae, latents.split(CHUNK, dim=2)):
            yield _on_cpu(pixels[0].float().add_(1).div_(2).permute(1, 2, 3, 0), eight_bit)

    timed(lambda: sum(len(chunk) for chunk in decoded(True)))
    seconds, _ = timed(lambda: sum(len(chunk) for chunk in decoded(False)))
    yield {"what": "decoding alone, frames as float32", "s": round(seconds, 3)}
    seconds, _ = timed(lambda: sum(len(chunk) for chunk in decoded(True)))
    yield {"what": "decoding alone, frames as bytes", "s": round(seconds, 3)}
    in_turns = patch.object(output, "consume_apart", lambda items, consume: consume(iter(items)))
    files: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        for what, eight_bit, apart in (
            ("to the file, float32, in turns (before)", False, False),
            ("to the file, bytes, in turns", True, False),
            ("to the file, bytes, in a thread (after)", True, True),
        ) * 2:
            reset_peak()
            with ExitStack() as stack:
                if not apart:
                    stack.enter_context(in_turns)
                seconds, _ = timed(lambda eight_bit=eight_bit: write_video(path, decoded(eight_bit), 24))
            files.append(path.read_bytes())
            same = files[-1] == files[0]
            yield {"what": what, "s": round(seconds, 3), "peak GiB": taken(), "same file": same}
