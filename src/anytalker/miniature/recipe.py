"""The recipe of the shipped weights: `python -m anytalker.miniature.recipe FOLDER`.

Three steps, each of which goes on where it stopped: the autoencoder, the corpus, stage 1. Everything is drawn and
spoken by this package; nothing is downloaded. `export` then writes the model that `from_pretrained("tiny")` loads.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.miniature.autoencoder import MiniatureAutoencoder
from anytalker.miniature.clips import autoencoder_batches
from anytalker.miniature.corpus import CorpusSettings, build_corpus, load_corpus, render_clip
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.settings import PipelineSettings
from anytalker.training.autoencoder import AutoencoderTraining, train_autoencoder
from anytalker.training.trainer import Conditioner, TrainingSettings, TrainingState, train

SETTINGS = PipelineSettings(
    name="tiny",
    max_area=320 * 208,
    size_multiple=16,
    face_size=50,
    num_inference_steps=8,
    guidance_scale=1.0,
    condition="still",
    window=8,
    window_overlap=2,
    image_size=64,
    text_len=32,
)
IMAGE_WIDTH = 96
TEXT_WIDTH = 64


class _AutoencoderClips(IterableDataset):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[torch.Tensor]:
        torch.set_num_threads(1)
        return autoencoder_batches(self.seed, frames=5, sizes=[(8, 64)])


def make_autoencoder(folder: Path, training: AutoencoderTraining, start: Path | None = None) -> MiniatureAutoencoder:
    """Train the autoencoder and set its latent statistics; a finished one in `folder` is loaded.

    `start` is another autoencoder's folder to go on from; None: from principal components.
    """
    if (folder / "config.json").exists():
        return MiniatureAutoencoder.from_pretrained(folder).eval()
    batches = iter(DataLoader(_AutoencoderClips(1 if start else 0), batch_size=None, num_workers=1, prefetch_factor=8))
    if start:
        vae = MiniatureAutoencoder.from_pretrained(start)
    else:
        vae = MiniatureAutoencoder()
        vae.start_from_components(torch.cat([next(batches) for _ in range(40)]))
    train_autoencoder(vae, batches, training, folder.with_name("autoencoder-unfinished"))
    measure_latents(vae)
    vae.save_pretrained(folder)
    return vae


@torch.no_grad()
def measure_latents(vae: MiniatureAutoencoder, clips: int = 100) -> None:
    """Write mean and deviation of the latents of the world's clips into the autoencoder's configuration."""
    settings = CorpusSettings(frames=9)
    features = LogMelFeatures()
    latents = []
    for seed in range(clips):
        frames = torch.from_numpy(render_clip(seed, settings, features).frames)
        pixels = frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents.append(vae.encode(pixels).latent_dist.mode())
    values = torch.cat(latents).transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=values.mean(1).tolist(), latents_std=values.std(1).tolist())


def make_transformer(features: LogMelFeatures) -> AnyTalkerTransformer3DModel:
    """The miniature's transformer, untrained: layout A, small."""
    return AnyTalkerTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=48,
        text_dim=TEXT_WIDTH,
        text_len=SETTINGS.text_len,
        ffn_dim=576,
        num_layers=7,
        image_dim=IMAGE_WIDTH,
        audio_window=features.window,
        audio_blocks=features.blocks,
        audio_channels=features.channels,
        audio_hidden_dim=256,
        audio_tokens=4,
        condition_skip=0.5,
    )


def make_conditioner() -> Conditioner:
    """The miniature's encoders: T5 on bytes with random weights, and a small CLIP vision tower that will be trained."""
    from transformers import ByT5Tokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    tokenizer = ByT5Tokenizer(extra_ids=0)
    text = UMT5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=16, d_ff=128, num_layers=1, num_heads=4, dropout_rate=0.0
    )
    image = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=2 * IMAGE_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SETTINGS.image_size,
        patch_size=16,
    )
    return Conditioner(UMT5EncoderModel(text).eval(), tokenizer, CLIPVisionModel(image), SETTINGS.text_len)


def stage_one(
    folder: Path, settings: TrainingSettings, start: Path | None = None, log: Callable[[str], None] = print
) -> TrainingState:
    """Train stage 1 on the corpus in `folder`, or go on with it; `start` is another run's checkpoint to begin with."""
    torch.manual_seed(settings.seed)
    features = LogMelFeatures()
    conditioner = make_conditioner()
    state = TrainingState.start(make_transformer(features), conditioner, settings)
    checkpoint = folder / "stage1.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    elif start:
        state.start_from(start)
    clips = load_corpus(folder / "corpus", SETTINGS.image_size, features.window)
    log(f"{len(clips)} clips, {sum(p.numel() for p in state.transformer.parameters()) / 1e6:.1f} M parameters")
    return train(state, clips, settings, checkpoint, log)


def export(folder: Path, destination: Path) -> None:
    """Write the model with the averaged weights of stage 1, in half precision, to `destination`."""
    from anytalker.pipelines.pipeline import AnyTalkerPipeline
    from anytalker.pipelines.schedule import make_scheduler

    torch.manual_seed(0)
    conditioner = make_conditioner()
    features = LogMelFeatures()
    state = TrainingState.start(make_transformer(features), conditioner, TrainingSettings())
    state.load(folder / "stage1.pt")
    transformer, image_encoder = state.averaged_models()
    vae = MiniatureAutoencoder.from_pretrained(folder / "autoencoder")
    pipeline = AnyTalkerPipeline(
        transformer=transformer.half(),
        vae=vae.half(),
        text_encoder=conditioner.text_encoder.half(),
        tokenizer=conditioner.tokenizer,
        image_encoder=image_encoder.half(),
        scheduler=make_scheduler(SETTINGS.shift),
        audio_features=features,
        settings=SETTINGS,
    )
    pipeline.save_pretrained(destination)


def main() -> None:
    """Run the whole recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where everything is kept")
    parser.add_argument("--start", type=Path, help="begin with the autoencoder and weights of another such folder")
    parser.add_argument("--autoencoder-steps", type=int, default=2500)
    parser.add_argument("--motion-weight", type=float, default=AutoencoderTraining.motion_weight)
    parser.add_argument("--clips", type=int, default=CorpusSettings.clips)
    parser.add_argument("--steps", type=int, default=TrainingSettings.steps)
    parser.add_argument("--learning-rate", type=float, default=TrainingSettings.learning_rate)
    parser.add_argument("--export", type=Path, help="write the finished model here")
    options = parser.parse_args()
    start = options.start
    autoencoder = AutoencoderTraining(
        options.autoencoder_steps, learning_rate=1.5e-3, motion_weight=options.motion_weight
    )
    vae = make_autoencoder(options.folder / "autoencoder", autoencoder, start and start / "autoencoder")
    build_corpus(options.folder / "corpus", CorpusSettings(clips=options.clips), vae, LogMelFeatures())
    settings = TrainingSettings(steps=options.steps, learning_rate=options.learning_rate)
    stage_one(options.folder, settings, start and start / "stage1.pt")
    if options.export:
        export(options.folder, options.export)


if __name__ == "__main__":
    main()
