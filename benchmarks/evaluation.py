"""Can the scores be trusted, and are they fast? Drawn conversations, whole and spoiled in known ways.

    python benchmarks/evaluation.py effects            # a table: what each kind of damage does to each score
    python benchmarks/evaluation.py speed --clips 100  # sharing and parallel work against one score after another

Nobody in these clips was ever trained on.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from anytalker.conditioning.timeline import speaking_spans
from anytalker.errors import NoScoreError
from anytalker.evaluation import interactivity
from anytalker.evaluation.clips import VideoFrames, find_clips
from anytalker.evaluation.eye_motion.tracks import FaceTracks
from anytalker.evaluation.lip_sync.binding import binding
from anytalker.evaluation.lip_sync.crops import crop_faces
from anytalker.evaluation.lip_sync.scores import embed_tracks, lip_sync_of
from anytalker.evaluation.lip_sync.silence import mouth_motions
from anytalker.evaluation.run import evaluate
from anytalker.evaluation.scoring import ScoringSettings, Tools
from anytalker.media.recordings import SAMPLE_RATE, mix
from anytalker.media.video import write_video
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.landmarks import scene_tracks

FPS, FIRST_SEED = 24.0, 7_000_000


def rendered(clip: RenderedClip, **frozen: object) -> RenderedClip:
    """The clip drawn again with parts of every face held fixed."""
    states = [[replace(state, **frozen) for state in person] for person in clip.states]
    frames = np.stack(list(clip.scene.render(states, clip.frames.shape[1])))
    return replace(clip, frames=frames, states=states)


def frozen_eyes(clip: RenderedClip) -> RenderedClip:
    """Nobody blinks, looks elsewhere, raises brows or turns the head."""
    return rendered(clip, gaze=(0.0, 0.0), blink=0.0, brow=0.0, turn=(0.0, 0.0), shift=(0.0, 0.0))


def frozen_mouths(clip: RenderedClip) -> RenderedClip:
    """No mouth ever opens."""
    return rendered(clip, opening=0.0, width=0.5, teeth=0.0, tongue=0.0)


def late_sound(clip: RenderedClip) -> RenderedClip:
    """The sound comes four frames late."""
    late = int(4 / FPS * SAMPLE_RATE)
    return replace(clip, voices=[np.pad(voice, (late, 0))[: len(voice)] for voice in clip.voices])


def swapped_voices(clip: RenderedClip) -> RenderedClip:
    """Everybody has the next one's voice."""
    return replace(clip, voices=clip.voices[1:] + clip.voices[:1])


def dropped_frames(clip: RenderedClip) -> RenderedClip:
    """Only every fourth frame is shown, four times."""
    kept = np.arange(len(clip.frames)) // 4 * 4
    states = [[person[i] for i in kept] for person in clip.states]
    return replace(clip, frames=clip.frames[kept], states=states)


DAMAGES: dict[str, Callable[[RenderedClip], RenderedClip]] = {
    "none": lambda clip: clip,
    "sound 4 frames late": late_sound,
    "voices swapped": swapped_voices,
    "eyes frozen": frozen_eyes,
    "mouths frozen": frozen_mouths,
    "3 of 4 frames dropped": dropped_frames,
}


def marks(clip: RenderedClip, tools: Tools) -> dict[str, float]:
    """Scores of one clip in memory."""
    tracks = scene_tracks(clip.scene, clip.states, clip.frames.shape[1], FPS)
    speaking = [speaking_spans(voice) for voice in clip.voices]
    found: dict[str, float] = {}
    assert tracks.landmarks is not None
    try:
        found["interactivity"] = interactivity(tracks.landmarks, tracks.boxes, tracks.frame_size, FPS, speaking).overall
        crops, seen = crop_faces(clip.frames, tracks.boxes, tools.syncnet.crop)
        embedded = embed_tracks(crops, seen, clip.voices, FPS, tools.syncnet)
        scores = [lip_sync_of(embedded, person) for person in np.flatnonzero(embedded.sounding)]
        found["sync_c"] = float(np.mean([score.confidence for score in scores]))
        found["sync_d"] = float(np.mean([score.distance for score in scores]))
        found["offset"] = float(np.median([score.offset for score in scores]))
        found["mouth motion"] = float(np.nanmean(mouth_motions(crops, seen)))
        found["binding"] = binding(embedded).accuracy
    except NoScoreError:
        pass
    return found


def effects(clips: int) -> None:
    """Print the table of damages and scores."""
    tools = Tools(ScoringSettings())
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in DAMAGES}
    for seed in range(FIRST_SEED, FIRST_SEED + clips):
        clip = render_clip(seed, CorpusSettings(persons=2, frames=121, unseen=True))
        for name, damage in DAMAGES.items():
            rows[name].append(marks(damage(clip), tools))
    metrics = ("interactivity", "sync_c", "sync_d", "offset", "binding", "mouth motion")
    print(f"{clips} conversations of two people, 5 s each; means\n")
    print("| damage | " + " | ".join(metrics) + " |\n" + "|---" * (len(metrics) + 1) + "|")
    for name, scores in rows.items():
        cells = []
        for metric in metrics:
            values = [score[metric] for score in scores if metric in score]
            cells.append(f"{np.mean(values):.3f}" if values else "")
        print(f"| {name} | " + " | ".join(cells) + " |")


def write_clips(folder: Path, clips: int) -> None:
    """Conversations as videos of 5 s with records and tracks."""
    for number in range(clips):
        clip = render_clip(FIRST_SEED + number % 10, CorpusSettings(persons=2, frames=121, unseen=True))
        name = folder / f"clip{number:03d}"
        write_video(name.with_suffix(".mp4"), clip.frames, FPS, mix(clip.voices), SAMPLE_RATE)
        scene_tracks(clip.scene, clip.states, 128, FPS).save(folder / f"{name.name}.tracks.safetensors")
        people = [
            {"box_xywh": list(box), "audio": None, "speaking": speaking_spans(voice)}
            for box, voice in zip(clip.boxes, clip.voices, strict=True)
        ]
        name.with_suffix(".json").write_text(json.dumps({"persons": people}), encoding="utf-8")


def one_by_one(folder: Path) -> float:
    """Seconds for every score on its own: decoded, cropped and embedded again for each, as separate scripts do."""
    from anytalker.evaluation.mouth_scores import voices_of

    tools = Tools(ScoringSettings())
    assert tools.syncnet is not None
    started = time.perf_counter()
    for source in find_clips(folder):
        assert source.tracks is not None
        for score in ("interactivity", "sync", "sync star", "matrix", "silence"):
            tracks, frames = FaceTracks.load(source.tracks), np.stack(list(VideoFrames(source.video)))
            if score == "interactivity":
                assert tracks.landmarks is not None
                with suppress(NoScoreError):
                    interactivity(tracks.landmarks, tracks.boxes, tracks.frame_size, FPS, source.speaking)
                continue
            people, voices = range(tracks.boxes.shape[1]), voices_of(source, tracks.boxes.shape[1], 0)
            if score == "silence":
                mouth_motions(*crop_faces(frames, tracks.boxes, tools.syncnet.crop))
                continue
            for face in people:
                for voice in people if score == "matrix" else [face]:
                    crops, seen = crop_faces(frames, tracks.boxes[:, [face]], tools.syncnet.crop)
                    embedded = embed_tracks(crops, seen, [voices[voice]], FPS, tools.syncnet)
                    try:
                        lip_sync_of(embedded, 0)
                    except NoScoreError:
                        continue
    return time.perf_counter() - started


def speed(clips: int, workers: int) -> None:
    """Print the ratio of the two ways."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "clips"
        folder.mkdir()
        write_clips(folder, clips)
        alone = one_by_one(folder)
        started = time.perf_counter()
        scored = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal scored
            scored = time.perf_counter() - started

        with PeakMemory() as memory:
            evaluate(find_clips(folder), ScoringSettings(), Path(place) / "report", workers, on_progress=on_progress)
        together = time.perf_counter() - started
    print(
        f"{clips} clips of 5 s: one score after another {alone:.1f} s; shared work in {workers} processes, start and "
        f"all, {scored:.1f} s, 1/{alone / scored:.1f}; with the report {together:.1f} s, 1/{alone / together:.1f}; "
        f"memory of all processes at most {memory.peak / 2**20:.0f} MiB"
    )


class PeakMemory:
    """Largest memory of this process and all below it, looked at once a second while it is entered."""

    def __enter__(self) -> PeakMemory:
        self.peak, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        own = psutil.Process()
        while not self._over.wait(1.0):
            total = 0
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.Error):
                    total += process.memory_full_info().pss
            self.peak = max(self.peak, total)


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["effects", "speed"])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.what == "effects":
        effects(options.clips)
    else:
        speed(options.clips, options.workers)


if __name__ == "__main__":
    main()
