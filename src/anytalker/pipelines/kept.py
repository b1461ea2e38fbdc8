"""What is kept of a finished video: an edited one makes only the windows and pictures again that it touches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from anytalker.conventions import SAMPLE_RATE
from anytalker.denoising.segments import KeptWindows
from anytalker.denoising.windows import Window
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.hashing import file_digest, short_digest
from anytalker.media.destination import latents_path
from anytalker.media.picture_groups import GROUP, EarlierPictures, KeptFrames
from anytalker.media.video import encoder_options, exact_rate
from anytalker.models.latents import latents_behind
from anytalker.pipelines.inputs import Inputs

_EDITED = ("voices", "frames")
"""What an edit may change of a video's identity."""
_REACH = 1
"""Latent frames beyond a window whose sound its mouths may hear."""


@dataclass(frozen=True)
class EarlierVideo:
    """An earlier video and its latents, and what they were made of.

    Attributes:
        video: the MP4.
        path: of the latents.
        identity: of the video, see `identity_of`.
        windows: those that it was denoised in.
        sounds: for each person one digest of what is heard in each latent frame.
        written: how the MP4 was: its digest, its number of frames, and what was drawn into them.
    """

    video: Path
    path: Path
    identity: dict[str, str]
    windows: list[Window]
    sounds: list[list[str]]
    written: dict[str, Any]

    def unchanged(self, identity: dict[str, str], windows: Sequence[Window], inputs: Inputs) -> KeptWindows:
        """The windows of an edited video in which everybody says the same at the same time.

        Args:
            identity, windows, inputs: of the edited video.

        Raises:
            InputError: if more than the voices changed, so that nothing can be kept.
        """
        names = sorted({*identity, *self.identity} - set(_EDITED))
        changed = [name for name in names if identity.get(name) != self.identity.get(name)]
        if changed:
            raise InputError(
                f"{self.path.name} can't be used: the video was made with other values of {', '.join(changed)}. Give "
                "the same picture, model, seed and options, or leave --edit-of out to make all of it."
            )
        sounds = sound_digests(inputs)
        known = set(self.windows)
        kept = (
            number
            for number, window in enumerate(windows)
            if window in known and _heard(self.sounds, window) == _heard(sounds, window)
        )
        return KeptWindows(frozenset(kept), self._latents)

    def pictures(self, fps: float, drawn: str | None) -> EarlierPictures | None:
        """The pictures of the MP4, if another video can take some of them as they are.

        Args:
            fps: frames a second.
            drawn: into that video's frames, see `Editable`.
        """
        if drawn is None or self.written.get("drawn") != drawn or not self.video.is_file():
            return None
        if file_digest(self.video) != self.written["digest"]:
            return None
        pictures = EarlierPictures(self.video)
        return pictures if pictures.fits(exact_rate(fps), encoder_options(groups=True)) else None

    def stretches(self, vae: Any, latents: torch.Tensor, frames: int) -> list[tuple[bool, KeptFrames]]:
        """The frames of an edited video in order, in stretches of groups that are kept or not.

        A group is kept if all latents that its frames depend on are the same, to the bit.

        Args:
            vae: the autoencoder.
            latents: of the edited video (1, channels, f, h, w), on the CPU.
            frames: of the edited video.
        """
        found: list[tuple[bool, KeptFrames]] = []
        with safe_open(self.path, "pt") as file:
            earlier = file.get_slice("latents")
            before, now = earlier.get_shape()[2], latents.shape[2]
            for start in range(0, frames, GROUP):
                stop = min(start + GROUP, frames)
                first, last = latents_behind(vae, start, stop, now)
                same = stop == min(start + GROUP, self.written["frames"])
                same = same and (first, last) == latents_behind(vae, start, stop, before)
                same = same and torch.equal(earlier[:, :, first:last], latents[:, :, first:last])
                if found and found[-1][0] == same:
                    start = found.pop()[1].start
                found.append((same, KeptFrames(start, stop)))
        return found

    def _latents(self, start: int, stop: int) -> torch.Tensor:
        with safe_open(self.path, "pt") as file:
            return file.get_slice("latents")[:, :, start:stop]


def read_earlier(video: str | Path) -> EarlierVideo:
    """What was kept of a video.

    Raises:
        InputError: if nothing was kept, or it can't be read.
    """
    path = latents_path(video)
    if not path.is_file():
        raise InputError(f"There is no {path}, so {video} can't be edited. Make the video with --keep-latents first.")
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["made_of"])
        windows = [Window(start, stop) for start, stop in about["windows"]]
        sounds, written = [list(one) for one in about["sounds"]], dict(about.get("written", {}))
        return EarlierVideo(Path(video), path, dict(about["identity"]), windows, sounds, written)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Make the video again with --keep-latents.") from error


@dataclass(frozen=True)
class Editable:
    """A video that can be edited later, and may itself be an edited one.

    Attributes:
        identity, windows, inputs: of the video.
        drawn: into all frames alike, such as a label; None: anything else, so that no picture can be kept.
        earlier: the video that it is an edit of.
    """

    identity: dict[str, str]
    windows: Sequence[Window]
    inputs: Inputs
    drawn: str | None
    earlier: EarlierVideo | None = None

    def plan(self, vae: Any, latents: torch.Tensor) -> tuple[EarlierPictures | None, list[tuple[bool, KeptFrames]]]:
        """Where pictures can be copied from, and the stretches of frames in order: whether they are, and which.

        Args:
            vae: the autoencoder.
            latents: (1, channels, f, h, w), on the CPU.
        """
        frames = self.inputs.frames
        pictures = None if self.earlier is None else self.earlier.pictures(self.inputs.fps, self.drawn)
        if self.earlier is None or pictures is None:
            return None, [(False, KeptFrames(0, frames))]
        return pictures, self.earlier.stretches(vae, latents, frames)

    def keep(self, video: Path, written: Path, latents: torch.Tensor) -> None:
        """Write the latents beside a video.

        Args:
            video: where the MP4 goes.
            written: where it is.
            latents: (1, channels, f, h, w), on the CPU.
        """
        about = {
            "identity": self.identity,
            "windows": [(window.start, window.stop) for window in self.windows],
            "sounds": sound_digests(self.inputs),
            "written": {"digest": file_digest(written), "frames": self.inputs.frames, "drawn": self.drawn},
        }
        with atomic_path(latents_path(video)) as partial:
            save_file({"latents": latents.contiguous()}, partial, {"made_of": json.dumps(about)})


def sound_digests(inputs: Inputs) -> list[list[str]]:
    """For each person one digest of what is heard in each latent frame, empty where there is silence."""
    edges = [0, *range(1, inputs.frames + 1, 4)]
    samples = [round(frame / inputs.fps * SAMPLE_RATE) for frame in edges]
    digests = []
    for voice in inputs.voices:
        parts = (np.asarray(voice.waveform[start:stop]) for start, stop in pairwise(samples))
        digests.append([short_digest(part.tobytes()) if part.any() else "" for part in parts])
    return digests


def _heard(sounds: list[list[str]], window: Window) -> list[list[str]]:
    return [person[max(0, window.start - _REACH) : window.stop + _REACH] for person in sounds]
