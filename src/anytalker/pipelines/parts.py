"""Parts of an unfinished video, kept on disk so that the same command continues where it stopped."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.hashing import ShortDigest
from anytalker.media.destination import STATE
from anytalker.media.sound import Sound
from anytalker.models.digest import weights_digest

INTERVAL = 20.0
"""Seconds of work between two savings; what takes less leaves nothing on disk."""
VIDEO = "video.mp4"
"""Name of the video among the parts while it is written."""
_LATENTS = "latents-*.safetensors"
_REST = 20
"""Saving takes at most one part in so many of the time."""


class Parts:
    """A folder with finished latents and the state of the others.

    The state is written last and at once; latents that it doesn't know of yet are made again. So the folder can be
    left at any moment.

    Args:
        folder: made with the first saving.
        identity: what the video is made of, see `identity_of`; parts of another video are not used.
        interval: seconds between savings, longer where saving itself takes long; 0: save after every step.
        clock: tells the time in seconds.
        fingerprint: what the command line knows the video by before anything is loaded.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, str],
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        fingerprint: str | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.folder, self.identity, self.interval, self.clock = folder, identity, interval, clock
        self.finished = 0
        self._due = clock() + interval
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder} is in the way: parts of the video go into a folder of that name. Move it.")

    @property
    def exist(self) -> bool:
        """Whether there is a saved state to continue from."""
        return (self.folder / STATE).exists()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.clock() >= self._due

    def load(self) -> tuple[dict[str, torch.Tensor] | None, str | None]:
        """The saved state if it belongs to this video, and what to tell the user.

        Parts that can't be used are removed.
        """
        if not self.exist:
            self.remove()
            return None, None
        try:
            with safe_open(self.folder / STATE, "pt") as file:
                known = json.loads(file.metadata()["identity"])
                finished = int(file.metadata()["finished"])
            changed = sorted(key for key in {*known, *self.identity} if known.get(key) != self.identity.get(key))
            if changed:
                self.remove()
                return None, f"{self.folder} held parts of another video ({', '.join(changed)} changed); starting anew."
            # Copies: Windows can't replace a file that tensors are still mapped from.
            state = {name: tensor.clone() for name, tensor in load_file(self.folder / STATE).items()}
            self._keep(finished)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            self.remove()
            return None, f"The parts in {self.folder} are damaged ({error}); starting anew."
        self.finished = finished
        return state, None

    def save(self, latents: list[torch.Tensor], state: dict[str, torch.Tensor]) -> None:
        """Add finished latents, each (1, channels, n, h, w), and replace the state.

        Raises:
            OSError: if they can't be written; what was saved before is kept.
        """
        started, finished = self.clock(), self.finished
        self.folder.mkdir(exist_ok=True)
        try:
            if latents:
                joined = torch.cat(latents, dim=2).cpu().contiguous()
                _write(self.folder / _LATENTS.replace("*", f"{finished:08d}"), {"latents": joined})
                finished += joined.shape[2]
            metadata = {"identity": json.dumps(self.identity), "finished": str(finished)}
            if self.fingerprint is not None:
                metadata["fingerprint"] = self.fingerprint
            _write(self.folder / STATE, state, metadata)
        except BaseException:
            if not self.exist:
                self.remove()
            raise
        self.finished = finished
        now = self.clock()
        self._due = now + (max(self.interval, _REST * (now - started)) if self.interval else 0)

    def read(self) -> Iterator[torch.Tensor]:
        """The finished latents (1, channels, n, h, w), in order, a file at a time."""
        for path in self._files():
            yield load_file(path)["latents"]

    def remove(self) -> None:
        """Remove what this class has written, and the folder if nothing else is in it."""
        if not self.folder.is_dir():
            return
        # The state first: whatever is left without it is known to be nothing.
        known = (_LATENTS, VIDEO, ".*.partial*")
        for path in [self.folder / STATE, *(path for name in known for path in self.folder.glob(name))]:
            path.unlink(missing_ok=True)
        self.finished = 0
        with suppress(OSError):
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(_LATENTS))

    def _keep(self, finished: int) -> None:
        """Drop what the state doesn't know of, and make sure that the rest is there."""
        reached = 0
        for path in self._files():
            if int(path.stem.partition("-")[2]) >= finished:
                path.unlink()
                continue
            with safe_open(path, "pt") as file:
                start, count = int(path.stem.partition("-")[2]), file.get_slice("latents").get_shape()[2]
            if start != reached:
                raise ValueError(f"latent frames {reached} to {start} are missing")
            reached += count
        if reached != finished:
            raise ValueError(f"latent frames {reached} to {finished} are missing")
        for path in self.folder.glob(".*.partial*"):
            path.unlink()


def _write(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    with atomic_path(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # the system's error, of which only the text is left
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), str(error), str(path)) from error


def identity_of(values: dict[str, Any], modules: dict[str, Any]) -> dict[str, str]:
    """What a video is made of, as short strings that are the same if and only if it is the same.

    Args:
        values: arrays, sounds, tensors and lists of them are hashed, anything else is written out.
        modules: models; of each tensor of their weights name, shape, type and 256 values count.
    """
    return {name: _described(value) for name, value in values.items()} | {
        name: weights_digest(module) for name, module in modules.items() if isinstance(module, torch.nn.Module)
    }


def _described(value: Any) -> str:
    if isinstance(value, (list, tuple)) and any(isinstance(one, (np.ndarray, Sound)) for one in value):
        return " ".join(_described(one) for one in value)
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if not isinstance(value, (np.ndarray, Sound)):
        return str(value)
    digest, size = ShortDigest([str(value.shape)]), 2**20
    for start in range(0, len(value), size):
        digest.add(np.ascontiguousarray(value[start : start + size]).data)
    return str(digest)
