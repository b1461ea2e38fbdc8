"""The files that the pages' commands take for granted: a user's pictures, recordings, videos and models."""

from __future__ import annotations

import json
import shutil
import wave
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from anytalker.media.pictures import load_image
from anytalker.media.recordings import load_audio, write_wave
from anytalker.media.video import write_video
from anytalker.miniature.demo import write_picture
from anytalker.miniature.voices.speech import SAMPLE_RATE, random_utterance
from anytalker.timeline.recording import voice_samples
from anytalker.timeline.script import parse_script
from anytalker.timeline.spoken import timeline_of_script
from anytalker.timeline.streams import streams
from tests.curation.drawn_dataset import make_dataset
from tests.docs.pages import ROOT, blocks
from tests.evaluation.test_run import write_clip
from tests.loading.full_size import small_parts
from tests.loading.published import CONFIGS, LARGE, OWN, SMALL, make_quick, write_tree

VOICES = ("anna.wav", "ben.wav", "a.wav", "b.wav", "c.wav")
SENTENCE = "Did you see the game last night?"
PICTURES = {"two.png": 2, "group.png": 3}


def write_scene(folder: Path) -> None:
    """Pictures without a record of their faces, and recordings of less than half a second."""
    folder.mkdir()
    for name, persons in PICTURES.items():
        write_picture(persons, 1_000_003, folder / name)
        (folder / name).with_suffix(".json").unlink()
    rng = np.random.default_rng(3)
    for name in VOICES:
        samples = random_utterance(rng, 0.35, 0.45).waveform
        with wave.open(str(folder / name), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((samples * 32767).astype("<i2").tobytes())


def add_jobs(folder: Path) -> None:
    """The batch that the page prints."""
    page = (ROOT / "docs" / "memory_and_batches.md").read_text(encoding="utf-8")
    printed = next(block for block in blocks(page) if block.language == "json")
    (folder / "jobs.json").write_text(printed.text)
    theirs = {"cond_image": "two.png", "cond_audio": {"person1": "anna.wav", "person2": "ben.wav"}, "prompt": "a talk"}
    (folder / "multitalk.json").write_text(json.dumps(theirs))


def add_recordings(folder: Path) -> None:
    """A video of somebody who talks, and a recording with a voice on each side."""
    voices = [load_audio(folder / name) for name in ("anna.wav", "ben.wav")]
    length = max(map(len, voices))
    sides = np.stack([np.pad(voice, (0, length - len(voice))) for voice in voices], axis=1)
    with wave.open(str(folder / "talk.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sides * 32767).astype("<i2").tobytes())
    pixels = np.asarray(load_image(folder / "two.png"), dtype=np.float32)[None] / 255
    write_video(folder / "film.mp4", pixels.repeat(13, axis=0), 24.0, sides.mean(axis=1).astype(np.float32))


def add_conversation(folder: Path) -> None:
    """A script, and a recording in which Anna and Ben take turns."""
    (folder / "script.txt").write_text("Anna: Hello!\nBen: Oh, hi.\n", encoding="utf-8")
    spoken = timeline_of_script(parse_script(f"Anna: {SENTENCE}\nBen: {SENTENCE}"))
    voices = [voice[:] for voice in streams(spoken)]
    write_wave(folder / "podcast.wav", voices[0] + voices[1])
    for name, voice in voice_samples(spoken, voices).items():
        write_wave(folder / f"{name.lower()}.wav", voice)


def add_models(folder: Path) -> None:
    """The published tree and a trained model, small, and a checkpoint that somebody put beside its configuration."""
    tree = write_tree(folder / "checkpoints")
    for name in (SMALL, LARGE):
        make_quick(tree / OWN / name)
    for name in (SMALL, CONFIGS[SMALL]):
        shutil.copy(tree / OWN / name, folder)
    small_parts("A")["transformer"].save_pretrained(folder / "runs" / "mine" / "model" / "transformer")


def add_videos(folder: Path) -> None:
    """Generated videos, and the real ones of the same names with all that may be known of them."""
    for name in ("outputs", "real", "tracks", "voices"):
        (folder / name).mkdir()
    write_clip(folder / "outputs", "talk", 11, 2, 49)
    for file in (folder / "outputs" / "voices").iterdir():
        file.rename(folder / "voices" / file.name)
    (folder / "outputs" / "voices").rmdir()
    shutil.copy(folder / "outputs" / "talk.mp4", folder / "real")
    (folder / "outputs" / "talk.tracks.safetensors").rename(folder / "tracks" / "talk.tracks.safetensors")
    (folder / "speaker_duration.json").write_text('{"talk": [[[0.0, 1.0]], [[1.0, 2.0]]]}')


def add_configurations(folder: Path) -> None:
    """The runs that come with the sources."""
    shutil.copytree(ROOT / "configs", folder / "configs")


def add_dataset(folder: Path) -> None:
    """A dataset of talk.mp4, as a curation leaves it."""
    make_dataset(folder / "footage", folder / "dataset")


def add_adapters(folder: Path) -> None:
    """Two adapters for the miniature, with Wan's names."""
    generator = torch.Generator().manual_seed(0)
    for name in ("style", "motion"):
        sides = {"lora_A": (2, 192), "lora_B": (192, 2)}
        save_file(
            {
                f"diffusion_model.blocks.0.self_attn.q.{side}.weight": 0.1 * torch.randn(shape, generator=generator)
                for side, shape in sides.items()
            },
            folder / f"{name}.safetensors",
        )


ADDED = {
    "conversations.md": add_conversation,
    "curation.md": add_dataset,
    "diffusers.md": add_adapters,
    "inputs.md": add_recordings,
    "memory_and_batches.md": add_jobs,
    "models.md": add_models,
    "training.md": add_configurations,
    "evaluation.md": add_videos,
}
"""What else a page needs."""
