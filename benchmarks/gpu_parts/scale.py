"""Models with random weights, at the released shapes or at small ones, and what they are given.

Random weights take the time and the memory of real ones. What depends on what a model has learnt is not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from transformers import (
    ByT5Tokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from anytalker import AnyTalkerPipeline
from anytalker.conditioning.audio_features import Wav2Vec2Features
from anytalker.doctor.memory import ModelShape
from anytalker.doctor.report import model_shape
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.precision import cast_transformer
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel

GIB = 2**30
Row = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """Sizes of everything: `size` (width, height) in pixels, `frames` of the video; `small` models for a CPU."""

    small: bool = False
    size: tuple[int, int] = (832, 480)
    frames: int = 81
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Latent frames, token rows and token columns."""
        return (self.frames - 1) // 4 + 1, self.size[1] // 16, self.size[0] // 16


TRUE = Scale()
SMALL = Scale(True, (48, 32), 9, {"max_area": 48 * 32, "size_multiple": 16, "image_size": 28, "text_len": 8})
_SMALL_TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 24,
    "text_dim": 16,
    "text_len": 8,
    "ffn_dim": 64,
    "num_layers": 2,
    "image_dim": 160,
    "audio_blocks": 2,
    "audio_channels": 16,
    "audio_hidden_dim": 16,
    "audio_tokens": 3,
}


def shape_of(model: str, scale: Scale) -> ModelShape:
    """What the doctor knows of a model."""
    if not scale.small:
        return model_shape(model, torch.bfloat16)
    layout = "A" if model == "1.3b" else "B"
    settings = PipelineSettings(name=model, **scale.settings)
    vae = {"_class_name": "AutoencoderKLWan", "base_dim": 8}
    return ModelShape(_SMALL_TRANSFORMER | {"audio_face_layout": layout}, vae, settings, {"vae": 0})


def random_transformer(config: Any, device: str) -> AnyTalkerTransformer3DModel:
    """A transformer of that shape in bfloat16, but for what is always kept in float32."""
    model = made_on(device, torch.bfloat16, lambda: AnyTalkerTransformer3DModel(**config))
    return cast_transformer(model, torch.bfloat16)


def made_on(device: str, dtype: torch.dtype, make: Callable[[], Any]) -> Any:
    """What `make` gives, made where it is wanted and as exact as wanted; not to be trained."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def random_vae(scale: Scale, device: str, dtype: torch.dtype = torch.float32) -> Any:
    """Wan's autoencoder."""
    sizes = {"base_dim": 4, "num_res_blocks": 1} if scale.small else {}
    return made_on(device, dtype, lambda: AutoencoderKLWan(**sizes))


def random_pipeline(shape: ModelShape, scale: Scale, device: str, keep: bool) -> AnyTalkerPipeline:
    """A whole model, its large parts made on `device`, where that is faster; they stay there, or go to the CPU."""
    transformer = random_transformer(shape.transformer, device)
    if scale.small:
        text = UMT5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
        image = {"hidden_size": 160, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        image |= {"image_size": 28}
        audio = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        audio |= {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    else:
        text = UMT5Config(vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64)
        image = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
        audio = {}
    vision = CLIPVisionConfig(**image, patch_size=14, hidden_act="gelu")
    pipeline = AnyTalkerPipeline(
        transformer=transformer,
        vae=random_vae(scale, "cpu"),
        text_encoder=made_on(device, torch.bfloat16, lambda: UMT5EncoderModel(text)),
        tokenizer=ByT5Tokenizer(),
        image_encoder=made_on(device, torch.float32, lambda: CLIPVisionModel(vision)),
        scheduler=make_scheduler(shape.settings.shift),
        audio_features=Wav2Vec2Features(Wav2Vec2Model(Wav2Vec2Config(**audio)).eval()),
        settings=shape.settings,
    )
    return pipeline if keep else pipeline.to("cpu", silence_dtype_warnings=True)


def inputs_of(scale: Scale, persons: int, fps: float) -> dict[str, Any]:
    """A picture of noise, faces as wide as a third of its height, and a voice of noise for each."""
    rng = np.random.default_rng(0)
    width, height = scale.size
    side = height // 3
    faces = [(place * (width - side) // max(1, persons - 1), 0, side, side) for place in range(persons)]
    samples = int(16000 * (scale.frames - 1) / fps) + 320
    return {
        "image": Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)),
        "audio": [rng.normal(0, 0.1, samples).astype(np.float32) for _ in range(persons)],
        "faces": faces,
        "max_frames": scale.frames,
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what it gives."""
    _wait()
    started = time.perf_counter()
    result = work()
    _wait()
    return time.perf_counter() - started, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Begin to watch for the peak anew."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def taken() -> float:
    """Most GiB that this process has had of the GPU since `reset_peak`, CUDA's own included; NaN without a GPU."""
    if not torch.cuda.is_available():
        return float("nan")
    free, total = torch.cuda.mem_get_info()
    own = total - free - torch.cuda.memory_reserved()
    return (torch.cuda.max_memory_reserved() + own) / GIB


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    """‖value − reference‖ / ‖reference‖."""
    return float((value.float() - reference.float()).norm() / reference.float().norm())
