"""All scores of one clip from one pass over its frames: what one score decodes or embeds, the others use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.conventions import corners
from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.clips import ClipSource, VideoFrames
from anytalker.evaluation.eye_motion.scores import Interactivity, eye_motion, interactivity
from anytalker.evaluation.eye_motion.tracks import FaceTracks, FrameDetector, track_faces
from anytalker.evaluation.fidelity import ClipSample, FrameComparison, clip_features
from anytalker.evaluation.lip_sync.crops import FaceCrops
from anytalker.evaluation.lip_sync.silence import MOUTH
from anytalker.evaluation.mouth_scores import MouthScores
from anytalker.files import atomic_path

MOUTH_SCORES = ("sync_c", "sync_d", "sync_c_star", "sync_offset", "binding", "silence")
FACE_SCORES = ("interactivity", *MOUTH_SCORES)
_TIMELINE_RATE = 6.0


@dataclass(frozen=True)
class ScoringSettings:
    """How clips are scored.

    Attributes:
        metrics: scores wanted, keys of `summary.METRICS`; empty: all that can be computed.
        protocol: of Interactivity, see `eye_motion.interactivity`.
        detector: "network" (of the package), "uniface", "cascade" or "none": what finds faces where there are neither
            tracks nor boxes.
        syncnet: file of the original SyncNet's weights; None: the small one that comes with the package.
        networks: (score, file) of the feature networks for "fid" and "fvd".
    """

    metrics: tuple[str, ...] = ()
    protocol: str = "release"
    detector: str = "network"
    syncnet: Path | None = None
    networks: tuple[tuple[str, Path], ...] = ()

    def wants(self, *metrics: str) -> bool:
        """Whether any of these scores is wanted."""
        return not self.metrics or any(metric in self.metrics for metric in metrics)


class Tools:
    """The networks that scoring needs, loaded when first used and then kept.

    Args:
        settings: what is wanted.
        alone: no other process scores beside this one, so that all cores are free.
    """

    def __init__(self, settings: ScoringSettings, alone: bool = True) -> None:
        self.settings, self.alone = settings, alone

    @cached_property
    def detector(self) -> FrameDetector | None:
        """Finds faces; None: nothing does."""
        from anytalker.evaluation.eye_motion.detectors import BoxFrameDetector, CascadeFrameDetector, UnifaceDetector

        if self.settings.detector == "uniface":
            return UnifaceDetector()
        if self.settings.detector == "network":
            return BoxFrameDetector()
        return CascadeFrameDetector() if self.settings.detector == "cascade" else None

    @cached_property
    def syncnet(self) -> Any:
        """The network of lip sync."""
        from anytalker.evaluation.lip_sync.syncnet import load_sync_model

        return load_sync_model(self.settings.syncnet)

    @cached_property
    def networks(self) -> dict[str, Any]:
        """Feature networks of FID and FVD."""
        from anytalker.evaluation.fidelity import load_torchscript_features, load_videomae_features

        return {
            metric: load_videomae_features(path)
            if path.is_dir()
            else load_torchscript_features(path, video=metric == "fvd")
            for metric, path in self.settings.networks
        }


class ClipScores:
    """The result of a clip as it grows: scores, and reasons for those that are missing."""

    def __init__(self, clip: ClipSource) -> None:
        self.clip = clip
        self.scores: dict[str, float] = {}
        self.problems: dict[str, str] = {}
        self.more: dict[str, Any] = {}

    def add(self, scores: Mapping[str, float]) -> None:
        """Add scores; those that are not finite are left out."""
        self.scores.update({metric: float(value) for metric, value in scores.items() if math.isfinite(value)})

    def attempt(self, metrics: Sequence[str], compute: Callable[[], Mapping[str, float]]) -> None:
        """Add the scores that `compute` returns; if it raises `NoScoreError`, its reason goes to `problems`."""
        try:
            self.add(compute())
        except NoScoreError as error:
            self.problems.update(dict.fromkeys(metrics, str(error)))

    def line(self, video: VideoFrames, tracks: FaceTracks | None, seconds: float) -> dict[str, Any]:
        """The result as one line of JSON."""
        people = 0 if tracks is None else tracks.boxes.shape[1]
        return {
            "clip": self.clip.name,
            "people": people,
            "frames": len(video.times),
            "fps": video.fps,
            "size": list(video.size),
            "scores": self.scores,
            "problems": self.problems,
            "speaking": self.clip.speaking,
            "seconds": round(seconds, 2),
            **self.more,
        }


def score_clip(clip: ClipSource, tools: Tools, features: Path | None = None) -> dict[str, Any]:
    """Score one clip.

    Args:
        clip: the video and what is known of it.
        tools: networks and settings.
        features: folder for the features that FID and FVD are made of later; None: none are made.

    Returns:
        One line of the report: `scores`, `problems` (score → why there is none), `real` (scores of the real video), the
        timeline and the binding matrix.

    Raises:
        InputError: if the video can't be decoded.
    """
    started, settings, result = time.monotonic(), tools.settings, ClipScores(clip)
    video = VideoFrames(clip.video, threaded=tools.alone)
    tracks = clip_tracks(clip, video, tools)
    watched = watch(clip, video, tracks, tools)
    if video.uneven():
        result.more["notes"] = ["The frame rate varies; times are those of an even one."]
    if tracks is None or not tracks.boxes.shape[1]:
        wanted = [metric for metric in FACE_SCORES if settings.wants(metric)]
        result.problems.update(dict.fromkeys(wanted, "No face was found in this clip."))
    else:
        tracks = _for_frames(tracks, len(video.times))
        eyes = _score_eyes(result, tracks, settings)
        motion = None
        if watched.crops is not None and watched.found is not None and watched.mouths is not None:
            mouths = MouthScores(clip, watched.crops, watched.found, watched.mouths, video.fps, tools.syncnet)
            motion = mouths.motion()
            _score_mouths(result, mouths, settings)
        result.more["timeline"] = _timeline(tracks, motion, eyes, settings)
    if watched.comparison is not None:
        comparison = watched.comparison
        result.attempt(("psnr", "ssim"), lambda: {"psnr": comparison.result().psnr, "ssim": comparison.result().ssim})
    if clip.real is not None:
        _score_real(result, clip, settings)
        if features is not None:
            _keep_features(clip.name, watched, tools, features)
    return result.line(video, tracks, time.monotonic() - started)


def clip_tracks(clip: ClipSource, video: VideoFrames, tools: Tools) -> FaceTracks | None:
    """Tracks of a clip: given ones, boxes that hold for the whole video, or what the detector finds; None without."""
    size, fps = video.probe()
    if clip.tracks is not None:
        return FaceTracks.load(clip.tracks, size, fps)
    if clip.boxes is not None:
        boxes = corners(clip.boxes).astype(np.float32)
        return FaceTracks(boxes[None], None, size, fps)
    if tools.detector is None:
        return None
    return track_faces(video, tools.detector, fps, len(clip.speaking) if clip.speaking else None)


def _for_frames(tracks: FaceTracks, frames: int) -> FaceTracks:
    """Tracks whose boxes hold for the whole video, repeated for every frame.

    Raises:
        InputError: if tracks of every frame are not of that many frames.
    """
    known = len(tracks.boxes)
    if known == 1 and tracks.landmarks is None:
        return FaceTracks(np.repeat(tracks.boxes, frames, axis=0), None, tracks.frame_size, tracks.fps)
    if known != frames:
        raise InputError(f"The tracks have {known} frames, the video has {frames}; they are not of the same video.")
    return tracks


@dataclass(frozen=True)
class Watched:
    """What one pass over a video leaves; None where no score needs it.

    Attributes:
        crops: uint8 (T, P, …) of the faces, as the SyncNet wants them.
        mouths: uint8 (T, P, 48, 48), for the measure of mouth motion.
        found: boolean (T, P), where the faces are.
        comparison: of the video with the real one.
        made, real: samples of the frames of both.
    """

    crops: np.ndarray | None
    mouths: np.ndarray | None
    found: np.ndarray | None
    comparison: FrameComparison | None
    made: ClipSample | None
    real: ClipSample | None


def watch(clip: ClipSource, video: VideoFrames, tracks: FaceTracks | None, tools: Tools) -> Watched:
    """Decode a video once, and its real counterpart beside it, and give every frame to all that need it."""
    settings = tools.settings
    comparison = FrameComparison() if clip.real is not None and settings.wants("psnr", "ssim") else None
    made, real = (ClipSample(), ClipSample()) if clip.real is not None and settings.networks else (None, None)
    faces = mouths = None
    if tracks is not None and tracks.boxes.shape[1] and settings.wants(*MOUTH_SCORES):
        boxes = tracks.boxes[0] if len(tracks.boxes) == 1 else tracks.boxes
        faces = FaceCrops(boxes, tools.syncnet.crop)
        mouths = faces if tools.syncnet.crop == MOUTH else FaceCrops(boxes, MOUTH)

    frame_users = [user for user in dict.fromkeys((made, faces, mouths)) if user is not None]
    compares = clip.real is not None and (comparison is not None or made is not None)
    beside = VideoFrames(clip.real).at_rate(video.probe()[1]) if compares and clip.real else ()
    for frame, real_frame in zip_longest(video, beside):
        if frame is None:
            break
        for user in frame_users:
            user.add(frame)
        if real is not None and real_frame is not None:
            real.add(real_frame)
        if comparison is not None and real_frame is not None:
            comparison.add(frame, real_frame)

    crops, found = faces.result() if faces is not None else (None, None)
    lower_faces = mouths.result()[0] if mouths is not None else None
    return Watched(crops, lower_faces, found, comparison, made, real)


def _score_eyes(result: ClipScores, tracks: FaceTracks, settings: ScoringSettings) -> np.ndarray | None:
    """Add Interactivity; returns everybody's eye motion (T, P), None if there is no score."""
    if not settings.wants("interactivity"):
        return None
    try:
        score = _interactivity(result.clip, tracks, settings)
    except NoScoreError as error:
        result.problems["interactivity"] = str(error)
        return None
    result.add({"interactivity": score.overall})
    result.more["interactivity"] = {
        "per_person": [None if math.isnan(value) else value for value in score.per_person],
        "interval": list(score.interval),
        "spans": [[vars(span) for span in spans] for spans in score.spans],
    }
    return score.motion


def _interactivity(clip: ClipSource, tracks: FaceTracks, settings: ScoringSettings) -> Interactivity:
    """Interactivity of tracks over the clip's listening spans.

    Raises:
        NoScoreError: if it can't be measured.
    """
    if tracks.landmarks is None:
        raise NoScoreError("There are no landmarks: give tracks with 106 points, or --detector uniface.")
    speaking = _spans_of(clip, tracks)
    return interactivity(tracks.landmarks, tracks.boxes, tracks.frame_size, tracks.fps, speaking, settings.protocol)


def _score_mouths(result: ClipScores, mouths: MouthScores, settings: ScoringSettings) -> None:
    """Add the scores of mouths and voices that are wanted."""
    if settings.wants("sync_c", "sync_d", "sync_offset"):
        result.attempt(("sync_c", "sync_d", "sync_offset"), mouths.lip_sync)
    if settings.wants("sync_c_star"):
        result.attempt(("sync_c_star",), mouths.sync_c_star)
    if settings.wants("binding"):
        try:
            scores, result.more["binding_matrix"] = mouths.binding()
            result.add(scores)
        except NoScoreError as error:
            result.problems["binding"] = str(error)
    if settings.wants("silence"):
        result.attempt(("silence",), mouths.silence)


def _spans_of(clip: ClipSource, tracks: FaceTracks) -> list[list[tuple[float, float]]] | None:
    """Speaking spans, one list a tracked person.

    Raises:
        NoScoreError: if they are of another number of people.
    """
    people = tracks.boxes.shape[1]
    if clip.speaking is not None and len(clip.speaking) != people:
        raise NoScoreError(f"The spans are of {len(clip.speaking)} people, but {people} were found.")
    return clip.speaking


def _score_real(result: ClipScores, clip: ClipSource, settings: ScoringSettings) -> None:
    """Add Interactivity of the real video by the same protocol, where its tracks are known."""
    if clip.real_tracks is None or clip.real is None or not settings.wants("interactivity"):
        return
    tracks = FaceTracks.load(clip.real_tracks, *VideoFrames(clip.real).probe())
    with suppress(NoScoreError):
        result.more["real"] = {"interactivity": _interactivity(clip, tracks, settings).overall}


def _timeline(
    tracks: FaceTracks, mouths: np.ndarray | None, eyes: np.ndarray | None, settings: ScoringSettings
) -> dict[str, Any]:
    """Mouth and eye motion a person, (T, P) each, averaged to a few values a second, for the plots."""
    step = max(1, round(tracks.fps / _TIMELINE_RATE))
    drawn: dict[str, Any] = {"rate": tracks.fps / step}
    if mouths is not None:
        drawn["mouth"] = _thinned(mouths, step)
    if eyes is None and tracks.landmarks is not None:
        eyes = eye_motion(tracks.landmarks, tracks.boxes, tracks.frame_size, settings.protocol)
    if eyes is not None:
        drawn["eyes"] = _thinned(eyes, step)
    return drawn


def _thinned(values: np.ndarray, step: int) -> list[list[float | None]]:
    """Means over `step` frames of (T, P) values, a list a person, None where there is none."""
    parts = np.array_split(values, range(step, len(values), step))
    means = [[part[np.isfinite(part[:, person]), person] for part in parts] for person in range(values.shape[1])]
    return [[round(float(part.mean()), 4) if len(part) else None for part in person] for person in means]


def _keep_features(name: str, watched: Watched, tools: Tools, folder: Path) -> None:
    """Write the features that FID and FVD are made of; one file a clip and score."""
    if watched.made is None or watched.real is None or not watched.real.seen:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for metric, network in tools.networks.items():
        with atomic_path(folder / f"{name}.{metric}.npz") as partial, partial.open("wb") as file:
            np.savez(
                file,
                made=clip_features(network, watched.made.frames()),
                real=clip_features(network, watched.real.frames()),
            )
