"""Lip sync: do lips and voice go together, and how late is the voice?

The method is SyncNet's (Chung & Zisserman, 2016). Windows of a face and of a voice become vectors; their mean distance
over a track is taken for delays of up to ±15 frames. Sync-D is the smallest of these means, Sync-C the median of all of
them minus the smallest, and the delay where it lies says how late the voice is. Faces and voices are embedded once
(`embed_tracks`); lip sync, delays and `binding` are all read from the embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.lip_sync.crops import crop_faces
from anytalker.evaluation.lip_sync.syncnet import SyncModel, load_sync_model
from anytalker.media.recordings import SAMPLE_RATE

REACH = 15
"""Delays up to so many frames are compared, as SyncNet's authors do."""

MIN_SECONDS = 1.0
"""Less than this of a face, or of speech, has no score."""

MAX_MISSING = 0.5
"""Largest share of frames in which a face may be missing."""

Spans = Sequence[tuple[float, float]]
"""Speaking spans: start and end in seconds."""

_SILENT_RMS = 3e-4


@dataclass(frozen=True)
class SyncTracks:
    """Embedded faces and voices of one video.

    Attributes:
        faces: float32 (P, W, channels), NaN in windows that miss a face; window i is of the model's frames i to i+4.
        voices: float32 (V, W, channels).
        sounding: boolean (V,), the voices with any sound at all.
        missing: (P,) share of the video's frames in which the face is missing.
        fps: frames a second of the windows.
        window: frames a window.
        zero_padding: whether windows beyond the sound are vectors of zeros (original SyncNet), else they don't count.
    """

    faces: np.ndarray
    voices: np.ndarray
    sounding: np.ndarray
    missing: np.ndarray
    fps: float
    window: int
    zero_padding: bool


@dataclass(frozen=True)
class LipSync:
    """How well one face goes with one voice.

    Attributes:
        confidence: Sync-C: median minus minimum of the mean distances over all delays; higher is better, 0 is none.
        distance: Sync-D: the smallest mean distance; lower is better.
        offset: how many frames (of `fps`) the voice comes late; negative: early. The authors' code prints the opposite.
        frame_confidence: (W,) median of the mean distances minus each window's distance at the best delay; NaN where
            the window doesn't count, or there is no sound so much later or earlier.
        distances: (2·15+1,) mean distance for each delay from −15 to 15 frames.
        seconds: length of what was judged.
        fps: frames a second that were judged.
    """

    confidence: float
    distance: float
    offset: int
    frame_confidence: np.ndarray
    distances: np.ndarray
    seconds: float
    fps: float


def embed_tracks(
    crops: np.ndarray,
    found: np.ndarray,
    voices: Sequence[np.ndarray | None],
    fps: float,
    model: SyncModel | None = None,
) -> SyncTracks:
    """Embed every face and every voice of a video once.

    Args:
        crops: uint8 (T, P, *model.crop.shape), from `crop_faces` with the model's `crop`.
        found: boolean (T, P), where the faces are.
        voices: one 16 kHz waveform (samples,) in [-1, 1] each, in time with the video; None: silent.
        fps: frames a second of the video, which is brought to the model's rate by repeating or leaving out frames.
        model: the judge; None: the small one of the package.

    Raises:
        InputError: if shapes don't fit together, or the frame rate is not positive.
        NoScoreError: if the video is shorter than a second.
    """
    judge = model or load_sync_model()
    if crops.ndim < 4 or crops.shape[2:] != judge.crop.shape or found.shape != crops.shape[:2]:
        raise InputError(
            f"Face crops have shape {crops.shape} and their mask {found.shape}; the SyncNet {judge.name!r} needs "
            f"(frames, people, {', '.join(map(str, judge.crop.shape))}) and (frames, people)."
        )
    if not fps > 0:
        raise InputError(f"The frame rate is {fps}; it must be above 0.")
    rate = judge.frame_rate(fps)
    chosen = resample_frames(len(crops), fps, rate)
    if len(chosen) < max(MIN_SECONDS * rate, judge.window):
        raise NoScoreError(f"The video lasts {len(crops) / fps:.2f} s; lip sync needs at least {MIN_SECONDS} s.")
    faces = [judge.embed_video(crops[chosen, person], found[chosen, person]) for person in range(crops.shape[1])]
    heard = [np.zeros(1, np.float32) if voice is None else np.asarray(voice, np.float32) for voice in voices]
    return SyncTracks(
        faces=np.stack(faces),
        voices=np.stack([judge.embed_audio(voice, len(chosen), rate) for voice in heard]),
        sounding=np.array([is_audible(voice[: int(len(crops) / fps * SAMPLE_RATE)]) for voice in heard]),
        missing=1 - found.mean(axis=0),
        fps=rate,
        window=judge.window,
        zero_padding=judge.zero_padding,
    )


def resample_frames(count: int, fps: float, wanted: float) -> np.ndarray:
    """Indices of the frames that are on screen at each frame of another rate: int (about count·wanted/fps,)."""
    if abs(fps - wanted) < 1e-6:
        return np.arange(count)
    moments = (np.arange(int(count / fps * wanted + 1e-6)) + 0.5) / wanted
    return np.minimum((moments * fps).astype(int), count - 1)


def is_audible(waveform: np.ndarray) -> bool:
    """Whether there is any sound in a waveform (samples,)."""
    return bool(len(waveform)) and float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) > _SILENT_RMS


def pair_distances(face: np.ndarray, voice: np.ndarray, zero_padding: bool, reach: int = REACH) -> np.ndarray:
    """Distances between each window of a face and those of a voice up to `reach` windows earlier or later.

    Args:
        face, voice: (W, channels); NaN rows of the face are missing.
        zero_padding: whether windows beyond the voice are vectors of zeros, else they are missing.
        reach: largest delay in windows.

    Returns:
        (W, 2·reach+1): L2 distances; column reach + k is for a voice that comes k windows late; NaN where missing.
    """
    beyond = np.full((reach, voice.shape[1]), 0.0 if zero_padding else np.nan)
    padded = np.concatenate([beyond, voice, beyond])
    shifted = sliding_window_view(padded, 2 * reach + 1, axis=0)
    return np.sqrt(np.square(face[:, :, None] - shifted).sum(axis=1))


def track_distances(tracks: SyncTracks, face: int, voice: int, chosen: np.ndarray | None = None) -> np.ndarray:
    """Mean distance (2·15+1,) of a face and a voice for each delay, over the `chosen` windows (boolean (W,)).

    Raises:
        NoScoreError: if the face is missing too often, the voice is silent, or less than a second of them is left.
    """
    return _means(_checked_distances(tracks, face, voice, chosen))


def lip_sync_of(tracks: SyncTracks, face: int, voice: int | None = None, speaking: Spans | None = None) -> LipSync:
    """Lip sync of one face of a video with one of its voices.

    Args:
        tracks: from `embed_tracks`.
        face: index of the person.
        voice: index of the voice; None: the one with the person's index.
        speaking: spans in seconds that count; None: the whole video.

    Raises:
        NoScoreError: if the face is missing in over half of the frames, the voice is silent, or less than a second of
            face and speech is left.
    """
    chosen = None if speaking is None else windows_within(tracks, speaking)
    distances = _checked_distances(tracks, face, face if voice is None else voice, chosen)
    means = _means(distances)
    best = int(means.argmin())
    median = float(np.median(means))
    return LipSync(
        confidence=median - float(means[best]),
        distance=float(means[best]),
        offset=best - REACH,
        frame_confidence=median - distances[:, best],
        distances=means,
        seconds=float(np.isfinite(distances[:, REACH]).sum() / tracks.fps),
        fps=tracks.fps,
    )


def lip_sync(
    frames: Iterable[np.ndarray],
    boxes: np.ndarray,
    waveform: np.ndarray,
    fps: float,
    model: SyncModel | None = None,
    speaking: Spans | None = None,
) -> LipSync:
    """Lip sync of one person in a video.

    Args:
        frames: uint8 (H, W, 3) RGB each; an array (T, H, W, 3) or an iterator.
        boxes: the person's face boxes (T, 4), corners in px, NaN where it is missing; (4,): the same in every frame.
        waveform: the person's voice, 16 kHz (samples,) in [-1, 1].
        fps: frames a second.
        model: the judge; None: the small SyncNet of the package, see `load_sync_model`.
        speaking: spans in seconds that count; None: the whole video.

    Raises:
        InputError: if shapes don't fit together.
        NoScoreError: where there is no score, see `lip_sync_of`.
    """
    judge = model or load_sync_model()
    crops, found = crop_faces(frames, np.asarray(boxes, dtype=float)[..., None, :], judge.crop)
    return lip_sync_of(embed_tracks(crops, found, [waveform], fps, judge), 0, speaking=speaking)


def sync_c_star(scores: Sequence[LipSync]) -> float:
    """Sync-C* of a video: the mean of Sync-C over all people's speaking spans, weighted by their length (paper, section
    on the metric: (L1·C1 + L4·C4) / (L1 + L4) for two people who each speak once).

    Args:
        scores: `lip_sync_of(..., speaking=...)` of each person who speaks; all of a person's spans are one score, with
            one delay.

    Raises:
        NoScoreError: if nobody speaks.
    """
    if not scores:
        raise NoScoreError("Nobody speaks, so that there is no lip sync.")
    lengths = np.array([score.seconds for score in scores])
    return float(np.dot(lengths, [score.confidence for score in scores]) / lengths.sum())


def windows_within(tracks: SyncTracks, spans: Spans) -> np.ndarray:
    """Boolean (W,): windows whose middle frame lies in one of the spans (start, end) in seconds."""
    middles = (np.arange(tracks.faces.shape[1]) + tracks.window / 2) / tracks.fps
    inside = np.zeros(len(middles), dtype=bool)
    for start, end in spans:
        inside |= (middles >= start) & (middles < end)
    return inside


def _checked_distances(tracks: SyncTracks, face: int, voice: int, chosen: np.ndarray | None) -> np.ndarray:
    if tracks.missing[face] > MAX_MISSING:
        raise NoScoreError(
            f"The face of person {face + 1} is missing in {tracks.missing[face]:.0%} of the frames; at most "
            f"{MAX_MISSING:.0%} may be."
        )
    if not tracks.sounding[voice]:
        raise NoScoreError(f"Voice {voice + 1} is silent, so that nothing can be in sync with it.")
    distances = pair_distances(tracks.faces[face], tracks.voices[voice], tracks.zero_padding)
    if chosen is not None:
        distances = np.where(chosen[:, None], distances, np.nan)
    # An edge of windows less counts as a whole second: a clip of exactly one second has a score.
    least = int(MIN_SECONDS * tracks.fps) - tracks.window + 1
    if np.isfinite(distances[:, REACH]).sum() < least or np.isfinite(distances).sum(axis=0).min() == 0:
        raise NoScoreError(
            f"Less than {MIN_SECONDS} s of person {face + 1} with voice {voice + 1} can be judged; lip sync needs that "
            "much of a visible face and a voice."
        )
    return distances


def _means(distances: np.ndarray) -> np.ndarray:
    return np.nanmean(distances, axis=0)
