"""Synthetic speech with exact mouth shapes: espeak-ng's voices and the phoneme times that it reports."""

import math
from dataclasses import dataclass

import numpy as np

from anytalker.conventions import SAMPLE_RATE
from anytalker.errors import InputError
from anytalker.miniature.voices.sentences import random_sentence
from anytalker.speech.espeak import Phonemes, speak

VISEME_RATE = 96
"""Mouth shapes a second of every viseme track here: four for each video frame at 24 fps."""

VISEME_NAMES = ("opening", "width", "teeth", "tongue")
NEUTRAL = (0.0, 0.5, 0.0, 0.0)
"""A mouth at rest: closed, neither rounded nor spread, neither teeth nor the tip of the tongue to be seen."""

_SILENCE = 0.02
"""A loudness below this share of the loud level is a pause."""

_BASE_VOICES = {
    "en-us": 8.0, "en": 2.5, "en-gb-x-rp": 0.5, "en-gb-scotland": 1.0, "de": 2.0, "fr": 1.5, "es": 1.5,
    "es-419": 0.5, "it": 1.5, "pt-br": 1.0, "pt": 0.5, "pl": 1.5, "tr": 1.0, "nl": 1.0,
}  # fmt: skip
_VARIANTS = {
    "": 1.0,
    **{f"m{number}": 1.0 for number in range(1, 8)},
    **{f"f{number}": 1.4 for number in range(1, 6)},
    "klatt2": 0.4, "klatt4": 0.4, "Andrea": 0.6, "belinda": 0.6, "grandpa": 0.4, "grandma": 0.4,
    "croak": 0.25,
    "whisper": 0.1, "whisperf": 0.1,
}  # fmt: skip

_TARGETS: dict[str, tuple[float, float, float]] = {
    # Vowels; the columns are openness (0 closed, 1 wide), width (0 rounded, 1 spread), teeth
    "a": (1.0, 0.6, 0.1), "A": (1.0, 0.5, 0.0), "&": (0.9, 0.65, 0.1), "V": (0.75, 0.5, 0.0),
    "0": (0.8, 0.3, 0.0),
    "O": (0.75, 0.2, 0.0), "o": (0.55, 0.1, 0.0), "U": (0.4, 0.15, 0.0), "u": (0.3, 0.0, 0.0),
    "W": (0.6, 0.15, 0.0),
    "E": (0.65, 0.75, 0.15), "e": (0.55, 0.85, 0.15), "I": (0.4, 0.8, 0.2), "i": (0.35, 1.0, 0.25),
    "y": (0.3, 0.05, 0.0), "Y": (0.45, 0.1, 0.0), "8": (0.45, 0.3, 0.0), "@": (0.45, 0.5, 0.05),
    "3": (0.5, 0.4, 0.05),
    "a#": (0.6, 0.5, 0.05), "I2": (0.4, 0.8, 0.2), "I#": (0.4, 0.7, 0.2), "V#": (0.5, 0.5, 0.0),
    "@-": (0.35, 0.5, 0.05),
    # lips closed
    "m": (0.0, 0.5, 0.0), "b": (0.0, 0.5, 0.0), "p": (0.0, 0.5, 0.0), "B": (0.12, 0.5, 0.0),
    # lower lip on the upper teeth, and hissing between the teeth
    "f": (0.1, 0.5, 1.0), "v": (0.1, 0.5, 1.0), "s": (0.2, 0.75, 0.8), "z": (0.2, 0.75, 0.8),
    "S": (0.2, 0.2, 0.8), "Z": (0.2, 0.2, 0.8), "s#": (0.2, 0.75, 0.8), "T": (0.25, 0.6, 0.6),
    "D": (0.25, 0.6, 0.6),
    # the rest of the consonants
    "w": (0.2, 0.0, 0.0), "j": (0.3, 0.85, 0.2), "r": (0.35, 0.3, 0.1), "R": (0.4, 0.5, 0.1),
    "*": (0.35, 0.5, 0.2),
    "l": (0.4, 0.6, 0.1), "L": (0.4, 0.5, 0.1), "n": (0.3, 0.6, 0.2), "N": (0.35, 0.55, 0.1),
    "t": (0.25, 0.65, 0.4),
    "d": (0.25, 0.65, 0.4), "k": (0.4, 0.55, 0.1), "g": (0.4, 0.55, 0.1), "h": (0.5, 0.5, 0.0),
    "H": (0.3, 0.1, 0.0),
    "x": (0.4, 0.5, 0.1), "C": (0.3, 0.8, 0.3), "Q": (0.4, 0.5, 0.1), "c": (0.35, 0.7, 0.2),
    "J": (0.35, 0.8, 0.2),
}  # fmt: skip
_UNKNOWN = (0.4, 0.5, 0.05)
_TONGUE = {"l": 1.0, "L": 0.8, "T": 0.9, "D": 0.9, "n": 0.7, "t": 0.6, "d": 0.6, "J": 0.5, "r": 0.3, "*": 0.5}
"""How far the tongue's tip is raised behind the upper teeth."""
_CLOSED_LIPS = frozenset("mbp")
_MODIFIERS = frozenset("',%=:;~^!?|`\"-#2-/_")


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clean voice and the mouth that makes it.

    Attributes:
        waveform: float32 `(samples,)`, 16 kHz, in [-1, 1].
        visemes: float32 `(moments, 4)` at `VISEME_RATE`: opening (0 in pauses, 1 wide and loud), width
            (0 rounded, 1 spread), teeth (1 where they show) and tongue (1 with its tip raised); row k
            stands for the time from k / 96 to (k + 1) / 96 s.
        text: what is said.
        voice: espeak-ng's name of the voice and its variant, such as `en-us+f2`.
    """

    waveform: np.ndarray
    visemes: np.ndarray
    text: str
    voice: str

    @property
    def seconds(self) -> float:
        """Length of the waveform in seconds."""
        return len(self.waveform) / SAMPLE_RATE


def _is_pause(mnemonic: str) -> bool:
    return mnemonic.startswith("_")


def _split_phoneme(mnemonic: str) -> list[str]:
    """Keys of `_TARGETS` for an espeak-ng mnemonic: "tS" gives t and S, an unknown sound "?"."""
    bare = mnemonic.lstrip("',%=")
    if bare == ";":  # a palatal glide that stands alone, as after Polish consonants
        return ["j"]
    keys: list[str] = []
    index = 0
    while index < len(bare):
        length = 2 if bare[index : index + 2] in _TARGETS else 1
        key = bare[index : index + length]
        if key in _TARGETS:
            keys.append(key)
        elif key not in _MODIFIERS and not keys:
            keys.append("?")
        index += length
    return keys or ["?"]


def _raised_cosine(seconds: float) -> np.ndarray:
    """A smoothing kernel of about the given length at `VISEME_RATE`, its sum 1."""
    half = max(1, round(seconds * VISEME_RATE / 2))
    kernel = 0.5 + 0.5 * np.cos(np.pi * np.arange(-half, half + 1) / (half + 1))
    return kernel / kernel.sum()


def _phoneme_shapes(phonemes: Phonemes, duration: float, moments: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay the mouth targets on the time line.

    Returns the coarticulated shapes `(moments, 4)`: openness, width, teeth, tongue; and the lip closure
    `(moments,)` in [0, 1].
    """
    times = (np.arange(moments) + 0.5) / VISEME_RATE
    shapes = np.tile(np.asarray(NEUTRAL), (moments, 1))
    closure = np.zeros(moments)
    sounds = [(time, name) for time, name in phonemes if not name.startswith("(")]  # "(en)": a change of language
    for (start, name), (end, _) in zip(sounds, [*sounds[1:], (duration, "_")], strict=True):
        if _is_pause(name) or end <= start:
            continue
        keys = _split_phoneme(name)
        edges = np.linspace(start, end, len(keys) + 1)
        for key, first, last in zip(keys, edges[:-1], edges[1:], strict=True):
            shapes[(times >= first) & (times < last)] = (*_TARGETS.get(key, _UNKNOWN), _TONGUE.get(key, 0.0))
            if key in _CLOSED_LIPS:
                distance = np.maximum(np.maximum(first - times, times - last), 0.0)
                ramp = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / 0.035, 0.0, 1.0))
                closure = np.maximum(closure, ramp)
    kernel = _raised_cosine(0.06)
    half = len(kernel) // 2
    padded = np.pad(shapes, ((half, half), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, kernel, mode="valid") for column in padded.T], axis=1)
    smooth[:, 0] *= 1.0 - closure
    return smooth, closure


def _loudness(waveform: np.ndarray, moments: int) -> np.ndarray:
    """RMS over 40 ms about each viseme moment, relative to the voice's loud level: `(moments,)` in [0, 1]."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    centres = (np.arange(moments) + 0.5) / VISEME_RATE * SAMPLE_RATE
    first = np.clip(np.round(centres - 0.02 * SAMPLE_RATE), 0, len(waveform)).astype(int)
    last = np.clip(np.round(centres + 0.02 * SAMPLE_RATE), 0, len(waveform)).astype(int)
    rms = np.sqrt(np.maximum(energy[last] - energy[first], 0.0) / np.maximum(last - first, 1))
    loud = np.percentile(rms, 95) if moments else 0.0
    return np.clip(rms / loud, 0.0, 1.0) if loud > 1e-5 else np.zeros(moments)


def _visemes(waveform: np.ndarray, phonemes: Phonemes) -> np.ndarray:
    """Mouth shapes of a clean voice, float32 `(moments, 4)`, from its phonemes and its loudness."""
    moments = math.ceil(len(waveform) * VISEME_RATE / SAMPLE_RATE)
    shapes, closure = _phoneme_shapes(phonemes, len(waveform) / SAMPLE_RATE, moments)
    audible = np.clip((_loudness(waveform, moments) - _SILENCE) / (1.0 - _SILENCE), 0.0, 1.0)
    opening = audible**0.6 * (0.45 + 0.55 * shapes[:, 0]) * (1.0 - 0.5 * closure)
    shapes[:, 0] = np.where(audible > 0.0, opening, 0.0)
    return np.clip(shapes, 0.0, 1.0).astype(np.float32)


def synthesize(
    text: str, voice: str = "en-us", speed_wpm: int = 170, pitch: int = 50, pitch_range: int = 50
) -> Utterance:
    """Speak a text with an espeak-ng voice.

    Args:
        text: what to say, in the voice's language.
        voice: a language, or a language and a variant such as `en-us+f2`.
        speed_wpm: words a minute, 80 to 450.
        pitch: 0 (low) to 99 (high).
        pitch_range: 0 (monotonous) to 99 (lively).
    """
    waveform, phonemes = speak(text, voice, speed_wpm, pitch, pitch_range)
    return Utterance(waveform, _visemes(waveform, phonemes), text, voice)


def _draw(rng: np.random.Generator, weights: dict[str, float]) -> str:
    shares = np.asarray(list(weights.values()))
    return str(rng.choice(list(weights), p=shares / shares.sum()))


def _cut(
    waveform: np.ndarray, phonemes: Phonemes, seconds_min: float, seconds_max: float
) -> tuple[np.ndarray, Phonemes]:
    """Shorten a voice to at most `seconds_max`: at its last fitting pause, or else within speech, faded."""
    pauses = [time + 0.08 for time, name in phonemes if name.startswith("_:")]
    fitting = [time for time in pauses if seconds_min <= time <= seconds_max]
    end = fitting[-1] if fitting else seconds_max
    cut = waveform[: round(end * SAMPLE_RATE)].copy()
    fade = min(len(cut), round(0.04 * SAMPLE_RATE))
    cut[len(cut) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return cut, [(time, name) for time, name in phonemes if time < end]


@dataclass(frozen=True)
class Voice:
    """Someone's way to speak: espeak-ng's name, words a minute, and pitch and its range (0 to 99)."""

    name: str
    speed_wpm: int
    pitch: int
    pitch_range: int

    @classmethod
    def random(cls, rng: np.random.Generator) -> "Voice":
        """Draw a voice; the same generator state gives the same voice."""
        base, variant = _draw(rng, _BASE_VOICES), _draw(rng, _VARIANTS)
        speed, pitch, lively = int(rng.integers(120, 231)), int(rng.integers(10, 91)), int(rng.integers(20, 91))
        return cls(f"{base}+{variant}" if variant else base, speed, pitch, lively)


def random_utterance(
    rng: np.random.Generator, seconds_min: float = 2.0, seconds_max: float = 6.0, voice: Voice | None = None
) -> Utterance:
    """Let a voice, or a random one, say random sentences for `seconds_min` to `seconds_max` seconds.

    The same generator state gives the same utterance. `text` may be longer than what is heard.
    """
    if not 0.1 <= seconds_min <= seconds_max:
        raise InputError(f"lengths from {seconds_min} to {seconds_max} s: give 0.1 <= seconds_min <= seconds_max")
    voice = voice or Voice.random(rng)
    language = voice.name.partition("+")[0].partition("-")[0]
    wanted = rng.uniform(seconds_min, seconds_max)
    text, heard = "", 0.0
    while heard < wanted:
        # A word a minute is about a tenth of a letter a second; ask for a little more than is missing.
        letters = len(text) + max(20.0, (wanted - heard) * voice.speed_wpm / 10)
        while len(text) < letters:
            text = f"{text} {random_sentence(rng, language)}".strip()
        waveform, phonemes = speak(text, voice.name, voice.speed_wpm, voice.pitch, voice.pitch_range)
        heard = len(waveform) / SAMPLE_RATE
    if heard > seconds_max:
        waveform, phonemes = _cut(waveform, phonemes, seconds_min, seconds_max)
    return Utterance(waveform, _visemes(waveform, phonemes), text, voice.name)


def resample_visemes(visemes: np.ndarray, num_frames: int, fps: float = 24.0) -> np.ndarray:
    """Average mouth shapes over each video frame's interval.

    Takes `(moments, 4)` at `VISEME_RATE`, gives float32 `(num_frames, 4)` at `fps`. Frames beyond the end
    show a mouth at rest.
    """
    moments = len(visemes)
    total = np.concatenate([np.zeros((1, visemes.shape[1])), np.cumsum(visemes, axis=0, dtype=np.float64)])
    edges = np.arange(num_frames + 1) * VISEME_RATE / fps
    inside = np.minimum(edges, moments)
    sums = np.stack([np.interp(inside, np.arange(moments + 1), column) for column in total.T], axis=1)
    lengths = np.diff(edges)[:, None]
    beyond = lengths - np.diff(inside)[:, None]
    return ((np.diff(sums, axis=0) + beyond * np.asarray(NEUTRAL)) / lengths).astype(np.float32)
