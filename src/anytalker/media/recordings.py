"""Voices: decoding of any recording, a common clock for all people, and the mix that goes into the video."""

from __future__ import annotations

import math
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.files import atomic_path
from anytalker.media.channels import Envelopes, split_channel
from anytalker.media.containers import LONGEST_GAP, UNEVEN, check_readable, decodable, open_media
from anytalker.media.sound import Mixture, Sound

MAX_SECONDS = 6 * 3600
_FRAMES_AT_ONCE = 2**10
_LEAST_RATE = 1000
_UNSAID = {"aac", "ac3", "amr", "dts", "eac3", "gsm", "loas", "mpeg", "mpegts", "sbc", "truehd", "mlp"}
"""Containers of bare frames, whose length is guessed from the first ones."""
_MOST_BAD = 20
"""Packets of a recording that may be bad; more is damage."""
_CANCELLED = 0.01
"""Share of a channel's power below which the mean of all channels is not a mix of them, but what is left of them."""


@dataclass(frozen=True)
class Recording:
    """A decoded recording.

    Attributes:
        samples: float32 mono (samples,) in [-1, 1].
        two_voices: whether two channels with a different voice each were mixed into one.
    """

    samples: np.ndarray
    two_voices: bool = False


def load_audio(path: str | Path, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Decode the first sound stream of any audio or video file, or one channel of it.

    Args:
        path: the file; with ":left", ":right" or ":1" to ":N" behind it, one channel alone.
        sample_rate: samples a second of the result.

    Returns:
        float32 mono (samples,) in [-1, 1]: the mean of all channels, or the loudest one if the others cancel it out.

    Raises:
        InputError: if the file is missing or can't be read, is no recording, has no sound or no such channel, is
            damaged or cut off, is longer than 6 hours, or names other files, as a playlist does.
    """
    return read_recording(path, sample_rate).samples


def read_recording(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Recording:
    """As `load_audio`, and whether there was a different voice on each side.

    Raises:
        InputError: see `load_audio`.
    """
    file, channel = split_channel(path)
    check_readable(file, f"There is no audio file {file}. Check the path.")
    if file.stat().st_size == 0:
        raise InputError(f"The audio file {file} is empty. Give a recording.")
    _check_wave_length(file)
    samples, power, envelopes = _mixed_down(file, sample_rate, channel)
    if channel is None:
        channel = _uncancelled(power, envelopes.power)
        if channel is None:
            return Recording(_checked(samples, str(path)), envelopes.have_two_voices())
        samples = _mixed_down(file, sample_rate, channel)[0]
    return Recording(_checked(samples, str(path)))


def _mixed_down(path: Path, sample_rate: int, channel: int | None = None) -> tuple[np.ndarray, float, Envelopes]:
    """Mono samples, mixed down piece by piece: what a recording takes beyond them doesn't grow with it.

    Args:
        path: the recording.
        sample_rate: samples a second.
        channel: take this one alone; None: the mean of all.

    Returns:
        The samples, the power of the mean, and the channels' powers.
    """
    import av

    resampler = av.AudioResampler(format="flt", rate=sample_rate)  # packed: planes of over 7 channels crash PyAV
    samples = bytearray()  # it grows without a copy
    power, envelopes = 0.0, Envelopes(sample_rate)
    try:
        with open_media(path) as container:
            _check_stream(container, path, channel)
            stream, expected = container.streams.audio[0], _promised_seconds(container, path)
            for frame in chain(decodable(container, stream, _MOST_BAD), [None]):
                samples += bytes(4 * _missing(frame, stream, len(samples) // 4, sample_rate))
                for part in resampler.resample(frame):
                    channels = part.to_ndarray().reshape(-1, part.layout.nb_channels).T
                    mean = channels.mean(axis=0) if channel is None else channels[channel]
                    power += float(_power(mean))
                    envelopes.add(channels)
                    samples += _clipped(mean, str(path)).tobytes()
                if len(samples) > 4 * MAX_SECONDS * sample_rate:
                    raise InputError(f"{path} is longer than {MAX_SECONDS // 3600} hours. Cut it into parts.")
    except (av.FFmpegError, ValueError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} can't be decoded: it is no recording, or it is damaged ({error}). Export it again, as WAV or MP3."
        ) from error
    seconds = len(samples) / 4 / sample_rate
    if expected is not None and seconds < 0.8 * expected - 0.2:
        raise InputError(
            f"{path} is cut off: it should last {expected:.2f} s, but only {seconds:.2f} s can be decoded. "
            "Export it again."
        )
    return np.frombuffer(samples, dtype=np.float32), power, envelopes


def _missing(frame: Any, stream: Any, heard: int, sample_rate: int) -> int:
    """Samples before a frame of which nothing was stored, as in the pauses of calls."""
    if frame is None or frame.pts is None:
        return 0
    late = float((frame.pts - (stream.start_time or 0)) * stream.time_base) - heard / sample_rate
    return round(late * sample_rate) if UNEVEN < late < LONGEST_GAP else 0


def _check_stream(container: Any, path: Path, channel: int | None) -> None:
    if not container.streams.audio:
        raise InputError(f"{path} has no sound. Give a file with a sound stream, such as a WAV or MP3.")
    context = container.streams.audio[0].codec_context
    if context is None:
        raise InputError(f"The sound of {path} is of a kind that can't be decoded. Export it as WAV or MP3.")
    if 0 < context.sample_rate < _LEAST_RATE:
        raise InputError(
            f"{path} has {context.sample_rate} samples a second; speech needs at least {_LEAST_RATE}. Export it again."
        )
    count = context.layout.nb_channels
    if channel is not None and channel >= count:
        has = "only one channel" if count == 1 else f"{count} channels"
        raise InputError(f"{path} has {has}, so there is no channel {channel + 1}. Leave the ending out, or change it.")


def _power(samples: np.ndarray) -> np.ndarray:
    """Sum of squares over the last axis."""
    return np.einsum("...i,...i", samples, samples, dtype=np.float64)


def _uncancelled(mean: float, channels: np.ndarray) -> int | None:
    """The loudest channel if the mean of all has next to nothing of it, as in stereo of opposite phase; else None."""
    loudest = int(channels.argmax())
    return loudest if mean < _CANCELLED * channels[loudest] else None


def _promised_seconds(container: Any, path: Path) -> float | None:
    """How long the first sound stream should last by what the file says; None where it doesn't say so."""
    stream = container.streams.audio[0]
    name = container.format.name
    if name in _UNSAID or (name == "mp3" and not _says_length(path)):
        return None
    begins = max(0.0, float((stream.start_time or 0) * stream.time_base))
    if stream.duration is not None:
        return float(stream.duration * stream.time_base) - (begins if name == "ogg" else 0.0)
    if len(container.streams) == 1 and container.duration:
        return float(container.duration / 1e6) - begins
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # of Matroska: when the stream ends
    minutes, _, seconds = rest.partition(":")
    try:
        ends = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
    return ends - float((stream.start_time or 0) * stream.time_base)


def _says_length(path: Path) -> bool:
    """Whether an MP3 begins with a frame that counts the others; if not, its length is a guess from its bit rate."""
    with path.open("rb") as file:
        while len(tag := file.read(10)) == 10 and tag.startswith(b"ID3"):
            size = (tag[6] & 127) << 21 | (tag[7] & 127) << 14 | (tag[8] & 127) << 7 | tag[9] & 127
            file.seek(size + 10 * bool(tag[5] & 16), 1)
        file.seek(-len(tag), 1)
        first = file.read(256)
    xing = max(first.find(b"Xing"), first.find(b"Info"))
    return b"VBRI" in first or (xing >= 0 and first[xing + 4 : xing + 8][-1:] > b"" and bool(first[xing + 7] & 1))


def _check_wave_length(path: Path) -> None:
    """PCM WAV headers say how much sound follows; decoders quietly accept less."""
    with path.open("rb") as file:
        try:
            reader = wave.Wave_read(file)
        except (wave.Error, EOFError, RuntimeError):  # the last one where a chunk ends beyond the file
            return
        declared = reader.getnframes() * reader.getnchannels() * reader.getsampwidth()
        held = path.stat().st_size - file.tell()  # the header has been read, and the sound is next
    streamed = declared >= 0x7FFFFF00
    if not streamed and held < declared:
        raise InputError(
            f"{path} is cut off: its header promises {declared} bytes of sound, but there are {held}. Export it again."
        )


def write_wave(path: str | Path, samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> None:
    """Write float samples (samples,) in [-1, 1] as a WAV of 16 bits, whole or not at all.

    Raises:
        ValueError: if there are several channels.
    """
    if samples.ndim != 1:
        raise ValueError(f"Samples of one channel are written, (samples,), not {samples.shape}.")
    whole = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
    with atomic_path(path) as partial, wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(whole.tobytes())


def audio_array(value: Any, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """A voice as float32 mono (samples,): a path is decoded, an array (samples,) or (channels, samples) is checked.

    Raises:
        InputError: for a file or an array that can't be used.
    """
    if isinstance(value, (str, Path)):
        return load_audio(value, sample_rate)
    try:
        samples = np.asarray(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"A {type(value).__name__} can't be heard; give one entry a person: a file, an array (samples,), or None."
        ) from error
    if samples.ndim == 2 and samples.size:
        mean = samples.mean(axis=0)
        channel = _uncancelled(float(_power(mean)), _power(samples))
        samples = mean if channel is None else samples[channel]
    if samples.ndim != 1:
        raise InputError(f"An audio array has shape {samples.shape}; give (samples,) or (channels, samples).")
    return _checked(samples, "An audio array")


def _checked(samples: np.ndarray, name: str) -> np.ndarray:
    if not len(samples):
        raise InputError(f"{name} holds no sound at all. Give a recording.")
    return np.ascontiguousarray(_clipped(samples, name), dtype=np.float32)


def _clipped(samples: np.ndarray, name: str) -> np.ndarray:
    lowest, highest = float(samples.min(initial=0)), float(samples.max(initial=0))
    if not math.isfinite(lowest) or not math.isfinite(highest):
        raise InputError(f"{name} holds values that are not numbers. Export it again.")
    within = lowest >= -1 and highest <= 1  # a copy of hours of sound is worth avoiding
    return samples if within else np.clip(samples, -1, 1)


def combine(streams: Sequence[np.ndarray | Sound | None], mode: str) -> list[Sound]:
    """Bring everybody's voice to one clock.

    Args:
        streams: one float32 recording (samples,) a person; None for a person who only listens.
        mode: "pad": all start together, shorter ones are followed by silence; "concat": one after another, in order.

    Returns:
        One recording a person, all of the same length.

    Raises:
        InputError: if nobody has a voice, or for an unknown mode.
    """
    sounds = [Sound(np.zeros(0, np.float32)) if stream is None else Sound.of(stream) for stream in streams]
    lengths = [len(sound) for sound in sounds]
    if not any(lengths):
        raise InputError("Nobody has a voice; give at least one recording.")
    if mode == "pad":
        starts, total = [0] * len(sounds), max(lengths)
    elif mode == "concat":
        starts, total = [sum(lengths[:index]) for index in range(len(sounds))], sum(lengths)
    else:
        raise InputError(f"mode is {mode!r}; it must be 'pad' (shared clock) or 'concat' (one after another).")
    return [sound.placed(start, total) for sound, start in zip(sounds, starts, strict=True)]


def frame_count(seconds: float, fps: float) -> int:
    """Video frames for that much sound: the largest 4n+1 within the frames it touches (release)."""
    frames = math.ceil(seconds * fps)
    return max(1, (frames - 1) // 4 * 4 + 1)


def covering_frame_count(seconds: float, fps: float) -> int:
    """Video frames for that much sound and none of it lost: the smallest 4n+1 that last as long, under 4 longer."""
    frames = math.ceil(round(seconds * fps, 6))
    return -(-max(0, frames - 1) // 4) * 4 + 1


def normalize_waveform(waveform: np.ndarray) -> np.ndarray:
    """Zero mean and unit variance, as wav2vec2 wants its input; silence stays silence."""
    centred = waveform - waveform.mean()
    return (centred / np.sqrt(centred.var() + 1e-7)).astype(np.float32)


def mix(streams: Sequence[np.ndarray | Sound]) -> np.ndarray:
    """All voices together, float32 (samples,), made quieter only where they would clip."""
    return Mixture(streams)[:]


def frame_loudness(
    waveform: np.ndarray | Sound, num_frames: int, fps: float, sample_rate: int = SAMPLE_RATE
) -> np.ndarray:
    """Root mean square of the waveform in each video frame, float32 (num_frames,); 0 beyond its end."""
    edges = np.round(np.arange(num_frames + 1) / fps * sample_rate).astype(int)
    loudness = np.zeros(num_frames, dtype=np.float32)
    for start in range(0, num_frames, _FRAMES_AT_ONCE):
        inner = edges[start : start + _FRAMES_AT_ONCE + 1]
        part = waveform[inner[0] : inner[-1]].astype(np.float64) ** 2
        sums = np.concatenate([[0.0], np.cumsum(np.pad(part, (0, inner[-1] - inner[0] - len(part))))])
        means = np.maximum(np.diff(sums[inner - inner[0]]), 0) / np.diff(inner)
        loudness[start : start + len(means)] = np.sqrt(means)
    return loudness
