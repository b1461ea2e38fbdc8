"""Features of voices behind one interface: wav2vec2 as in the release, log-mel spectra for the miniature."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from anytalker.conditioning.log_mel import LogMelFeatures, windows
from anytalker.errors import InputError
from anytalker.media.recordings import SAMPLE_RATE, normalize_waveform
from anytalker.media.sound import Sound

BEYOND = 300
"""Seconds that a recording is heard beyond the end of the video."""
_LEAST = 400
"""Samples that the convolutions of wav2vec2 see at once."""


class AudioFeatures(Protocol):
    """Turns a voice into one window of features a video frame."""

    @property
    def window(self) -> int:
        """Video frames a window."""

    @property
    def blocks(self) -> int:
        """Feature layers a frame."""

    @property
    def channels(self) -> int:
        """Values a layer."""

    def __call__(self, waveform: np.ndarray, num_frames: int, fps: float) -> torch.Tensor:
        """Features (num_frames, window, blocks, channels), float32, of a 16 kHz waveform (samples,)."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write to a folder that `audio_features_from_pretrained` reads."""


class Wav2Vec2Features(torch.nn.Module):
    """All layers of wav2vec2, resampled to the video's frames (release).

    Args:
        model: a `transformers.Wav2Vec2Model`.
        window: video frames a window, centred; edges repeat.
    """

    def __init__(self, model: Any, window: int = 5) -> None:
        super().__init__()
        self.model = model.eval()
        self.window = window

    @property
    def blocks(self) -> int:
        """Transformer layers of the model."""
        return self.model.config.num_hidden_layers

    @property
    def channels(self) -> int:
        """Width of the model."""
        return self.model.config.hidden_size

    @property
    def device(self) -> torch.device:
        """Where the model is, as a pipeline asks of all its parts."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the model."""
        return self.model.dtype

    def forward(self, waveform: np.ndarray, num_frames: int, fps: float) -> torch.Tensor:
        """Features (num_frames, window, blocks, channels) of a 16 kHz waveform (samples,), see `rows`."""
        return windows(self.rows(waveform, fps, num_frames), self.window)[:num_frames]

    @torch.no_grad()
    def rows(self, waveform: np.ndarray, fps: float, multiple: int = 1) -> torch.Tensor:
        """Features (frames, blocks, channels) of a recording, one row a video frame that it touches.

        The waveform is normalised and padded with silence to a whole multiple of `multiple` frames; its convolutional
        features are interpolated to one a video frame before the transformer layers.

        Args:
            waveform: 16 kHz (samples,).
            fps: video frames a second.
            multiple: the video's frames where recordings share its clock; 1: no padding, as where they follow each
                other.
        """
        samples = normalize_waveform(np.asarray(waveform, dtype=np.float32))
        heard = math.ceil(len(samples) / SAMPLE_RATE * fps)
        missing = -heard % multiple
        silence = max(missing * int(SAMPLE_RATE / fps), _LEAST - len(samples))
        samples = np.pad(samples, (0, max(0, silence)))
        reference = next(self.model.parameters())
        values = torch.from_numpy(samples)[None].to(reference.device, reference.dtype)
        convolved = self.model.feature_extractor(values)
        resampled = torch.nn.functional.interpolate(convolved, size=heard + missing, mode="linear", align_corners=True)
        states, _ = self.model.feature_projection(resampled.transpose(1, 2))
        return torch.stack(self._layers(states), dim=2)[0].float()

    def _layers(self, states: torch.Tensor) -> list[torch.Tensor]:
        """Output (1, F, channels) of every transformer layer; the encoder alone doesn't return them."""
        outputs: list[torch.Tensor] = []

        def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            outputs.append(output[0] if isinstance(output, tuple) else output)

        hooks = [layer.register_forward_hook(keep) for layer in self.model.encoder.layers]
        try:
            self.model.encoder(states)
        finally:
            for hook in hooks:
                hook.remove()
        return outputs

    def save_pretrained(self, folder: str | Path) -> None:
        """Write model and configuration to `folder`."""
        self.model.save_pretrained(folder)


def audio_rows(features: AudioFeatures, waveform: np.ndarray, num_frames: int, fps: float) -> torch.Tensor:
    """Audio features (num_frames, blocks, channels) of a 16 kHz waveform (samples,) without the frames around each."""
    return features(waveform, num_frames, fps)[:, features.window // 2]


def silent_rows(features: AudioFeatures, num_frames: int, fps: float) -> torch.Tensor:
    """Audio features of a person without a voice, (num_frames, blocks, channels).

    Zero for wav2vec2, as in the release; otherwise the features of silence.
    """
    if isinstance(features, Wav2Vec2Features):
        return torch.zeros(num_frames, features.blocks, features.channels)
    return audio_rows(features, np.zeros(int(round(num_frames / fps * SAMPLE_RATE)), np.float32), num_frames, fps)


@dataclass(frozen=True)
class VoiceWindows:
    """Windows of features of all people, made for the frames that are asked for: all would take too much memory.

    Attributes:
        rows: (N, frames or a few more, blocks, channels).
        spans: for each person from which row to which (exclusive) there are features; windows repeat the rows at its
            edges, and those of frames outside are zero.
        window: rows a window, centred.
    """

    rows: torch.Tensor
    spans: Sequence[tuple[int, int]]
    window: int

    def at(self, frames: Sequence[int]) -> torch.Tensor:
        """Windows (1, N, frames, window, blocks, channels) of some frames."""
        moments = torch.tensor(frames, device=self.rows.device)
        near = moments[:, None] + torch.arange(self.window, device=self.rows.device) - self.window // 2
        found = self.rows.new_zeros(1, len(self.rows), *near.shape, *self.rows.shape[2:])
        for person, (start, stop) in enumerate(self.spans):
            inside = (moments >= start) & (moments < stop)
            found[0, person, inside] = self.rows[person, near[inside].clamp(start, stop - 1)]
        return found

    def to(self, like: torch.Tensor) -> VoiceWindows:
        """The same with the device and precision of a tensor."""
        return VoiceWindows(self.rows.to(like), self.spans, self.window)


def hear_voices(
    features: AudioFeatures, voices: Sequence[Sound], num_frames: int, fps: float, mode: str
) -> VoiceWindows:
    """Features of everybody's voice as they were trained: wav2vec2 hears each recording by itself, see
    `hear_recordings`, and log-mel features the voice on the clock of the whole video, with the silence around it.

    Args:
        features: of voices.
        voices: at 16 kHz, one a person, placed on the video's clock.
        num_frames: video frames.
        fps: video frames a second.
        mode: "pad" if they share the clock, "concat" if they follow each other.
    """
    if isinstance(features, Wav2Vec2Features):
        recordings = [heard_part(voice, num_frames, fps) for voice in voices]
        return hear_recordings(features, recordings, num_frames, fps, mode)
    rows = [audio_rows(features, np.asarray(voice), num_frames, fps).clone() for voice in voices]
    return VoiceWindows(torch.stack(rows), [(0, num_frames)] * len(rows), features.window)


def heard_part(voice: Sound, num_frames: int, fps: float) -> Sound:
    """The recording of a voice, cut off five minutes after the end of the video.

    The release hears all of it, which an hour's recording for a short video has no memory for.
    """
    recording = voice.recording
    return recording.placed(0, min(len(recording), math.ceil((num_frames / fps + BEYOND) * SAMPLE_RATE)))


def hear_recordings(
    features: Wav2Vec2Features, recordings: Sequence[np.ndarray | Sound], num_frames: int, fps: float, mode: str
) -> VoiceWindows:
    """Features of recordings, each heard by itself and whole, also where the video ends before it (release).

    In mode "pad" silence follows each recording, up to a whole multiple of the video's frames. In mode "concat" nothing
    does: each takes the frames after those of the one before it, rounded up, and all others are zero. So are those of
    people without a recording, in both modes.

    Args:
        features: wav2vec2.
        recordings: 16 kHz (samples,), one a person; empty for who only listens.
        num_frames: video frames.
        fps: video frames a second.
        mode: "pad" or "concat".
    """
    length = num_frames + (features.window - 1) // 2  # windows at the end look further
    rows = torch.zeros(len(recordings), length, features.blocks, features.channels)
    spans, start, multiple = [], 0, num_frames if mode == "pad" else 1
    for person, recording in enumerate(recordings):
        samples = np.asarray(recording)
        heard = features.rows(samples, fps, multiple)[:length] if len(samples) else rows[0, :0]
        first = 0 if mode == "pad" else start
        stop = min(first + len(heard), length)
        if first < stop:
            rows[person, first:stop] = heard[: stop - first]
        spans.append((first, stop))
        start += len(heard)
    return VoiceWindows(rows, spans, features.window)


def audio_features_from_pretrained(folder: str | Path) -> AudioFeatures:
    """Load audio features from a folder: log-mel settings, or a wav2vec2 model.

    Raises:
        InputError: if the folder holds neither.
    """
    config = Path(folder) / "config.json"
    if not config.is_file():
        raise InputError(f"{folder} holds no audio features: it lacks config.json.")
    values = json.loads(config.read_text(encoding="utf-8"))
    if values.get("type") == "log_mel":
        return LogMelFeatures.from_pretrained(folder)
    if values.get("model_type") == "wav2vec2":
        from transformers import Wav2Vec2Model

        return Wav2Vec2Features(Wav2Vec2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True))
    raise InputError(f"{config} describes neither log-mel features nor a wav2vec2 model.")
