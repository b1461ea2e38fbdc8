"""What a call of the pipeline returns: frames in the form that was asked for, of one video or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from anytalker.errors import InputError
from anytalker.pipelines.prepared_video import PreparedVideo
from anytalker.pipelines.result import TalkingVideo, frames_as

OutputType = Literal["np", "pil", "pt", "latent"]
NoiseSources = tuple[torch.Generator | None, torch.Tensor | None]
"""Where a video's noise comes from: a generator, or noise (1, 16, f, h, w); both None: at random."""


@dataclass(frozen=True)
class TalkingVideos(TalkingVideo):
    """Several videos of the same people and voices.

    Attributes:
        videos: each of them.
        frames: those of all, see `AnyTalkerPipeline.__call__`.
        inputs, model, choices, seconds: of the first one.
    """

    videos: tuple[TalkingVideo, ...] = ()

    @classmethod
    def of(cls, videos: Sequence[TalkingVideo]) -> TalkingVideos:
        """Videos together."""
        first, frames = videos[0], [video.frames for video in videos]
        joined: Any = frames
        if isinstance(frames[0], torch.Tensor):
            joined = torch.cat(frames) if frames[0].ndim == 5 else torch.stack(frames)
        elif isinstance(frames[0], np.ndarray):
            joined = np.stack(frames)
        values = {known.name: getattr(first, known.name) for known in fields(TalkingVideo)} | {"frames": joined}
        return cls(**values, videos=tuple(videos))

    def save(self, path: str | Path) -> Path:
        """Refused: every one of `videos` is saved by itself.

        Raises:
            InputError: always.
        """
        raise InputError(f"These are {len(self.videos)} videos; save each of .videos by itself.")


def check_outputs(output_type: str, count: int) -> None:
    """Make sure that so many videos can be given in that form.

    Raises:
        InputError: if not.
    """
    if output_type not in get_args(OutputType):
        raise InputError(f"output_type is {output_type!r}; it must be one of {', '.join(get_args(OutputType))}.")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise InputError(f"num_videos_per_prompt is {count!r}; it must be a whole number from 1 up.")


def shared_out(
    generator: torch.Generator | Sequence[torch.Generator] | None, latents: torch.Tensor | None, count: int
) -> list[NoiseSources]:
    """Where the noise of each of `count` videos comes from.

    Args:
        generator: one for all, which goes on from video to video, or one a video.
        latents: noise (1, 16, f, h, w) for all, or (count, 16, f, h, w); None: it is drawn.
        count: videos.

    Raises:
        InputError: if there are more or fewer.
    """
    shared = generator is None or isinstance(generator, torch.Generator)
    generators: Sequence[Any] = [generator] * count if shared else generator  # type: ignore[assignment,list-item]
    if len(generators) != count:
        raise InputError(f"{len(generators)} generators were given for {count} videos; give one, or as many.")
    if latents is None:
        return [(one, None) for one in generators]
    if latents.shape[0] not in (1, count):
        raise InputError(f"latents hold noise for {latents.shape[0]} videos; give it for one, or for {count}.")
    each = latents.expand(count, *latents.shape[1:]).split(1)
    return list(zip(generators, each, strict=True))


def finish(video: PreparedVideo, output_type: OutputType) -> TalkingVideo:
    """Denoise and decode a prepared video."""
    latents = list(video.denoise())
    if output_type == "latent":
        return video.result(torch.cat(latents, dim=2))
    made = video.collect(video.decode(latents))
    return video.result(frames_as(made.frames, output_type))
