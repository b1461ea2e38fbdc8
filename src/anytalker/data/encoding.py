"""Everything about a clip that training needs, computed once: latents, audio features, text embeddings, face crops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from anytalker.conditioning.audio import SAMPLE_RATE
from anytalker.conditioning.audio_features import AudioFeatures, audio_rows
from anytalker.conditioning.faces import clip_pixels, crop_face
from anytalker.conditioning.log_mel import windows
from anytalker.conditioning.timeline import longest_pause
from anytalker.data.records import Box
from anytalker.models.digest import encoder_digest
from anytalker.models.latents import SETTLED_STILL, encode_video, picture_latents, still_latents


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
            "silence": "pauses",
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
            `latents` (channels, f, h, w), `condition` (channels, 1…f, h, w), `still` (channels, 1…f, h, w) where the
            condition latents are others than the picture standing still, `silent` (channels, f, h, w) where a lone
            person pauses, see `Clip`, `audio` (N, 4n+1, blocks, channels),
            `pictures` (1 + N, 3, size, size) normalised pixels of picture and face crops, `boxes` (N, 4), `voices`
            int16 (N, samples), and `text_embeds` if given.
        """
        pixels = (torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1).to(self.vae.device)
        latents = encode_video(self.vae, pixels)[0].cpu()
        still = still_latents(self.vae, pixels[:, :, :1], min(latents.shape[1], SETTLED_STILL))[0].cpu()
        if torch.equal(still[:, :1].expand_as(still), still):
            still = still[:, :1]
        settled = {"condition": still.half()}
        if self.condition != "still":
            condition = picture_latents(self.vae, pixels[:, :, :1], latents.shape[1])[0].cpu()
            settled = {"condition": condition.half(), "still": still.half()}
        heard = np.zeros((len(voices), int(round(len(frames) / fps * SAMPLE_RATE))), np.float32)
        for row, voice in zip(heard, voices, strict=True):
            if voice is not None:
                row[: len(voice)] = voice[: len(row)]
        rows = [audio_rows(self.audio_features, voice, len(frames), fps) for voice in heard]
        pause = longest_pause(heard, len(frames), fps) if len(voices) == 1 else None
        if pause is not None:
            quiet = pixels[:, :, [0, *forth_and_back(pause, len(frames) - 1)]]
            settled["silent"] = encode_video(self.vae, quiet)[0].cpu().half()
        picture = Image.fromarray(frames[0])
        crops = [crop_face(picture, [int(round(value)) for value in box]) for box in boxes]
        sample = {
            "latents": latents.half(),
            **settled,
            "audio": torch.stack(rows).cpu().half(),
            "pictures": clip_pixels([picture, *crops], self.image_size).half(),
            "voices": torch.from_numpy((heard.clip(-1, 1) * 32767).astype(np.int16)),
            "boxes": torch.tensor(boxes, dtype=torch.float32),
        }
        return sample | ({} if text_embeds is None else {"text_embeds": text_embeds.half()})


def forth_and_back(frames: range, count: int) -> list[int]:
    """`count` of at least two frames, from the first to the last and back and so on (release: silent people)."""
    path = [*frames, *frames[-2:0:-1]]
    return [path[index % len(path)] for index in range(count)]


@dataclass(frozen=True)
class Clip:
    """A clip of N people as training sees it.

    Attributes:
        latents: (channels, f, h, w) normalised video latents; latent frame 0 is the picture.
        condition: (channels, f, h, w) latents of the picture as the pipeline gives them to the transformer.
        silent: (channels, f, h, w) latents of the same people while nobody speaks: the longest pause played forth and
            back, or the picture standing still where there is none.
        audio: (N, 4(f-1)+1, window, blocks, channels) audio features, row 0 belongs to the picture.
        silence: (4(f-1)+1, window, blocks, channels) those of a person without a voice.
        picture: (3, size, size) pixels of the picture, normalised as the image encoder wants them.
        faces: (N, 3, size, size) the same for the face crops.
        boxes: one face box (x, y, width, height) a person, in pixels.
        pauses: whether `silent` is a pause.
        text_embeds: (L, channels) of the caption; None if there is no caption.
    """

    latents: torch.Tensor
    condition: torch.Tensor
    silent: torch.Tensor
    audio: torch.Tensor
    silence: torch.Tensor
    picture: torch.Tensor
    faces: torch.Tensor
    boxes: tuple[Box, ...]
    pauses: bool = False
    text_embeds: torch.Tensor | None = None

    @classmethod
    def from_sample(cls, sample: dict[str, Any], window: int, silence: torch.Tensor | None = None) -> Clip:
        """From what `ClipEncoder` made; `window` audio frames are put around each frame again.

        Args:
            sample: tensors of a clip.
            window: audio frames a window of the model.
            silence: `silent_rows` of a clip as long as this one; None: nought, as log-mel features have it.
        """
        latents = sample["latents"].float()
        condition = _held(sample["condition"].float(), latents.shape[1])
        quiet = next(sample[name] for name in ("silent", "still", "condition") if name in sample)
        return cls(
            latents=latents,
            condition=condition,
            silent=_held(quiet.float(), latents.shape[1]),
            audio=torch.stack([windows(rows, window) for rows in sample["audio"].float()]),
            silence=windows(torch.zeros_like(sample["audio"][0]).float() if silence is None else silence, window),
            picture=sample["pictures"][0].float(),
            faces=sample["pictures"][1:].float(),
            boxes=tuple(tuple(box) for box in sample["boxes"].tolist()),  # type: ignore[arg-type]
            pauses="silent" in sample,
            text_embeds=sample["text_embeds"].float() if "text_embeds" in sample else None,
        )


def _held(latents: torch.Tensor, frames: int) -> torch.Tensor:
    """(channels, up to `frames`, h, w) with the last latent frame repeated until there are that many."""
    missing = frames - latents.shape[1]
    return torch.cat([latents, latents[:, -1:].expand(-1, missing, -1, -1)], dim=1)
