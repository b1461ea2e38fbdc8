"""Features of voices behind one interface: wav2vec2 as in the release, log-mel spectra for the miniature."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from anytalker.conditioning.log_mel import LogMelFeatures, windows
from anytalker.errors import InputError
from anytalker.media.recordings import SAMPLE_RATE, normalize_waveform


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

    @torch.no_grad()
    def forward(self, waveform: np.ndarray, num_frames: int, fps: float) -> torch.Tensor:
        """Features (num_frames, window, blocks, channels) of a 16 kHz waveform (samples,), stretched over the frames.

        The waveform is normalised and padded with silence to a whole multiple of the video's length, its convolutional
        features are interpolated to one a video frame before the transformer layers; the first `num_frames` are kept.
        """
        samples = normalize_waveform(np.asarray(waveform, dtype=np.float32))
        heard = math.ceil(round(len(samples) / SAMPLE_RATE * fps, 6))
        missing = -heard % num_frames
        samples = np.pad(samples, (0, missing * int(SAMPLE_RATE / fps)))
        reference = next(self.model.parameters())
        values = torch.from_numpy(samples)[None].to(reference.device, reference.dtype)
        convolved = self.model.feature_extractor(values)
        resampled = torch.nn.functional.interpolate(convolved, size=heard + missing, mode="linear", align_corners=True)
        states, _ = self.model.feature_projection(resampled.transpose(1, 2))
        return windows(torch.stack(self._layers(states), dim=2)[0].float(), self.window)[:num_frames]

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
    """What a person without a voice sounds like to the model: `audio_rows` of a silent waveform of that length.

    (num_frames, blocks, channels), not nought where the features come from a network such as wav2vec2.
    """
    return audio_rows(features, np.zeros(int(round(num_frames / fps * SAMPLE_RATE)), np.float32), num_frames, fps)


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
