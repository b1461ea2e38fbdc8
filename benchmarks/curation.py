"""How well a curation of drawn episodes went, against what is true of them.

    anytalker miniature episode --seed 2000001 --minutes 10 --output footage/one.mp4
    anytalker curate footage dataset
    python benchmarks/curation.py dataset footage/*.json

Prints F1 of the cuts, the diarisation error (no collar, overlaps counted), the share of kept clips that are right, and
the share of good material that is kept; the last two by kind of trouble as well.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.diarization.turns import Turn, diarization_error

FPS = 25
CUT_TOLERANCE = 2.5 / FPS
STEP = 0.04
STRAY_SECONDS = 0.3
"""Seconds of other people's speech, or of an overlap, that a clip may have for want of a sharper border."""


@dataclass
class Episode:
    """An episode's truth and what the curation made of it."""

    path: str
    truth: dict[str, Any]
    cuts: list[float]
    turns: list[Turn]
    clips: list[dict[str, Any]] = field(default_factory=list)


def read_episodes(dataset: Path, truths: list[Path]) -> list[Episode]:
    """The episodes of a dataset."""
    cuts = {line["path"]: line["cuts"] for line in _lines(dataset / "cuts.jsonl")}
    turns = {line["path"]: [Turn(*turn) for turn in line["turns"]] for line in _lines(dataset / "turns.jsonl")}
    episodes = {}
    for truth in truths:
        path = str(truth.with_suffix(".mp4").resolve())
        episodes[path] = Episode(path, json.loads(truth.read_text()), cuts[path], turns[path])
    for clip in _lines(dataset / "clips.jsonl"):
        if clip["source"]["path"] in episodes:
            episodes[clip["source"]["path"]].clips.append(clip)
    return list(episodes.values())


def cut_counts(episode: Episode) -> tuple[int, int, int]:
    """Cuts that are right, found and true."""
    left, right = sorted(episode.cuts), 0
    for shot in episode.truth["shots"][1:]:
        reach = CUT_TOLERANCE
        if shot["transition"] == "dissolve":
            reach += 0.5
        near = [cut for cut in left if abs(cut - shot["start"]) <= reach]
        if near:
            left.remove(min(near, key=lambda cut: abs(cut - shot["start"])))
            right += 1
    return right, len(episode.cuts), len(episode.truth["cuts"])


def true_turns(episode: Episode, shots: list[dict[str, Any]] | None = None) -> list[Turn]:
    """Who is heard when, by number."""
    numbers = {member["id"]: index for index, member in enumerate(episode.truth["cast"])}
    return [
        Turn(numbers[voice["id"]], start, end)
        for shot in shots or episode.truth["shots"]
        for voice in shot["voices"]
        for start, end in voice["speaking"]
        if end > start
    ]


def heard_wrong(episode: Episode, shot: dict[str, Any], mapping: dict[int, int]) -> dict[str, float]:
    """Missed, false and confused seconds of a shot, with the speakers matched over the whole episode."""
    grid = np.arange(shot["start"], shot["end"], 0.01) + 0.005
    numbers = {member["id"]: index for index, member in enumerate(episode.truth["cast"])}
    true, found = defaultdict(lambda: np.zeros(len(grid), bool)), defaultdict(lambda: np.zeros(len(grid), bool))
    for voice in shot["voices"]:
        for start, end in voice["speaking"]:
            true[numbers[voice["id"]]] |= (grid >= start) & (grid < end)
    for turn in episode.turns:
        if turn.end > shot["start"] and turn.start < shot["end"]:
            found[mapping.get(turn.speaker, -1 - turn.speaker)] |= (grid >= turn.start) & (grid < turn.end)
    zero = np.zeros(len(grid), int)
    r, f = sum((one.astype(int) for one in true.values()), zero), sum((one.astype(int) for one in found.values()), zero)
    same = sum(((true[key] & found[key]).astype(int) for key in list(true)), zero)
    wrong = np.maximum(r - f, 0) + np.maximum(f - r, 0) + np.minimum(r, f) - same
    return {"wrong": float(wrong.sum() * 0.01), "speech": float(r.sum() * 0.01)}


def clip_fault(episode: Episode, clip: dict[str, Any]) -> str | None:
    """What is wrong with a kept clip; None: nothing."""
    start, end = clip["source"]["start"], clip["source"]["end"]
    shots = [shot for shot in episode.truth["shots"] if min(end, shot["end"]) - max(start, shot["start"]) > 1.5 / FPS]
    if len(shots) != 1:
        return "spans a cut"
    shot = shots[0]
    left, top = shot.get("picture_xywh", [0, 0])[:2]
    true = {}
    for person in shot["persons"]:
        boxes = person["box_xywh"]
        box = boxes if not isinstance(boxes[0], list | type(None)) else boxes[len(boxes) // 2]
        if box is not None:
            true[person["id"]] = [box[0] - left, box[1] - top, *box[2:]]
    if len(true) != len(clip["persons"]):
        return f"{len(clip['persons'])} people instead of {len(true)}"
    delay = shot.get("audio_delay_frames", 0) / FPS
    grid = np.arange(start + delay, end + delay, 0.01)
    spans = {person["id"]: person["speaking"] for person in shot["persons"]}
    speaking = {
        name: sum(((grid >= a) & (grid < b) for a, b in spans[name]), np.zeros(len(grid), bool)) for name in true
    }
    for person in clip["persons"]:
        box = np.median(np.array(person["face_boxes"]), axis=0)
        overlap = {name: _iou(box, other) for name, other in true.items()}
        name = max(overlap, key=lambda one: overlap[one])
        if overlap[name] < 0.3:
            return "a face where there is none"
        own = np.zeros(len(grid), bool)
        for a, b in person["speaking"]:
            own |= (grid - start - delay >= a) & (grid - start - delay < b)
        others = sum((speaking[other] for other in true if other != name), np.zeros(len(grid), bool))
        if (own & others & ~speaking[name]).sum() * 0.01 > STRAY_SECONDS:
            return "somebody else's voice"
        if speaking[name].sum() * 0.01 > STRAY_SECONDS and (own & speaking[name]).sum() < 0.5 * speaking[name].sum():
            return "a voice is missing"
        del true[name]
        true[name] = [-1e9, -1e9, 1, 1]
    if sum(_within(span, start + delay, end + delay) for span in shot["offscreen"]) > STRAY_SECONDS:
        return "dubbed" if any("mouthing" in person for person in shot["persons"]) else "an off-screen voice"
    if (sum(one.astype(int) for one in speaking.values()) > 1).sum() * 0.01 > STRAY_SECONDS:
        return "overlapping speech"
    return None


def _within(span: list[float], start: float, end: float) -> float:
    return max(0.0, min(end, span[1]) - max(start, span[0]))


def _iou(first: Any, second: Any) -> float:
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    inner = max(0.0, width) * max(0.0, height)
    return float(inner / (first[2] * first[3] + second[2] * second[3] - inner))


def kept_seconds(episode: Episode, shot: dict[str, Any]) -> tuple[float, float]:
    """Seconds of a shot without transitions, and how many of them are in clips."""
    start, end = shot.get("clean", [shot["start"], shot["end"]])
    inside = sum(_within([start, end], clip["source"]["start"], clip["source"]["end"]) for clip in episode.clips)
    return end - start, inside


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("truths", type=Path, nargs="+")
    parser.add_argument("--faults", action="store_true", help="name each clip that is wrong")
    arguments = parser.parse_args()
    episodes = read_episodes(arguments.dataset, arguments.truths)
    right, found, true = np.sum([cut_counts(episode) for episode in episodes], axis=0)
    print(f"cuts: F1 {2 * right / (found + true):.4f}  ({right} right of {found} found, {true} true)")
    wrong = speech = 0.0
    rows: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for episode in episodes:
        error = diarization_error(true_turns(episode), episode.turns)
        wrong, speech = wrong + error.rate * error.seconds, speech + error.seconds
        print(
            f"{Path(episode.path).name}: DER {error.rate:.2%} (missed {error.missed:.2%}, "
            f"false {error.false_alarm:.2%}, confused {error.confusion:.2%})"
        )
        faults = {clip["name"]: clip_fault(episode, clip) for clip in episode.clips}
        for shot in episode.truth["shots"]:
            heard = heard_wrong(episode, shot, error.mapping)
            seconds, kept = kept_seconds(episode, shot)
            clips = [c for c in episode.clips if shot["start"] - 0.1 <= c["source"]["start"] < shot["end"] - 0.1]
            bad = [clip for clip in clips if faults[clip["name"]]]
            names = ["good" if shot["good"] else "not good", *(shot["trouble"] or ["none"])]
            for name in names:
                row = rows[name]
                row["shots"] += 1
                row["seconds"] += seconds
                row["kept"] += kept
                row["clips"] += len(clips)
                row["faults"] += len(bad)
                row["good"] += shot["good"]
                row["wrong"] += heard["wrong"]
                row["speech"] += heard["speech"]
            for clip in bad if arguments.faults else []:
                print("  ", clip["name"], faults[clip["name"]], shot["trouble"])
    print(f"who speaks when: DER {wrong / speech:.2%} of {speech / 60:.1f} min of speech")
    clips = rows["good"]["clips"] + rows["not good"]["clips"]
    faults = rows["good"]["faults"] + rows["not good"]["faults"]
    print(f"clips that are right: {1 - faults / max(1, clips):.2%} of {clips:.0f}")
    print(f"good material kept: {rows['good']['kept'] / max(1e-9, rows['good']['seconds']):.2%}\n")
    print("| trouble | shots | good | minutes | kept | clips | wrong | DER |\n|---|---|---|---|---|---|---|---|")
    for name, row in sorted(rows.items()):
        der = f"{row['wrong'] / row['speech']:.1%}" if row["speech"] else "-"
        print(
            f"| {name} | {row['shots']:.0f} | {row['good']:.0f} | {row['seconds'] / 60:.1f} | "
            f"{row['kept'] / max(1e-9, row['seconds']):.0%} | {row['clips']:.0f} | {row['faults']:.0f} | {der} |"
        )


if __name__ == "__main__":
    main()
