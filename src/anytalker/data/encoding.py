"""Everything about a clip that training needs, computed once: latents, audio features, text embeddings, face crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image

from anytalker.conditioning.audio_features import AudioFeatures, hear_voices
from anytalker.conditioning.faces import clip_pixels, crop_face
from anytalker.conditioning.log_mel import windows
from anytalker.conditioning.timeline import longest_pause
from anytalker.conventions import Box
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.sound import Sound
from anytalker.models.digest import encoder_digest, weights_digest
from anytalker.models.latents import SETTLED_STILL, encode_video, picture_latents, still_latents

SILENCE = "clips cut to a pause"
"""What the silent part of a sample is; samples of earlier versions had another one."""


@dataclass(frozen=True)
class ClipEncoder:
    """Encodes clips for one model.

    Args:
        vae: its autoencoder.
        audio_features: its features of voices.
        condition: "zeros" or "still", see `PipelineSettings.condition`.
        image_size: side in pixels of its image encoder's input.
    """

    vae: Any
    audio_features: AudioFeatures
    condition: str
    image_size: int

    @property
    def about(self) -> dict[str, Any]:
        """What must be the same for samples that lie in one folder of shards."""
        return {
            "condition": self.condition,
            "image_size": self.image_size,
            "autoencoder": encoder_digest(self.vae),
            "audio_features": features_digest(self.audio_features),
            "silence": SILENCE,
        }

    @torch.no_grad()
    def __call__(
        self,
        frames: np.ndarray,
        voices: Sequence[np.ndarray | None],
        boxes: Sequence[Box],
        fps: float,
        text_embeds: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Tensors of a sample, half precision where it does no harm.

        Args:
            frames: uint8 (4n+1, H, W, 3), sides multiples of 16; frame 0 becomes the picture.
            voices: one 16 kHz waveform (samples,) a person; None: silent.
            boxes: one face box (x, y, width, height) a person, the union over the clip.
            fps: frames a second.
            text_embeds: (L, channels) of the caption, if there is one.

        Returns:
            `latents` (channels, f, h, w); `condition` (channels, 1…f, h, w); `pictures` (1 + N, 3, size, size)
            normalised pixels of picture and face crops; where a lone person pauses `silent_latents`,
            `silent_condition` and `silent_pictures`, the same of the pause, played forth and back, whose first frame is
            then the picture; otherwise `still` (channels, 1…f, h, w), the picture standing still, if the condition
            latents are others; `audio` (N, 4n+1, blocks, channels); `boxes` (N, 4); `voices` int16 (N, samples); and
            `text_embeds` if given.
        """
        heard = np.zeros((len(voices), int(round(len(frames) / fps * SAMPLE_RATE))), np.float32)
        for row, voice in zip(heard, voices, strict=True):
            if voice is not None:
                row[: len(voice)] = voice[: len(row)]
        sample = self._seen(frames, boxes)
        pause = longest_pause(heard, len(frames), fps) if len(voices) == 1 else None
        if pause is not None:
            quiet = self._seen(frames[forth_and_back(pause, len(frames))], boxes)
            sample |= {f"silent_{name}": value for name, value in quiet.items()}
        elif self.condition != "still":
            sample["still"] = self._condition(frames, "still").half()
        sample |= {
            "audio": self._rows(voices, heard, len(frames), fps).cpu().half(),
            "voices": torch.from_numpy((heard.clip(-1, 1) * 32767).astype(np.int16)),
            "boxes": torch.tensor(boxes, dtype=torch.float32),
        }
        return sample | ({} if text_embeds is None else {"text_embeds": text_embeds.half()})

    def _rows(self, voices: Sequence[np.ndarray | None], heard: np.ndarray, frames: int, fps: float) -> torch.Tensor:
        """Audio features (N, frames, blocks, channels) as generation has them."""
        recordings = [row[: 0 if voice is None else len(voice)] for row, voice in zip(heard, voices, strict=True)]
        sounds = [Sound(recording).placed(0, heard.shape[1]) for recording in recordings]
        return hear_voices(self.audio_features, sounds, frames, fps, "pad").rows[:, :frames]

    def _seen(self, frames: np.ndarray, boxes: Sequence[Box]) -> dict[str, torch.Tensor]:
        """`latents`, `condition` and `pictures` of frames."""
        picture = Image.fromarray(frames[0])
        crops = [crop_face(picture, [int(round(value)) for value in box]) for box in boxes]
        return {
            "latents": encode_video(self.vae, self._pixels(frames))[0].cpu().half(),
            "condition": self._condition(frames, self.condition).half(),
            "pictures": clip_pixels([picture, *crops], self.image_size).half(),
        }

    def _pixels(self, frames: np.ndarray) -> torch.Tensor:
        return (torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1).to(self.vae.device)

    def _condition(self, frames: np.ndarray, kind: str) -> torch.Tensor:
        """Condition latents of the first frame, cut after those that the rest repeats."""
        picture, count = self._pixels(frames[:1]), (len(frames) - 1) // 4 + 1
        if kind != "still":
            return picture_latents(self.vae, picture, count)[0].cpu()
        still = still_latents(self.vae, picture, min(count, SETTLED_STILL))[0].cpu()
        return still[:, :1] if torch.equal(still[:, :1].expand_as(still), still) else still


def features_digest(features: AudioFeatures) -> str:
    """A short string that is the same if and only if voices are heard the same: of its weights, or its settings."""
    if isinstance(features, torch.nn.Module):
        return f"{weights_digest(features, torch.float16)} of recordings"
    return " ".join(f"{name}={value}" for name, value in sorted(vars(features).items()) if not name.startswith("_"))


def forth_and_back(frames: range, count: int) -> list[int]:
    """`count` of at least two frames, from the first to the last and back and so on (release: silent people)."""
    path = [*frames, *frames[-2:0:-1]]
    return [path[index % len(path)] for index in range(count)]


@dataclass(frozen=True)
class Seen:
    """What is to be seen of N people.

    Attributes:
        latents: (channels, f, h, w) normalised video latents; latent frame 0 is the picture.
        condition: (channels, f, h, w) latents of the picture as the pipeline gives them to the transformer.
        picture: (3, size, size) pixels of the picture, normalised as the image encoder wants them.
        faces: (N, 3, size, size) the same for the face crops.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    picture: torch.Tensor
    faces: torch.Tensor


@dataclass(frozen=True)
class Clip(Seen):
    """A clip of N people as training sees it.

    Attributes:
        silent: the same people while nobody speaks: the longest pause played forth and back, its first frame the
            picture, or the clip's picture standing still where there is no pause.
        audio: (N, 4(f-1)+1, window, blocks, channels) audio features, row 0 belongs to the picture.
        silence: (4(f-1)+1, window, blocks, channels) those of a person without a voice.
        boxes: one face box (x, y, width, height) a person, in pixels.
        pauses: whether `silent` is a pause.
        text_embeds: (L, channels) of the caption; None if there is no caption.
    """

    silent: Seen
    audio: torch.Tensor
    silence: torch.Tensor
    boxes: tuple[Box, ...]
    pauses: bool = False
    text_embeds: torch.Tensor | None = None

    @classmethod
    def from_sample(cls, sample: dict[str, Any], window: int, silence: torch.Tensor | None = None) -> Clip:
        """From what `ClipEncoder` made; `window` audio frames are put around each frame again.

        Args:
            sample: tensors of a clip.
            window: audio frames a window of the model.
            silence: `silent_rows` of a clip as long as this one; None: zero, as log-mel features have it.
        """
        seen = _seen(sample)
        pauses = "silent_latents" in sample
        if pauses:
            silent = _seen({name: sample[f"silent_{name}"] for name in ("latents", "condition", "pictures")})
        else:
            still = sample["still"] if "still" in sample else sample["condition"]
            silent = replace(seen, latents=_held(still.float(), seen.latents.shape[1]))
        return cls(
            **vars(seen),
            silent=silent,
            audio=torch.stack([windows(rows, window) for rows in sample["audio"].float()]),
            silence=windows(torch.zeros_like(sample["audio"][0]).float() if silence is None else silence, window),
            boxes=tuple(tuple(box) for box in sample["boxes"].tolist()),  # type: ignore[arg-type]
            pauses=pauses,
            text_embeds=sample["text_embeds"].float() if "text_embeds" in sample else None,
        )


def _seen(sample: dict[str, Any]) -> Seen:
    latents, pictures = sample["latents"].float(), sample["pictures"].float()
    return Seen(latents, _held(sample["condition"].float(), latents.shape[1]), pictures[0], pictures[1:])


def _held(latents: torch.Tensor, frames: int) -> torch.Tensor:
    """(channels, up to `frames`, h, w) with the last latent frame repeated until there are that many."""
    missing = frames - latents.shape[1]
    return torch.cat([latents, latents[:, -1:].expand(-1, missing, -1, -1)], dim=1)
