"""A model and clips small enough that training them takes a moment."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from anytalker import AnyTalkerPipeline
from anytalker.checkpoints.tensors import Checkpoint
from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.data.shards import ShardWriter
from anytalker.loading.scheduler import make_scheduler
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.settings import PipelineSettings
from anytalker.training.config import TrainingConfig
from anytalker.training.trainer import Trainer
from tests.models.test_transformer import small_model

FEATURES = LogMelFeatures(mel_bins=4, substeps=2)


def write_model(folder: Path, **changes) -> Path:
    """An untrained pipeline of a few thousand parameters, with `changes` to its transformer."""
    from transformers import ByT5Tokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    tokenizer = ByT5Tokenizer(extra_ids=0)
    text = UMT5Config(vocab_size=len(tokenizer), d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0)
    image = CLIPVisionConfig(
        hidden_size=12, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    AnyTalkerPipeline(
        transformer=small_model(**{"audio_channels": FEATURES.channels, "text_len": 48, "num_layers": 1} | changes),
        vae=MiniatureAutoencoder(width=16, blocks=1, fine_width=8, fine_blocks=1),
        text_encoder=UMT5EncoderModel(text).eval(),
        tokenizer=tokenizer,
        image_encoder=CLIPVisionModel(image),
        scheduler=make_scheduler(3.0),
        audio_features=FEATURES,
        settings=PipelineSettings(
            num_inference_steps=2, guidance_scale=1.0, condition="still", window=3, image_size=16, text_len=48
        ),
    ).save_pretrained(folder)
    return folder


def sample(number: int, persons: int = 1, frames: int = 6, size: int = 12) -> dict[str, torch.Tensor]:
    """Tensors of a made-up clip; everything in it tells its number."""
    generator = torch.Generator().manual_seed(number)
    rows = 4 * (frames - 1) + 1
    return {
        "latents": torch.randn(16, frames, size, size * persons, generator=generator).half(),
        "condition": torch.full((16, 1, size, size * persons), number / 100).half(),
        "audio": torch.full((persons, rows, 1, FEATURES.channels), number / 100 + 0.5).half(),
        "pictures": torch.full((1 + persons, 3, 16, 16), number / 100).half(),
        "voices": (8000 * torch.sin(torch.arange(16000) / 2000.0) ** 2).to(torch.int16).expand(persons, -1),
        "boxes": torch.tensor([[24 + 8 * size * i, 24, 48, 48] for i in range(persons)], dtype=torch.float32),
    }


def write_shards(folder: Path, clips: int = 12, clips_per_shard: int = 3, persons: int = 1) -> Path:
    """Shards of made-up clips."""
    with ShardWriter(folder, clips_per_shard) as writer:
        for number in range(clips):
            writer.write(f"{number:08d}", {"fps": 24.0}, sample(number, persons))
    return folder


def damage(path: Path) -> None:
    """Spoil a file in its middle; its size stays."""
    contents = path.read_bytes()
    path.write_bytes(contents[:3000] + b"damaged" * 500 + contents[6500:])


@functools.cache
def _made() -> TemporaryDirectory:
    """A model and shards, made once, to be copied."""
    made = TemporaryDirectory(prefix="made-")
    write_model(Path(made.name) / "model")
    write_shards(Path(made.name) / "single")
    return made


def make_config(folder: Path, **changes) -> TrainingConfig:
    """A run of a few steps over a model and shards in `folder`, which are put there where they are missing."""
    if not (folder / "model" / "anytalker.json").exists():
        shutil.copytree(_made().name, folder, dirs_exist_ok=True)
    values = {
        "output": folder / "run",
        "model": folder / "model",
        "data": {"single": [folder / "single"], "window": 3, "workers": 0},
        "optimizer": {"learning_rate": 1e-3, "warmup_steps": 2},
        "steps": 4,
        "batch_size": 2,
        "save_every": 2,
        "log_every": 1,
    }
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(values.get(key), dict) else value
    return TrainingConfig.model_validate(values)


def train(config: TrainingConfig) -> list[float]:
    """The losses of a run that says nothing."""
    return Trainer(config, lambda line: None).run()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of the transformer of the model in a folder."""
    with Checkpoint(folder / "model" / "transformer") as checkpoint:
        return dict(checkpoint)
