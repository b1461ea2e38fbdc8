"""The doctor's findings: the machine, the libraries, the models, and the memory that a video would need."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import torch

from anytalker.doctor.memory import MemoryPlan, ModelShape, plan_memory, plan_weights
from anytalker.errors import InputError
from anytalker.extras import EXTRAS
from anytalker.hardware.placement import Placement
from anytalker.loading.components import find_model, model_folder
from anytalker.loading.found import part_shapes
from anytalker.loading.part_loaders import autoencoder_config, settings_of, transformer_config
from anytalker.loading.presets import PRESETS, TRANSFORMERS, models_home
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.ready import working_dtype

GPU_REST = 900 * 2**20
"""Bytes that CUDA's context and libraries take, about."""
GPU_WORKSPACE = 1.45
"""What decoding takes on a GPU, times what its tensors take: convolutions have a workspace. Measured on an H200, by
`python benchmarks/gpu.py`."""
CPU_WORK = 120 * 2**20
"""Bytes that reading pictures and voices and writing a video take in the process, about."""

IMAGE_ENCODER = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""Sizes of the image encoder that the full-size models share, OpenCLIP's XLM-R ViT-H/14."""


@dataclass(frozen=True)
class Finding:
    """One line of the report: whether all is well, the subject, and what was found or has to be done."""

    good: bool
    subject: str
    text: str


@dataclass(frozen=True)
class Machine:
    """Where videos are made.

    `device` "cpu" or "cuda"; `memory` its free bytes; `rest` bytes that it takes without any model.
    """

    device: str
    memory: int
    rest: int

    @property
    def workspace(self) -> float:
        """See `GPU_WORKSPACE`; 1 on a CPU."""
        return GPU_WORKSPACE if self.device == "cuda" else 1.0


def this_machine() -> Machine:
    """The GPU if there is one, else the CPU."""
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return Machine("cuda", free, GPU_REST)
    own = psutil.Process().memory_info().rss
    return Machine("cpu", psutil.virtual_memory().available + own, own + CPU_WORK)


def examine_installation() -> list[Finding]:
    """The package, its libraries, the disk, and the models."""
    import av
    import diffusers
    import transformers

    from anytalker import __version__

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    findings = [Finding(True, "anytalker", f"{__version__}; {versions}, transformers {transformers.__version__}")]
    codecs = [name for name in ("libx264", "aac") if name in av.codecs_available]
    findings.append(
        Finding(len(codecs) == 2, "video", f"PyAV {av.__version__} encodes {', '.join(codecs) or 'nothing'}")
    )
    for extra, modules in EXTRAS.items():
        lacking = [name for name in modules if importlib.util.find_spec(name) is None]
        advice = f"lacks {', '.join(lacking)}:  pip install 'anytalker[{extra}]'" if lacking else "installed"
        findings.append(Finding(not lacking, extra, advice))
    home = models_home()
    place = next(path for path in (home, *home.parents) if path.exists())
    findings.append(Finding(True, "disk", f"{shutil.disk_usage(place).free / 2**30:.0f} GiB free for models in {home}"))
    for name in ("tiny", *PRESETS):
        try:
            findings.append(Finding(True, name, f"ready in {model_folder(name)}"))
        except InputError as error:
            findings.append(Finding(False, name, str(error)))
    return findings


def examine_machine(machine: Machine) -> list[Finding]:
    """What videos are made on."""
    if machine.device == "cuda":
        name = torch.cuda.get_device_name()
        return [Finding(True, "device", f"{name}, {machine.memory / 2**30:.1f} GiB free")]
    text = f"no GPU; {os.cpu_count()} CPU cores, {machine.memory / 2**30:.1f} GiB of memory"
    return [Finding(False, "device", text)]


def model_shape(model: str, dtype: torch.dtype) -> ModelShape:
    """What a plan needs to know of a model, here or not.

    Raises:
        InputError: if there is no such model.
    """
    if model in PRESETS:
        parts = _full_size_bytes(dtype)
        return ModelShape(TRANSFORMERS[model], {"_class_name": "AutoencoderKLWan"}, PRESETS[model].settings, parts)
    found = find_model(model)
    others = {
        name.replace("_", " "): _part_bytes(found.parts[name], dtype if name == "text_encoder" else torch.float32)
        for name in ("vae", "text_encoder", "image_encoder", "audio_features")
    }
    return ModelShape(
        transformer_config(found),
        autoencoder_config(found),
        settings_of(found),
        {name: size for name, size in others.items() if size},
    )


def plan_video(
    model: str,
    machine: Machine,
    size: tuple[int, int] | None,
    seconds: float,
    people: int,
    placement: Placement = Placement(),
) -> tuple[MemoryPlan, tuple[int, int], int]:
    """The memory of a video, its size and its frames.

    Args:
        model: name or folder.
        machine: where.
        size: (width, height) in pixels; None: the model's largest, 16 : 9.
        seconds: length.
        people: how many are in it.
        placement: what is on the device at a time.
    """
    dtype = _dtype(model, machine)
    shape = model_shape(model, dtype)
    frames = max(5, round(seconds * shape.settings.fps) // 4 * 4 + 1)
    chosen = size or largest(shape.settings)
    decoded = chosen[0] // shape.settings.upscale, chosen[1] // shape.settings.upscale
    plan = plan_memory(
        shape, decoded, frames, people, dtype, machine.rest, placement=placement, workspace=machine.workspace
    )
    return plan, chosen, frames


def plan_any_video(model: str, machine: Machine, placement: Placement = Placement()) -> MemoryPlan:
    """The least memory that any video of a model takes, known at once: that of its weights."""
    dtype = _dtype(model, machine)
    return plan_weights(model_shape(model, dtype), dtype, machine.rest, placement)


def _dtype(model: str, machine: Machine) -> torch.dtype:
    """Of the transformer."""
    return torch.bfloat16 if model in PRESETS and machine.device == "cuda" else working_dtype(model, machine.device)


def largest(settings: PipelineSettings) -> tuple[int, int]:
    """Width and height in pixels of the largest video of a model, 16 : 9."""
    video = settings.enlarged(settings.upscale)
    unit = video.size_multiple
    height = int((video.max_area * 9 / 16) ** 0.5) // unit * unit
    return int(video.max_area / height) // unit * unit, height


@functools.cache
def _full_size_bytes(dtype: torch.dtype) -> dict[str, int]:
    """Bytes of the encoders and the autoencoder that the full-size models share; the small ones are in float32."""
    from diffusers import AutoencoderKLWan
    from transformers import (
        CLIPVisionConfig,
        CLIPVisionModel,
        UMT5Config,
        UMT5EncoderModel,
        Wav2Vec2Config,
        Wav2Vec2Model,
    )

    text = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
    image = CLIPVisionConfig(**IMAGE_ENCODER)
    with torch.device("meta"):
        models: Sequence[tuple[str, Any, torch.dtype]] = (
            ("text encoder", UMT5EncoderModel(text), dtype),
            ("image encoder", CLIPVisionModel(image), torch.float32),
            ("vae", AutoencoderKLWan(), torch.float32),
            ("audio features", Wav2Vec2Model(Wav2Vec2Config()), torch.float32),
        )
    return {name: sum(p.numel() for p in made.parameters()) * kind.itemsize for name, made, kind in models}


def _part_bytes(path: Path, dtype: torch.dtype) -> int:
    """Bytes of a part's tensors in a type; of Wan's image encoder without the text tower, which is not loaded."""
    shapes = part_shapes(path)
    visual = [item for item in shapes if item[0].startswith("visual.")]
    return sum(torch.Size(shape).numel() for _, shape in visual or shapes) * dtype.itemsize


def with_memory(machine: Machine, gigabytes: float | None) -> Machine:
    """A machine like this, but with so many GiB: of a GPU if there is none here."""
    if gigabytes is None:
        return machine
    return replace(machine, device="cuda", memory=int(gigabytes * 2**30), rest=GPU_REST)
