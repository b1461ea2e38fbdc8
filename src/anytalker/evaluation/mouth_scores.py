"""All scores of mouths and voices of one clip, from its crops and its sound, embedded once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.conditioning.timeline import speaking_spans
from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.clips import ClipSource
from anytalker.evaluation.lip_sync.binding import binding
from anytalker.evaluation.lip_sync.scores import LipSync, SyncTracks, embed_tracks, lip_sync_of, sync_c_star
from anytalker.evaluation.lip_sync.silence import mouth_motions, silence
from anytalker.media.containers import open_media, video_streams
from anytalker.media.recordings import SAMPLE_RATE, load_audio

Spans = Sequence[tuple[float, float]]


class MouthScores:
    """Scores of a clip's mouths; each raises `NoScoreError` with the reason where there is none.

    Args:
        clip: what is known of the clip.
        crops: uint8 (T, P, …) of the faces, as the SyncNet wants them.
        found: boolean (T, P), where they are.
        mouths: uint8 (T, P, 48, 48), crops for the measure of motion.
        fps: video frames a second.
        model: the SyncNet.
    """

    def __init__(
        self, clip: ClipSource, crops: np.ndarray, found: np.ndarray, mouths: np.ndarray, fps: float, model: Any
    ) -> None:
        self.clip, self.fps = clip, fps
        self.people = crops.shape[1]
        self._motions = mouth_motions(mouths, found)
        self._tracks: SyncTracks | None = None
        self._reason = ""
        try:
            self.voices = voices_of(clip, self.people, len(crops) / fps)
            self._tracks = embed_tracks(crops, found, self.voices, fps, model)
        except NoScoreError as error:
            self.voices, self._reason = [None] * self.people, str(error)

    @property
    def tracks(self) -> SyncTracks:
        """Embedded faces and voices.

        Raises:
            NoScoreError: if there are none.
        """
        if self._tracks is None:
            raise NoScoreError(self._reason)
        return self._tracks

    def motion(self) -> np.ndarray:
        """Everybody's mouth motion from the frame before, (T, P), NaN in frame 0 and where a face is missing."""
        return np.concatenate([np.full((1, self.people), np.nan), self._motions])

    def lip_sync(self) -> dict[str, float]:
        """Means over speakers of Sync-C, Sync-D and the offset in frames, over the whole clip."""
        scores = self._each_speaker(None)
        return {
            "sync_c": float(np.mean([score.confidence for score in scores])),
            "sync_d": float(np.mean([score.distance for score in scores])),
            "sync_offset": float(np.mean([score.offset for score in scores])),
        }

    def sync_c_star(self) -> dict[str, float]:
        """Sync-C over speaking spans."""
        if self.clip.speaking is None:
            raise NoScoreError("It is not known who speaks when: give --speaking, or the record beside the video.")
        self._check_spans(self.clip.speaking)
        return {"sync_c_star": sync_c_star(self._each_speaker(self.clip.speaking))}

    def _check_spans(self, spans: Sequence[Spans]) -> None:
        if len(spans) != self.people:
            raise NoScoreError(f"The spans are of {len(spans)} people, but {self.people} were found.")

    def _each_speaker(self, spans: Sequence[Spans] | None) -> list[LipSync]:
        scores, reasons = [], []
        for person in np.flatnonzero(self.tracks.sounding).tolist():
            try:
                scores.append(lip_sync_of(self.tracks, person, speaking=None if spans is None else spans[person]))
            except NoScoreError as error:
                reasons.append(str(error))
        if not scores:
            raise NoScoreError(reasons[0] if reasons else "Nobody has a voice in this clip.")
        return scores

    def binding(self) -> tuple[dict[str, float], list[list[float | None]]]:
        """Share of speaking faces that fit their own voice best, and how well each face fits each voice."""
        found = binding(self.tracks)
        matrix = [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in found.confidence]
        return {"binding": found.accuracy}, matrix

    def silence(self) -> dict[str, float]:
        """Mouth motion of people while they have nothing to say, relative to that of speakers."""
        spans: Sequence[Spans] | None = self.clip.speaking
        if spans is None:
            heard = [[] if voice is None else speaking_spans(voice) for voice in self.voices]
            spans = [[(start, end) for start, end in person] for person in heard]
        self._check_spans(spans)
        return {"silence": silence(self._motions, spans, self.fps).ratio}


def voices_of(clip: ClipSource, people: int, seconds: float) -> list[np.ndarray | None]:
    """Everybody's voice, 16 kHz (samples,): recordings, or the video's sound at the times when a person speaks.

    Raises:
        NoScoreError: if there is no sound, or it is not known whose it is.
    """
    if clip.voices is not None:
        if len(clip.voices) != people:
            raise NoScoreError(f"There are {len(clip.voices)} recordings for {people} people.")
        return [None if path is None else load_audio(path) for path in clip.voices]
    try:
        mixed = _beginning_with_pictures(clip.video, load_audio(clip.video))
    except InputError as error:
        raise NoScoreError(f"The video's sound can't be used: {error}") from error
    if people == 1:
        return [mixed]
    if clip.speaking is None:
        raise NoScoreError("Whose voice is whose is not known: give --voices or --speaking.")
    if len(clip.speaking) != people:
        raise NoScoreError(f"The spans are of {len(clip.speaking)} people, but {people} were found.")
    return [_within(mixed, spans) if spans else None for spans in clip.speaking]


def _beginning_with_pictures(video: Path, sound: np.ndarray) -> np.ndarray:
    """A video's sound, 16 kHz (samples,), from its first picture on, wherever the file lets it begin."""
    with open_media(video) as container:
        heard, seen = container.streams.audio[0], video_streams(container)[0]
        late = float((heard.start_time or 0) * heard.time_base - (seen.start_time or 0) * seen.time_base)
    shift = round(late * SAMPLE_RATE)
    return np.pad(sound, (shift, 0)) if shift > 0 else sound[-shift:]


def _within(waveform: np.ndarray, spans: Spans) -> np.ndarray:
    """A waveform that is silent outside some spans."""
    kept = np.zeros_like(waveform)
    for start, end in spans:
        part = slice(max(0, int(start * SAMPLE_RATE)), int(end * SAMPLE_RATE))
        kept[part] = waveform[part]
    return kept
