"""Suggestions for a video that doesn't fit: the smallest changes that make it fit, and the commands to run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import get_args

import torch

from anytalker.doctor.memory import MemoryPlan
from anytalker.doctor.report import Machine, largest, model_shape, plan_any_video, plan_video
from anytalker.errors import InputError
from anytalker.hardware.placement import Memory, Placement, Weights
from anytalker.loading.components import model_folder
from anytalker.loading.presets import PRESETS

MODELS = ("tiny", *PRESETS)
PICTURE = ("--image", "two.png")
"""What stands for the user's own picture in a command."""
_FIRST_SECONDS = 81 / 24
"""The length that the full-size models were trained on; longer videos are shortened to it first."""
_LENGTHS = (_FIRST_SECONDS, 2.0, 1.0)
_SCALES = (1.0, 0.7, 0.5)
_CORE_FLOPS = 5e10
"""Operations a second of a CPU core, about: 117e9 in float32 were measured on two."""


@dataclass(frozen=True)
class Suggestion:
    """A video that fits.

    Attributes:
        model: name or folder.
        placement: what is on the device at a time.
        size: (width, height) in pixels; None: the model's own, `scale` times as long on both sides.
        scale: of the model's own size.
        seconds: length of the video.
        people: how many are in it.
        frames: of the video.
        shortened: whether it is shorter than was asked for.
        plan: the memory that it takes.
    """

    model: str
    placement: Placement
    size: tuple[int, int] | None
    scale: float
    seconds: float
    people: int
    frames: int
    shortened: bool
    plan: MemoryPlan

    @property
    def options(self) -> list[str]:
        """What `anytalker generate` and `anytalker doctor` both need to be told."""
        options = [] if self.model == "tiny" else ["--model", self.model]
        if self.placement.memory != "high":
            options += ["--memory", self.placement.memory]
        if self.placement.weights != "full":
            options += ["--weights", self.placement.weights]
        if self.size:
            options += ["--size", f"{self.size[0]}x{self.size[1]}"]
        if self.scale != 1:
            options += ["--scale", f"{self.scale:g}"]
        return options

    def generate(self) -> str:
        """The command that makes the video, with names of files in place of the user's own."""
        voices = [word for person in range(self.people) for word in ("--audio", f"voice{person + 1}.wav")]
        limit = ["--max-frames", str(self.frames)] if self.shortened else []
        return shlex.join(["anytalker", "generate", *self.options, *PICTURE, *voices, *limit])

    def doctor(self, machine: Machine) -> str:
        """The command that plans the same video again; a GPU is named by its memory."""
        card = ["--card", f"{machine.memory / 2**30:.6g}"] if machine.device == "cuda" else []
        model = ["--model", "tiny"] if self.model == "tiny" else []
        length = ["--persons", str(self.people), "--seconds", f"{self.seconds:.4g}"]
        return shlex.join(["anytalker", "doctor", *model, *self.options, *length, *card])


def suggest(
    model: str,
    machine: Machine,
    size: tuple[int, int] | None,
    seconds: float,
    people: int,
    placement: Placement = Placement(),
) -> Suggestion | None:
    """The video that fits and differs least from what was asked for; None if none fits.

    Tried are, in this order, what keeps the video as it is (`memory`), what changes it a little (`weights`), a shorter
    video, and a smaller one; the latter with everything before.

    Raises:
        InputError: if there is no such model.
    """
    own = model_size(model) if size is None else size
    settings = model_shape(model, torch.float32).settings
    unit = settings.size_multiple * settings.upscale
    choices = list(_choices(machine, seconds, placement))
    if plan_any_video(model, machine, choices[-1][2]).peak > machine.memory:
        return None

    def suggestion(scale: float, length: float, place: Placement) -> Suggestion | None:
        pixels = scaled(own, scale, unit)
        plan, _, frames = plan_video(model, machine, pixels, length, people, place)
        kept, factor = (None, scale) if size is None else (pixels, 1.0)
        found = Suggestion(model, place, kept, factor, length, people, frames, length < seconds, plan)
        return found if plan.peak <= machine.memory else None

    as_asked = suggestion(*choices[0])
    if as_asked is not None:
        return as_asked
    least = suggestion(*choices[-1])
    if least is None:
        return None
    return next((found for choice in choices[1:-1] if (found := suggestion(*choice)) is not None), least)


def model_size(model: str, scale: float = 1.0) -> tuple[int, int]:
    """Width and height of a model's largest video, 16 : 9, with both sides `scale` times as long."""
    settings = model_shape(model, torch.float32).settings
    return scaled(largest(settings), scale, settings.size_multiple * settings.upscale)


def scaled(size: tuple[int, int], scale: float, unit: int) -> tuple[int, int]:
    """A size with both sides `scale` times as long, in multiples of `unit`; as it is for 1."""
    if scale == 1:
        return size
    width, height = (max(unit, round(side * scale / unit) * unit) for side in size)
    return width, height


def _choices(machine: Machine, seconds: float, placement: Placement) -> Iterator[tuple[float, float, Placement]]:
    modes = get_args(Memory) if machine.device == "cuda" else (placement.memory,)
    modes = modes[modes.index(placement.memory) :]
    kinds: tuple[Weights, ...] = ("full", "float8") if placement.weights == "full" else (placement.weights,)
    places = [Placement(memory, weights) for weights, memory in product(kinds, modes)]
    lengths = [seconds, *(length for length in _LENGTHS if length < seconds)]
    yield from product(_SCALES, lengths, places)


def advice(
    model: str,
    machine: Machine,
    size: tuple[int, int] | None,
    seconds: float,
    people: int,
    placement: Placement = Placement(),
) -> str:
    """What to do about a video that doesn't fit, with the commands."""
    found = suggest(model, machine, size, seconds, people, placement)
    if found is None:
        others = {"14b": "1.3b or tiny", "1.3b": "tiny"}.get(model)
        return f"Nothing of {model} fits. " + (f"Take a smaller model: {others}." if others else "Free some memory.")
    changed = [f"--memory {found.placement.memory}"] if found.placement.memory != placement.memory else []
    if found.placement.weights != placement.weights:
        changed.append(f"--weights {found.placement.weights} (a slightly other video)")
    if found.shortened:
        changed.append(f"{found.seconds:.2g} s")
    if found.scale != 1:
        changed.append(f"--scale {found.scale:g}")
    if found.size != size and found.size:
        changed.append(f"{found.size[0]}×{found.size[1]} pixels")
    return (
        f"It fits with {', '.join(changed)}, in {found.plan.peak / 2**30:.1f} GiB:\n"
        f"  {found.generate()}\n  {found.doctor(machine)}"
    )


@dataclass(frozen=True)
class Outlook:
    """What this machine can do with one model: whether it is `here`, and a video that fits, if any does."""

    model: str
    here: bool
    suggestion: Suggestion | None
    download_bytes: int
    cpu_hours: float | None


def outlook(model: str, machine: Machine, size: tuple[int, int] | None, seconds: float, people: int) -> Outlook:
    """What a machine can do with a model; `download_bytes` is the least that it takes, its weights in 16 bits.

    `cpu_hours` says roughly how long a full-size model computes on this CPU; None on a GPU, and for the miniature.
    """
    try:
        model_folder(model)
        here = True
    except InputError:
        here = False
    found = suggest(model, machine, size, seconds, people)
    known = model in PRESETS
    weights = sum(plan_any_video(model, Machine("cuda", 0, 0)).weights.values()) if known else 0
    hours = _cpu_hours(found) if found and known and machine.device == "cpu" else None
    return Outlook(model, here, found, weights, hours)


def _cpu_hours(found: Suggestion) -> float:
    """Matrices and self attention of all steps, both branches of guidance, over what the cores can do."""
    shape = model_shape(found.model, torch.float32)
    width, height = found.size or model_size(found.model, found.scale)
    heads, layers = (
        shape.transformer.get(key, usual) for key, usual in (("num_attention_heads", 12), ("num_layers", 30))
    )
    tokens = ((found.frames - 1) // 4 + 1) * (width // 16) * (height // 16)
    values = 14e9 if heads == 40 else 1.3e9
    forward = 2 * values * tokens + 4 * tokens**2 * 128 * heads * layers
    return 2 * shape.settings.num_inference_steps * forward / (_CORE_FLOPS * (os.cpu_count() or 1)) / 3600
