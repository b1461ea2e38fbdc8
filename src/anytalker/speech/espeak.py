"""espeak-ng: speech of many languages and voices without a download, and the times of its phonemes.

The library comes inside the `espeakng-loader` wheel and is called through ctypes. Each synthesis loads it
afresh (a few milliseconds) and seeds it: its oscillators can't be reset in any other way, and so the same
request gives the same samples, in whatever process and order it is made.
"""

from __future__ import annotations

import _ctypes
import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import signal

from anytalker.errors import AnyTalkerError, InputError

_ESPEAK_RATE = 22050
_SYNCHRONOUS = 2
_REPORT_PHONEMES, _RETURN_ON_ERRORS = 0x0001, 0x8000
_TEXT_IS_UTF8 = 1
_PHONEME_EVENT = 7
_RATE, _PITCH, _PITCH_RANGE = 1, 3, 4


class _Identity(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("identity", _Identity),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
Phonemes = list[tuple[float, str]]
"""Each phoneme's start in seconds, and its name."""
_lock = threading.Lock()


@cache
def _locations() -> tuple[str, Path]:
    """Path of the shared library, and of its folder of voices."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise AnyTalkerError(
            "the synthetic voices need the package espeakng-loader; install it: pip install espeakng-loader"
        ) from error
    return str(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


@contextmanager
def _fresh_library() -> Iterator[ctypes.CDLL]:
    """Load espeak-ng with its initial state, for one user at a time, and unload it afterwards."""
    library_path, data_path = _locations()
    release: Any = getattr(_ctypes, "FreeLibrary" if sys.platform == "win32" else "dlclose")
    with _lock:
        try:
            library = ctypes.CDLL(library_path)
        except OSError as error:
            raise AnyTalkerError(
                f"espeak-ng can't be loaded from {library_path} ({error}); reinstall it: "
                "pip install --force-reinstall espeakng-loader"
            ) from error
        try:
            options = _REPORT_PHONEMES | _RETURN_ON_ERRORS
            if library.espeak_Initialize(_SYNCHRONOUS, 0, str(data_path).encode(), options) != _ESPEAK_RATE:
                raise AnyTalkerError(
                    f"espeak-ng found no voices in {data_path}; reinstall them: "
                    "pip install --force-reinstall espeakng-loader"
                )
            try:
                yield library
            finally:
                library.espeak_Terminate()
        finally:
            release(library._handle)


def _speak(text: str, voice: str, speed_wpm: int, pitch: int, pitch_range: int) -> tuple[np.ndarray, Phonemes]:
    """Let espeak-ng speak: int16 samples at 22,050 Hz, and each phoneme's start in seconds and name."""
    _, data_path = _locations()
    variant = voice.partition("+")[2]
    if variant and not (data_path / "voices" / "!v" / variant).is_file():
        raise InputError(f"voice {voice!r}: espeak-ng has no variant {variant!r}; see {data_path / 'voices' / '!v'}")
    chunks: list[np.ndarray] = []
    phonemes: Phonemes = []

    def receive(samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        index = 0
        while events[index].type:
            event = events[index]
            if event.type == _PHONEME_EVENT:
                mnemonic = event.identity.string.decode("utf-8", "replace")
                phonemes.append((event.audio_position / 1000, mnemonic))
            index += 1
        return 0

    callback = _Callback(receive)  # must outlive the call of espeak_Synth
    with _fresh_library() as library:
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # it starts from the clock otherwise
        library.espeak_SetSynthCallback(callback)
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise InputError(f"espeak-ng has no voice {voice!r}; try 'en-us', 'de' or 'fr+f2'")
        for parameter, value in ((_RATE, speed_wpm), (_PITCH, pitch), (_PITCH_RANGE, pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        encoded = text.encode("utf-8")
        size = ctypes.c_size_t(len(encoded) + 1)
        if library.espeak_Synth(encoded, size, 0, 1, 0, _TEXT_IS_UTF8, None, None) != 0:
            raise AnyTalkerError(f"espeak-ng could not speak {text[:60]!r}; try another text")
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16), phonemes


def speak(text: str, voice: str, speed_wpm: int, pitch: int, pitch_range: int) -> tuple[np.ndarray, Phonemes]:
    """Speak a text.

    Args:
        text: what to say, in the voice's language.
        voice: a language, or a language and a variant such as `en-us+f2`.
        speed_wpm: words a minute, 80 to 450.
        pitch: 0 (low) to 99 (high).
        pitch_range: 0 (monotonous) to 99 (lively).

    Returns:
        float32 (samples,) at 16 kHz in [-1, 1], and the phonemes.

    Raises:
        InputError: for a voice that doesn't exist, a value out of range, or a text without any sound.
        AnyTalkerError: if espeak-ng is missing or damaged.
    """
    for name, value, lowest, highest in (
        ("speed_wpm", speed_wpm, 80, 450), ("pitch", pitch, 0, 99), ("pitch_range", pitch_range, 0, 99),
    ):  # fmt: skip
        if not lowest <= value <= highest:
            raise InputError(f"{name} is {value}; it must be from {lowest} to {highest}")
    samples, phonemes = _speak(text, voice, int(speed_wpm), int(pitch), int(pitch_range))
    if not len(samples):
        raise InputError(f"espeak-ng has no sound for the text {text[:60]!r}; give it words of the voice's language")
    resampled = signal.resample_poly(samples.astype(np.float32) / 32768.0, 320, 441)
    return np.clip(resampled, -1.0, 1.0).astype(np.float32), phonemes
