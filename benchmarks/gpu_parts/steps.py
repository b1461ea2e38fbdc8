"""One denoising step: one pass of the transformer, for numbers of people and for every switch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from anytalker.errors import InputError
from anytalker.hardware.acceleration import check_attention_backend, set_attention_backend
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from gpu_parts.scale import GIB, Row, Scale, random_transformer, relative_error, reset_peak, shape_of, timed

KERNELS = ("_native_flash", "_native_cudnn", "_native_efficient", "flash", "_flash_3", "sage")
_REPEATS = 2


def ceilings(device: str) -> Iterator[Row]:
    """What the device can do at most: a large product in bfloat16, and a copy."""
    side, count = (8192, 10) if device == "cuda" else (512, 2)
    first, second = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(2):
        seconds, _ = timed(lambda: [first @ second for _ in range(count)])
    yield {"what": f"product of {side}×{side}, bfloat16", "TFLOP/s": round(2 * side**3 * count / seconds / 1e12, 1)}
    large = torch.randn(side * side * 8, device=device)
    for _ in range(2):
        seconds, _ = timed(lambda: [large.clone() for _ in range(count)])
    yield {"what": "copy, bytes read and written", "GB/s": round(2 * large.nbytes * count / seconds / 1e9)}


def step_flops(config: Mapping[str, Any], grid: tuple[int, int, int]) -> float:
    """Operations of one pass without people: matrices of self attention, text and picture, feed-forward; attention."""
    heads, depth = config.get("num_attention_heads", 12), config.get("num_layers", 30)
    dim, tokens = heads * config.get("attention_head_dim", 128), grid[0] * grid[1] * grid[2]
    text = config.get("text_len", 512) + 257 * (2 if config.get("audio_face_layout") == "B" else 1)
    matrices = 2 * tokens * (6 * dim**2 + 2 * dim * config.get("ffn_dim", 8960))
    return depth * (matrices + 4 * tokens * dim * (tokens + text))


class Step:
    """A model and what one of its passes is given.

    Args:
        model: random weights.
        scale: sizes.
        persons: people, each with a face as wide as a third of the picture's height.
        device: where.
    """

    def __init__(self, model: AnyTalkerTransformer3DModel, scale: Scale, persons: int, device: str) -> None:
        config: Any = model.config
        frames, rows, columns = scale.grid
        generator = torch.Generator(device).manual_seed(0)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, device=device)

        side = rows // 3
        masks = torch.zeros(1, persons, frames, rows, columns, device=device)
        for person in range(persons):
            left = person * max(0, columns - side) // max(1, persons - 1)
            masks[:, person, :, :side, left : left + side] = 1
        self.hidden_states = draw(1, config.in_channels, frames, 2 * rows, 2 * columns)
        text, image = draw(1, config.text_len, config.text_dim), draw(1, 257, config.image_dim)
        faces = draw(1, persons, 257, config.image_dim)
        voices = (config.audio_window, config.audio_blocks, config.audio_channels)
        self.model, self.timestep = model, torch.tensor([500.0], device=device)
        with torch.no_grad():
            self.context = model.make_context(text, image, faces, draw(1, persons, scale.frames, *voices), masks)

    @torch.no_grad()
    def __call__(self) -> torch.Tensor:
        """The velocity."""
        return self.model(self.hidden_states, self.timestep, context=self.context, return_dict=False)[0]


def measure_steps(name: str, scale: Scale, device: str, brief: bool) -> Iterator[Row]:
    """Seconds of one pass, its share of the exact one, its error against it, and memory beyond the weights.

    Args:
        name: "1.3b" or "14b".
        scale: sizes.
        device: where.
        brief: leave out what a smaller model tells as well.
    """
    config = shape_of(name, scale).transformer
    model = random_transformer(config, device)
    flops = step_flops(config, scale.grid)
    known: dict[int, tuple[float, torch.Tensor]] = {}

    def row(what: str, persons: int = 2) -> Row:
        reset_peak()
        before = torch.cuda.memory_allocated() if device == "cuda" else 0
        step = Step(model, scale, persons, device)
        first, velocity = timed(step)
        seconds = timed(lambda: [step() for _ in range(_REPEATS)])[0] / _REPEATS
        seconds_exact, exact = known.setdefault(persons, (seconds, velocity))
        result = {"what": what, "people": persons, "s": round(seconds, 4), "times as fast": seconds_exact / seconds}
        result |= {"error": relative_error(velocity, exact), "TFLOP/s": flops / seconds / 1e12}
        if first > 5 * seconds + 1:
            result["first, s"] = round(first, 1)
        if device == "cuda":
            result["GiB beyond weights"] = (torch.cuda.max_memory_allocated() - before) / GIB
        return result

    def attempt(what: str, persons: int = 2) -> Row:
        try:
            return row(what, persons)
        except Exception as error:  # what one card lacks must not hide the rest
            return {"what": what, "people": persons, "not measured": f"{type(error).__name__}: {error}".splitlines()[0]}

    for persons in (2, 0, 4) if brief else (2, 0, 1, 4):
        yield row("exact", persons)
    absent = []
    for kernel in KERNELS[:-3] * (not brief) + KERNELS[-3:]:
        try:
            check_attention_backend(kernel)
        except InputError:
            absent.append(kernel)
            continue
        set_attention_backend(model, kernel)
        yield attempt(f"attention {kernel}")
    if absent:
        yield {"what": f"attention {', '.join(absent)}", "not measured": "not installed"}
    _use_default_attention(model)
    model.set_audio_face_backend("dense")
    for persons in (2,) if brief else (2, 4):
        yield attempt("dense AFCA", persons)
    model.set_audio_face_backend("sparse")
    if device != "cpu":  # compiling for it takes minutes and says nothing of a GPU
        for block in model.blocks:
            block.compile()
        yield attempt("compiled")
        for block in model.blocks:
            block._compiled_call_impl = None
    model.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    yield attempt("weights float8")


def _use_default_attention(model: AnyTalkerTransformer3DModel) -> None:
    for block in model.blocks:
        block.attn1.backend = None
