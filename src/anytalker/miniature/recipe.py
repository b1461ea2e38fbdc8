"""What the miniature's training needs: a trained autoencoder, an untrained model, and clips."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch.utils.data import DataLoader, IterableDataset

from anytalker.conditioning.log_mel import LogMelFeatures
from anytalker.data.encoding import ClipEncoder
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.loading.components import model_folder
from anytalker.loading.scheduler import make_scheduler
from anytalker.miniature.corpus import CorpusSettings, build_corpus, render_clip
from anytalker.miniature.enlargements import enlargement_lessons, write_enlargements
from anytalker.miniature.guesses import GuessSettings, lessons, write_guesses
from anytalker.miniature.world.clips import autoencoder_batches
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.pipeline import AnyTalkerPipeline
from anytalker.training.autoencoder import AutoencoderTraining, train_autoencoder
from anytalker.training.decoder import DecoderTraining, train_decoder
from anytalker.training.upscaler import UpscalerTraining, train_upscaler

SETTINGS = PipelineSettings(
    name="tiny",
    max_area=640 * 160,
    size_multiple=16,
    face_size=76,
    num_inference_steps=2,
    guidance_scale=1.0,
    shift=7.0,
    condition="still",
    window=8,
    window_overlap=2,
    image_size=64,
    text_len=32,
    prepared="video",
    trained_on="drawn",
)
FINE_BLOCKS = 4
"""Residual blocks of the tuned decoder on the grid of 4×4 pixels."""
LESSONS = 4
"""Pieces of clips a step of its training."""
ENLARGEMENTS = GuessSettings(clips=440, sigmas=(0.4, 0.6, 0.4, 0.6, 0.875))
"""Clips that the upscaler learns from: mostly little noise, so that eyes and mouths are those of the true frames."""
IMAGE_WIDTH = 96
TEXT_WIDTH = 64

CORPORA = {
    "single": CorpusSettings(clips=2400, finished=0.5),
    "duo": CorpusSettings(clips=1400, persons=2, frames=97, finished=0.5),
    "trio": CorpusSettings(clips=500, persons=3, frames=97, finished=0.5),
    "quartet": CorpusSettings(clips=400, persons=4, frames=97, finished=0.5),
    "held-out": CorpusSettings(clips=40, unseen=True, silent_share=0.0),
    "held-out-duo": CorpusSettings(clips=40, persons=2, frames=97, unseen=True),
}
"""Stage 1's clips, stage 2's, and those that training never sees; the shipped weights' are in docs/miniature.md."""
QUICK_CORPORA = {
    "single": CorpusSettings(clips=12, frames=33),
    "duo": CorpusSettings(clips=6, persons=2, frames=33),
}
"""A handful of short clips, to try both stages; nothing is learnt from so few."""
_WHOLE = CorpusSettings(clips=640, frames=49, room=2.0)
FRAMED_CORPORA = {
    "whole": _WHOLE,
    "windows": replace(_WHOLE, window=True),
    "few": replace(CORPORA["duo"], clips=40),
}
"""Clips framed as the paper's: single people in whole frames, windows of half of each, a few conversations."""


def prepare_miniature(
    folder: Path,
    autoencoder: AutoencoderTraining,
    start: Path | None = None,
    corpora: dict[str, CorpusSettings] = CORPORA,
    log: Callable[[str], None] = print,
) -> None:
    """Make `folder`/autoencoder, `folder`/untrained (a model) and `folder`/shards; what is finished is kept.

    Args:
        folder: where everything goes.
        autoencoder: how the autoencoder is trained.
        start: another autoencoder to go on from; None: from principal components.
        corpora: which clips to render.
        log: receives lines of progress.
    """
    vae = make_autoencoder(folder / "autoencoder", autoencoder, start, log)
    if not (folder / "untrained" / "anytalker.json").exists():
        make_untrained(vae).save_pretrained(folder / "untrained")
    encoder = ClipEncoder(vae, miniature_features(), SETTINGS.condition, SETTINGS.image_size)
    for name, settings in corpora.items():

        def report(done: int, total: int, name: str = name) -> None:
            if done % 100 == 0 or done == total:
                log(f"{name}: {done} of {total} clips")

        build_corpus(folder / "shards" / name, settings, encoder, report)


def prepare_trial(folder: Path, log: Callable[[str], None] = print) -> list[Path]:
    """Make all that a trial of both stages needs, in less than a minute: the shipped autoencoder, a few short clips.

    Returns:
        The configurations of the two stages; paths in them are those that `folder` leads to from the working folder.

    Raises:
        InputError: if the folder holds a full preparation.
    """
    vae = folder / "autoencoder"
    if not (vae / "config.json").exists():
        shipped = MiniatureAutoencoder.from_pretrained(model_folder("tiny") / "vae")
        unfinished = folder / "autoencoder-unfinished"
        shipped.save_pretrained(unfinished)
        unfinished.rename(vae)
    prepare_miniature(folder, AutoencoderTraining(), corpora=QUICK_CORPORA, log=log)
    starts = {"stage1": folder / "untrained", "stage2": folder / "stage1" / "model"}
    clips = {"stage1": ["single"], "stage2": ["duo", "single"]}
    written = []
    for stage, start in starts.items():
        written.append(folder / f"{stage}.yaml")
        values = {
            "output": str(folder / stage),
            "model": str(start),
            "data": {"single": [str(folder / "shards" / name) for name in clips[stage]], "window": 4, "workers": 0},
            "batches": {"join": [1, 2] if stage == "stage1" else [1], "join_once": True, "widen_probability": 0.0},
            "optimizer": {"learning_rate": 1e-3, "warmup_steps": 5, "average": 0.9},
            "validation": None,
            "train_image_encoder": True,
            "loss_weighting": "uniform_bump",
            "steps": 20,
            "batch_size": 2,
            "save_every": 10,
            "log_every": 5,
        }
        with atomic_path(written[-1]) as partial:
            partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return written


class _AutoencoderClips(IterableDataset):
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __iter__(self) -> Iterator[torch.Tensor]:
        torch.set_num_threads(1)
        return autoencoder_batches(self.seed, frames=5, sizes=[(8, 64)])


def make_autoencoder(
    folder: Path, training: AutoencoderTraining, start: Path | None, log: Callable[[str], None] = print
) -> MiniatureAutoencoder:
    """Train the autoencoder and set its latent statistics; a finished one in `folder` is loaded."""
    if (folder / "config.json").exists():
        return MiniatureAutoencoder.from_pretrained(folder).eval()
    torch.manual_seed(0)
    batches = iter(DataLoader(_AutoencoderClips(1 if start else 0), batch_size=None, num_workers=1, prefetch_factor=8))
    if start:
        vae = MiniatureAutoencoder.from_pretrained(start)
    else:
        vae = MiniatureAutoencoder()
        vae.start_from_components(torch.cat([next(batches) for _ in range(40)]))
    unfinished = folder.with_name("autoencoder-unfinished")
    train_autoencoder(vae, batches, training, unfinished, log)
    measure_latents(vae)
    vae.save_pretrained(unfinished)
    unfinished.rename(folder)
    return vae


class _Lessons(IterableDataset):
    def __init__(self, folder: Path, batch_size: int, clips: int) -> None:
        self.folder, self.batch_size, self.clips = folder, batch_size, clips

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        torch.set_num_threads(1)
        return lessons(self.folder, self.batch_size, clips=self.clips)


def tune_decoder(
    model: Path,
    folder: Path,
    training: DecoderTraining,
    guesses: GuessSettings,
    log: Callable[[str], None] = print,
) -> None:
    """Let a trained miniature's decoder learn from the model's own guesses; the rest of it stays as it is.

    Args:
        model: the trained miniature, or its name.
        folder: `folder`/guesses is made and kept, `folder`/model is the result.
        training: how the decoder is tuned.
        guesses: from which clips.
        log: receives lines of progress.

    Raises:
        InputError: if the model can't be read, is no miniature or would be overwritten, or if the folder holds guesses
            of another one.
        AnyTalkerError: if a gradient is no number.
    """

    def report(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            log(f"guesses: {done} of {total} clips")

    def save(averaged: MiniatureAutoencoder) -> None:
        averaged.save_pretrained(folder / "autoencoder-unfinished")

    pipeline = _miniature(model, folder)
    write_guesses(folder / "guesses", pipeline, guesses, report)
    torch.manual_seed(0)
    vae = pipeline.vae.deepened(max(pipeline.vae.config.fine_blocks, FINE_BLOCKS))
    batches = DataLoader(
        _Lessons(folder / "guesses", LESSONS, guesses.clips), batch_size=None, num_workers=1, prefetch_factor=4
    )
    pipeline.vae = train_decoder(vae, iter(batches), training, log, save)
    _save(pipeline, folder / "model")


class _Enlargements(IterableDataset):
    def __init__(self, folder: Path, batch_size: int, clips: int) -> None:
        self.folder, self.batch_size, self.clips = folder, batch_size, slice(clips)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        torch.set_num_threads(1)
        return enlargement_lessons(self.folder, self.batch_size, clips=self.clips)


def add_upscaler(
    model: Path,
    folder: Path,
    training: UpscalerTraining,
    clips: GuessSettings,
    log: Callable[[str], None] = print,
) -> None:
    """Give a trained miniature an upscaler, trained on its own frames; the rest of it stays as it is.

    An upscaler that it has already is trained on.

    Args:
        model: the trained miniature, or its name.
        folder: `folder`/enlargements is made and kept, `folder`/model is the result.
        training: how the upscaler is trained.
        clips: on which clips.
        log: receives lines of progress.

    Raises:
        InputError: if the model can't be read, is no miniature or would be overwritten, or if the folder holds clips of
            another one.
        AnyTalkerError: if a gradient is no number.
    """

    def report(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            log(f"enlargements: {done} of {total} clips")

    pipeline = _miniature(model, folder)
    write_enlargements(folder / "enlargements", pipeline, clips, report)
    batches = DataLoader(
        _Enlargements(folder / "enlargements", training.batch_size, clips.clips),
        batch_size=None,
        num_workers=1,
        prefetch_factor=4,
    )
    torch.manual_seed(0)
    if pipeline.vae.upscaler is None:
        pipeline.vae = pipeline.vae.with_upscaler()
    train_upscaler(pipeline.vae.upscaler, iter(batches), training, log)
    pipeline.settings = replace(pipeline.settings, upscale=2)
    _save(pipeline, folder / "model")


def _miniature(model: Path, folder: Path) -> AnyTalkerPipeline:
    """A trained miniature to be changed, whose result goes to `folder`/model."""
    if (folder / "model").resolve() == Path(model).resolve():
        raise InputError(f"{model} is where the result would go; choose another folder than {folder}.")
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    if not isinstance(pipeline.vae, MiniatureAutoencoder):
        raise InputError(f"{model} is no miniature; its autoencoder is a {type(pipeline.vae).__name__}.")
    return pipeline


def _save(pipeline: AnyTalkerPipeline, folder: Path) -> None:
    """Write a model whole or not at all, in place of an earlier one."""
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    pipeline.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


@torch.no_grad()
def measure_latents(vae: MiniatureAutoencoder, clips: int = 100) -> None:
    """Write mean and deviation of the latents of the world's clips into the autoencoder's configuration."""
    settings = CorpusSettings(frames=9)
    latents = []
    for seed in range(clips):
        frames = torch.from_numpy(render_clip(seed, settings).frames)
        pixels = frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents.append(vae.encode(pixels).latent_dist.mode())
    values = torch.cat(latents).transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=values.mean(1).tolist(), latents_std=values.std(1).tolist())


def miniature_features() -> LogMelFeatures:
    """What the miniature hears: four video frames share one of its latent frames."""
    return LogMelFeatures(frame_positions=4)


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


def make_untrained(vae: MiniatureAutoencoder, seed: int = 0) -> AnyTalkerPipeline:
    """The miniature before its training: T5 on bytes with random weights, a small CLIP tower, the transformer."""
    from transformers import ByT5Tokenizer, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

    torch.manual_seed(seed)
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
    features = miniature_features()
    return AnyTalkerPipeline(
        transformer=make_transformer(features),
        vae=vae,
        text_encoder=UMT5EncoderModel(text).eval(),
        tokenizer=tokenizer,
        image_encoder=CLIPVisionModel(image),
        scheduler=make_scheduler(SETTINGS.shift),
        audio_features=features,
        settings=SETTINGS,
    )


def export(model: Path, destination: Path) -> None:
    """Write a trained miniature in half precision, as the package ships it."""
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    for name in ("transformer", "vae", "text_encoder", "image_encoder"):
        getattr(pipeline, name).half()
    for part in (pipeline.transformer, pipeline.vae):
        part.register_to_config(_name_or_path=SETTINGS.name)  # nobody needs to know where it was trained
    pipeline.save_pretrained(destination)
