"""Clips of the drawn world with their voices and exact truth: single people, and people who talk to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset

from anytalker.conventions import Box
from anytalker.data.encoding import ClipEncoder
from anytalker.data.records import ClipPerson, ClipRecord
from anytalker.data.shards import INDEX, ShardWriter, read_index
from anytalker.errors import InputError
from anytalker.miniature.voices.augmentation import augment
from anytalker.miniature.voices.speech import SAMPLE_RATE, random_utterance, resample_visemes
from anytalker.miniature.world.behaviour import converse, talk
from anytalker.miniature.world.finish import finish, lifelike
from anytalker.miniature.world.people import FaceState
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene


@dataclass(frozen=True)
class CorpusSettings:
    """Size and shape of a corpus.

    Attributes:
        clips: number of clips.
        persons: people a clip; one talks alone, more talk to each other.
        frames: video frames a clip, 4n+1; frame 0 is the neutral picture, the others any moment of speech.
        size: height of a clip in pixels, and width for each person.
        fps: video frames a second.
        silent_share: share of the single clips in which nobody speaks.
        room: width of the frame for each person, in units of its height, at least 1; the person stands anywhere in it.
        window: only the face-centred part of a single clip's frame that is as wide as it is high, for joining.
        unseen: people and utterances that training never meets; the synthesiser that speaks them is the same.
        finished: share of the clips that look less drawn, see `world.finish`.
    """

    clips: int = 2000
    persons: int = 1
    frames: int = 65
    size: int = 128
    fps: float = 24.0
    silent_share: float = 0.08
    unseen: bool = False
    room: float = 1.0
    window: bool = False
    finished: float = 0.0


@dataclass(frozen=True)
class RenderedClip:
    """A clip before it is encoded.

    Attributes:
        scene: who is there and where.
        frames: uint8 (T, H, W, 3).
        voices: one 16 kHz waveform (samples,) a person.
        boxes: one face box a person.
        states: the truth, for each person one state a frame.
    """

    scene: Scene
    frames: np.ndarray
    voices: list[np.ndarray]
    boxes: list[Box]
    states: list[list[FaceState]]


def render_clip(seed: int, settings: CorpusSettings) -> RenderedClip:
    """Render one clip; the same seed gives the same clip.

    Voices are augmented (noise, room, gain); lips follow the clean voice. The window of a clip shows the same person
    say the same as the whole of it.

    Raises:
        ValueError: if a window is wanted of a clip of several people.
    """
    if settings.window and settings.persons > 1:
        raise ValueError(f"A window shows one person, not {settings.persons}.")
    rng = np.random.default_rng([seed, 11, settings.persons, int(settings.unseen)])
    first = UNSEEN_SEED if settings.unseen else 0
    scene = Scene.random(settings.persons, first + int(rng.integers(UNSEEN_SEED)), settings.room)
    finishing = np.random.default_rng([seed, 13, settings.persons, int(settings.unseen)])
    finished = finishing.random() < settings.finished
    if finished:
        scene = replace(scene, people=[lifelike(person, finishing) for person in scene.people])
    if settings.persons == 1:
        voices, visemes = _monologue(rng, settings)
        states = [talk(visemes[0], settings.fps, rng, scene.gazes[0])]
    else:
        voices, visemes = _conversation(rng, settings)
        states = converse(visemes, settings.fps, rng, scene.gazes)
    for index, person in enumerate(states):
        person[0] = scene.neutral(index)
    frames = np.stack(list(scene.render(states, settings.size)))
    boxes: list[Box] = list(scene.boxes(settings.size))
    if finished:
        frames = finish(frames, boxes, finishing)
    if settings.window:
        frames, boxes[0] = _window(frames, boxes[0])
    return RenderedClip(scene, frames, voices, boxes, states)


def _window(frames: np.ndarray, box: Box) -> tuple[np.ndarray, Box]:
    """The square around a face, as high as the frames (T, H, W, 3), and the face's box in it."""
    side, width = frames.shape[1:3]
    left = int(np.clip(box[0] + box[2] // 2 - side // 2, 0, width - side))
    return np.ascontiguousarray(frames[:, :, left : left + side]), (box[0] - left, box[1], box[2], box[3])


def _monologue(rng: np.random.Generator, settings: CorpusSettings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A voice that starts at a random moment of the clip or before it, or silence."""
    seconds = settings.frames / settings.fps
    waveform = np.zeros(int(round(seconds * SAMPLE_RATE)), dtype=np.float32)
    visemes = np.zeros((settings.frames, 4), dtype=np.float32)
    if rng.random() >= settings.silent_share:
        utterance = random_utterance(rng, 0.6 * seconds, 1.6 * seconds)
        start = int(rng.uniform(-0.4, 0.35) * seconds * settings.fps)
        place(utterance.waveform, utterance.visemes, start, waveform, visemes, settings.fps)
        waveform = augment(waveform, rng)
    return [waveform], [visemes]


def _conversation(rng: np.random.Generator, settings: CorpusSettings) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Turns in random order, some overlapping, with pauses between others."""
    seconds = settings.frames / settings.fps
    voices = [np.zeros(int(round(seconds * SAMPLE_RATE)), dtype=np.float32) for _ in range(settings.persons)]
    visemes = [np.zeros((settings.frames, 4), dtype=np.float32) for _ in voices]
    moment, speaker = rng.uniform(-0.8, 0.3), int(rng.integers(settings.persons))
    while moment < seconds - 0.3:
        utterance = random_utterance(rng, 0.7, 1.8)
        place(
            utterance.waveform,
            utterance.visemes,
            int(moment * settings.fps),
            voices[speaker],
            visemes[speaker],
            settings.fps,
        )
        moment += utterance.seconds + rng.uniform(-0.35, 0.4)
        speaker = (speaker + int(rng.integers(1, settings.persons))) % settings.persons
    return [augment(voice, rng) if voice.any() else voice for voice in voices], visemes


def place(
    spoken: np.ndarray, shapes: np.ndarray, start: int, waveform: np.ndarray, visemes: np.ndarray, fps: float
) -> None:
    """Write an utterance's sound and visemes into a clip's from frame `start` on, which may lie before the clip."""
    frames, skip = len(visemes), max(0, -start)
    first = max(0, start)
    length = min(frames - first, int(np.ceil(len(spoken) / SAMPLE_RATE * fps)) - skip)
    if length <= 0:
        return
    aligned = resample_visemes(shapes, skip + length, fps)[skip:]
    visemes[first : first + length] = np.where(aligned[:, :1] > 0, aligned, visemes[first : first + length])
    begin, cut = int(round(first / fps * SAMPLE_RATE)), int(round(skip / fps * SAMPLE_RATE))
    heard = spoken[cut : cut + len(waveform) - begin]
    waveform[begin : begin + len(heard)] += heard


class Renders(IterableDataset):
    """Renders clips in a worker process, so that encoding never waits."""

    def __init__(self, seeds: Sequence[int], settings: CorpusSettings) -> None:
        self.seeds, self.settings = seeds, settings

    def __iter__(self) -> Iterator[tuple[int, RenderedClip]]:
        torch.set_num_threads(1)
        for seed in self.seeds:
            yield seed, render_clip(seed, self.settings)


def build_corpus(
    folder: Path,
    settings: CorpusSettings,
    encoder: ClipEncoder,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    clips_per_shard: int = 50,
) -> None:
    """Render and encode a corpus into shards; clips already there are kept, also where there were to be fewer.

    Every sample also holds the truth: `openings` and `gazes` (N, T).

    Raises:
        InputError: if the folder holds clips of other settings.
    """
    about = asdict(settings) | encoder.about
    del about["clips"]
    if (folder / INDEX).exists():
        index = read_index(folder)
        if index["about"] != about:
            raise InputError(f"{folder} holds clips of other settings or of another autoencoder; remove it.")
        if sum(shard["samples"] for shard in index["shards"]) >= settings.clips:
            return
    with ShardWriter(folder, clips_per_shard, about) as writer:
        seeds = [seed for seed in range(settings.clips) if f"{seed:08d}" not in writer.keys]
        for seed, clip in DataLoader(Renders(seeds, settings), batch_size=None, num_workers=1, prefetch_factor=4):
            tensors = encoder(clip.frames, clip.voices, clip.boxes, settings.fps)
            tensors["openings"] = torch.tensor([[state.opening for state in person] for person in clip.states])
            tensors["gazes"] = torch.tensor([[state.gaze[0] for state in person] for person in clip.states])
            writer.write(f"{seed:08d}", clip_record(seed, clip, settings).model_dump(), tensors)
            on_progress(seed + 1, settings.clips)


def clip_record(seed: int, clip: RenderedClip, settings: CorpusSettings) -> ClipRecord:
    """The record of a rendered clip, which lies in no file."""
    frames, height, width = clip.frames.shape[:3]
    persons = [
        ClipPerson(audio_path=f"{seed}.{index}" if voice.any() else None, face_boxes=[clip.boxes[index]])
        for index, voice in enumerate(clip.voices)
    ]
    return ClipRecord(
        video_path=f"miniature:{seed}", n_frames=frames, width=width, height=height, fps=settings.fps, persons=persons
    )
