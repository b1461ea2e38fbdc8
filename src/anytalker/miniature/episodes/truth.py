"""What is true of an episode, as its .json says it."""

from __future__ import annotations

from typing import Any

from anytalker.miniature.episodes.overlays import bar_rows
from anytalker.miniature.episodes.places import face_boxes
from anytalker.miniature.episodes.plan import FPS, Plan, Shot
from anytalker.miniature.episodes.sound import ShotSound

SPEECH = 2.0
"""Seconds of speech that a good shot has at least."""


def episode_truth(plan: Plan, shots: list[dict[str, Any]]) -> dict[str, Any]:
    """All that is known of an episode; `shots` are what `shot_truth` says of each."""
    return {
        "version": 1,
        "seed": plan.seed,
        "fps": FPS,
        "size": [plan.width, plan.height],
        "frames": plan.frames,
        "cast": [
            {"id": member.id, "gender": member.gender, "voice": member.voice.name, "pitch": member.voice.pitch}
            for member in plan.cast
        ],
        "cuts": [shot.start / FPS for shot in plan.shots[1:]],
        "shots": shots,
    }


def shot_truth(plan: Plan, index: int, sound: ShotSound) -> dict[str, Any]:
    """All that is known of a shot; times in seconds of the episode, boxes in pixels.

    Args:
        plan: of the episode.
        index: of the shot.
        sound: of the shot.
    """
    shot = plan.shots[index]
    following = plan.shots[index + 1] if index + 1 < len(plan.shots) else None
    persons = []
    for seat in shot.seats:
        own = [one for one in sound.spoken if one.mouth == seat.member]
        boxes = [None if box is None else list(box) for box in face_boxes(plan, shot, seat)]
        person = {
            "id": plan.cast[seat.member].id,
            "box_xywh": boxes if seat.path or shot.move else boxes[0],
            "speaking": _spans(shot, [span for one in own if not one.dubbed for span in one.heard]),
        }
        if any(one.dubbed for one in own):
            person["mouthing"] = _spans(shot, [span for one in own for span in one.mouthing])
        persons.append(person)
    unseen = [one for one in sound.spoken if one.mouth is None or one.dubbed]
    speech = sum(end - start for one in sound.spoken if not one.dubbed for start, end in one.heard)
    heard: dict[int, list[tuple[float, float]]] = {}
    for one in sound.spoken:
        heard.setdefault(one.speaker, []).extend(one.heard)
    rows = bar_rows(plan.height, shot.bars)
    truth: dict[str, Any] = {
        "start": shot.start / FPS,
        "end": shot.end / FPS,
        "camera": "moving" if shot.move else "still",
        "persons": persons,
        "good": shot.good and speech >= SPEECH,
        "trouble": list(shot.trouble),
        "transition": "dissolve" if shot.dissolve else "cut",
        "clean": _clean(shot, following),
        "offscreen": _spans(shot, [span for one in unseen for span in one.heard]),
        "voices": [
            {"id": plan.cast[speaker].id, "speaking": _spans(shot, spans)} for speaker, spans in sorted(heard.items())
        ],
    }
    if shot.delay:
        truth["audio_delay_frames"] = shot.delay
    if shot.flashes:
        truth["flashes"] = [(shot.start + flash) / FPS for flash in shot.flashes]
    if shot.music is not None:
        truth["music_db"] = round(shot.music, 1)
    truth["noise_db"] = round(shot.noise, 1)
    if rows:
        truth["picture_xywh"] = [0, rows, plan.width, plan.height - 2 * rows]
    if shot.repeats is not None:
        truth["repeats"] = shot.repeats
    return truth


def _clean(shot: Shot, following: Shot | None) -> list[float]:
    """The part of a shot in which no other one is seen through it."""
    start = shot.start + shot.dissolve - lead_frames(shot)
    end = shot.end - (lead_frames(following) if following else 0)
    return [start / FPS, end / FPS]


def lead_frames(shot: Shot) -> int:
    """Frames of a shot's dissolve before the shot begins."""
    return shot.dissolve - shot.dissolve // 2


def _spans(shot: Shot, spans: list[tuple[float, float]]) -> list[list[float]]:
    """Spans of a shot as those of the episode, in order, cut at the shot's ends."""
    begin, end = shot.start / FPS, shot.end / FPS
    cut = sorted((max(begin, begin + start), min(end, begin + stop)) for start, stop in spans)
    return [[round(start, 3), round(stop, 3)] for start, stop in cut if stop > start]
