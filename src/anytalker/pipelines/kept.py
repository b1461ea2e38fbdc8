"""Latents that are kept beside a finished video: an edited one makes only the windows again that it touches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from anytalker.conventions import SAMPLE_RATE
from anytalker.denoising.segments import KeptWindows
from anytalker.denoising.windows import Window
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.hashing import short_digest
from anytalker.media.destination import latents_path
from anytalker.pipelines.inputs import Inputs

_EDITED = ("voices", "frames")
"""What an edit may change of a video's identity."""
_REACH = 1
"""Latent frames beyond a window whose sound its mouths may hear."""


@dataclass(frozen=True)
class EarlierVideo:
    """The latents of an earlier video, and what they were made of.

    Attributes:
        path: of the latents.
        identity: of the video, see `identity_of`.
        windows: those that it was denoised in.
        sounds: for each person one digest of what is heard in each latent frame.
    """

    path: Path
    identity: dict[str, str]
    windows: list[Window]
    sounds: list[list[str]]

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
        return EarlierVideo(path, dict(about["identity"]), windows, [list(one) for one in about["sounds"]])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}). Make the video again with --keep-latents.") from error


def keep_latents(
    video: Path, latents: Sequence[torch.Tensor], identity: dict[str, str], windows: Sequence[Window], inputs: Inputs
) -> None:
    """Write the latents of a video beside it.

    Args:
        video: the MP4.
        latents: parts (1, channels, n, h, w), in order.
        identity, windows, inputs: of the video.
    """
    about = {
        "identity": identity,
        "windows": [(window.start, window.stop) for window in windows],
        "sounds": sound_digests(inputs),
    }
    joined = torch.cat([part.cpu() for part in latents], dim=2).contiguous()
    with atomic_path(latents_path(video)) as partial:
        save_file({"latents": joined}, partial, {"made_of": json.dumps(about)})


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
