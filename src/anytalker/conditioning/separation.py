"""Voices taken out of recordings with music or noise in them, by an MDX network such as Kim_Vocal_2 (release)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from anytalker.errors import InputError
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.sound import Sound

RATE = 44100
_TRANSFORM, _HOP = 7680, 1024
_COMPENSATION = 1.009
"""What Kim_Vocal_2's output is multiplied with to be as loud as its input."""
_PEAK = 0.9
_STEP = 0.75
"""Share of a chunk after which the next one begins."""
_RUMBLE = 3
_AT_ONCE = 2**18


def can_separate() -> bool:
    """Whether onnxruntime, which runs the network, is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


class VocalSeparator:
    """The voice of a recording, in memory that doesn't grow with its length (release: `audio-separator`'s defaults).

    The network hears chunks of the spectrum of 44.1 kHz stereo, which overlap by a quarter and are blended with Hann
    windows.

    Args:
        path: an ONNX file; its input and output are (1, 4, bins, frames): real and imaginary parts of both channels.
        transform: samples of a spectrum.
        hop: samples between spectra.
        compensation: factor on the output.
        rumble: lowest bins of a spectrum, which the network does not hear.
        device: "cpu", or "cuda" where onnxruntime can use it.

    Raises:
        InputError: if the file is no such network.
    """

    def __init__(
        self,
        path: Path,
        transform: int = _TRANSFORM,
        hop: int = _HOP,
        compensation: float = _COMPENSATION,
        rumble: int = _RUMBLE,
        device: str = "cpu",
    ) -> None:
        import onnxruntime

        wanted = ["CPUExecutionProvider"] if device == "cpu" else ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # onnxruntime's own exceptions have no common class
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path} can't be loaded as an ONNX network ({reason}). Get it again.") from error
        self._name, shape = self._session.get_inputs()[0].name, self._session.get_inputs()[0].shape
        if len(shape) != 4 or shape[1] != 4 or not all(isinstance(side, int) for side in shape[2:]):
            raise InputError(f"{path} takes {shape} instead of (1, 4, bins, frames), so it is no MDX network.")
        self._bins, self._frames = shape[2], shape[3]
        if not rumble < self._bins <= transform // 2 + 1:
            raise InputError(f"{path} takes {self._bins} bins, but a spectrum of {transform} samples has fewer.")
        self.transform, self.hop, self.compensation, self.rumble = transform, hop, compensation, rumble
        self._window = torch.hann_window(transform)

    def __call__(self, recording: np.ndarray | Sound) -> Sound:
        """The voice in a recording (samples,) at 16 kHz, as long and about as loud as it; silence stays as it is."""
        sound = Sound.of(recording)
        peak, length = 0.0, 0
        for part in resampled(_parts(sound), SAMPLE_RATE, RATE):
            peak, length = max(peak, float(np.abs(part).max(initial=0))), length + len(part)
        if peak == 0:
            return sound
        gain = min(1.0, _PEAK / peak)
        mix = (gain * part for part in resampled(_parts(sound), SAMPLE_RATE, RATE))
        voice = (part / gain for part in self.separated(mix, length))
        return Sound.joined(_fitted(resampled(voice, RATE, SAMPLE_RATE), len(sound)))

    def separated(self, parts: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
        """The voice in sound at 44.1 kHz, part by part.

        Args:
            parts: float32 (n,) of any n, `length` samples in all.
            length: samples in all.

        Yields:
            float32 (n,), `length` samples in all.
        """
        chunk, trim = self.hop * (self._frames - 1), self.transform // 2
        inner, step = chunk - 2 * trim, int(_STEP * chunk)
        total = trim + length + inner + trim - length % inner
        source = _Reader([np.zeros(trim, np.float32)], parts)
        held, done = np.zeros(0, np.float32), 0
        summed, weights = np.zeros(chunk, np.float32), np.zeros(chunk, np.float32)
        for start in range(0, total, step):
            held = np.concatenate([held, source.take(chunk - len(held))])
            count = min(chunk, total - start)
            blend = np.hanning(count).astype(np.float32)
            summed[:count] += self._voice(held)[:count] * blend
            weights[:count] += blend
            first, last = max(0, trim - start), min(step, trim + length - start)
            if first < last:
                yield self.compensation * summed[first:last] / weights[first:last]
                done += last - first
            if done == length:
                return
            held = held[step:]
            summed = np.concatenate([summed[step:], np.zeros(step, np.float32)])
            weights = np.concatenate([weights[step:], np.zeros(step, np.float32)])

    def _voice(self, chunk: np.ndarray) -> np.ndarray:
        """What the network makes of a chunk (n,), heard on both channels; the mean of the two."""
        samples = torch.from_numpy(chunk)
        spectrum = torch.stft(samples, self.transform, self.hop, window=self._window, return_complex=True)
        heard = torch.view_as_real(spectrum).movedim(-1, 0)[:, : self._bins].repeat(2, 1, 1)[None]
        heard[:, :, : self.rumble] = 0
        said = torch.from_numpy(self._session.run(None, {self._name: heard.numpy()})[0])[0]
        mean = said.view(2, 2, self._bins, self._frames).mean(dim=0)
        whole = torch.nn.functional.pad(torch.complex(mean[0], mean[1]), (0, 0, 0, len(spectrum) - self._bins))
        return torch.istft(whole, self.transform, self.hop, window=self._window).numpy()


class _Reader:
    """Reads any number of samples from parts of any length; zeros after their end."""

    def __init__(self, first: list[np.ndarray], parts: Iterable[np.ndarray]) -> None:
        self._held, self._parts = first, iter(parts)

    def take(self, count: int) -> np.ndarray:
        while sum(map(len, self._held)) < count:
            part = next(self._parts, None)
            self._held.append(np.zeros(count, np.float32) if part is None else part)
        joined = np.concatenate(self._held)
        self._held = [joined[count:]]
        return joined[:count]


def resampled(parts: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """Sound (n,) at another rate, part by part."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=wanted)
    for part in parts:
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part[None], np.float32), format="flt", layout="mono")
        frame.sample_rate = rate
        yield from (made.to_ndarray()[0] for made in resampler.resample(frame))
    yield from (made.to_ndarray()[0] for made in resampler.resample(None))


def _parts(sound: Sound) -> Iterator[np.ndarray]:
    for start in range(0, len(sound), _AT_ONCE):
        yield sound[start : start + _AT_ONCE]


def _fitted(parts: Iterable[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The same, cut or followed by silence to that many samples."""
    left = length
    for part in parts:
        yield part[:left]
        left -= len(part[:left])
    yield np.zeros(left, np.float32)
