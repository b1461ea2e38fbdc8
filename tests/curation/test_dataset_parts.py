"""Duplicates, identities and the split, captions, and the lengths of clips."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from anytalker.curation import identities
from anytalker.curation.captions import describe
from anytalker.curation.config import ClipsConfig, SpeechConfig, SplitConfig, load_config
from anytalker.curation.duplicates import find_duplicates, sound_alike
from anytalker.curation.export import KeptClip, KeptPerson, bits_between, own_voice, picture_hash
from anytalker.curation.footage import FPS, Footage
from anytalker.curation.identities import _Groups, name_identities, split_people
from anytalker.curation.licences import Rights, read_rights
from anytalker.curation.piece import Dropped, Face, Piece, Source
from anytalker.curation.stages.borders import BordersStage
from anytalker.curation.stages.clips import ClipsStage
from anytalker.errors import InputError
from anytalker.hashing import short_digest


def person(voice: int | None, height: float = 40) -> KeptPerson:
    speaking = [] if voice is None else [(0.5, 2.5)]
    return KeptPerson(
        audio_path=None,
        face_boxes=[(10, 10, height, height)],
        sync_confidence=None,
        voice=voice,
        speaking=speaking,
    )


def clip(
    name: str, *people: KeptPerson, path: str = "a.mp4", loudness=None, hash_: str = "0" * 16, frames=100
) -> KeptClip:
    return KeptClip(
        name=name,
        video_path=f"clips/{name}.mp4",
        source=Source(path=path, start=0, end=4),
        width=200,
        height=100,
        n_frames=frames,
        persons=list(people),
        picture_hash=hash_,
        loudness=loudness or [0.1] * 100,
        numbers={},
    )


def speech_like(seed: int, frames: int = 100) -> list[float]:
    rng = np.random.default_rng(seed)
    return np.abs(np.convolve(rng.normal(0, 0.2, frames + 4), np.ones(5) / 5, mode="valid")).tolist()


def test_the_same_recording_is_found_at_another_start_and_size() -> None:
    sound = speech_like(0, 140)
    louder = [1.3 * value for value in sound]
    assert sound_alike(sound[:100], louder[30:130])
    assert not sound_alike(sound[:100], speech_like(1))


def test_duplicates_need_alike_pictures_and_sound() -> None:
    sound, other = speech_like(0), speech_like(1)
    clips = [
        clip("first", person(0), loudness=sound),
        clip("same", person(0), loudness=sound, hash_="0" * 15 + "7"),
        clip("same pictures", person(0), loudness=other),
        clip("same sound", person(0), loudness=sound, hash_="f" * 16),
    ]
    assert find_duplicates(clips, 10) == {"same": "first"}
    assert find_duplicates(clips, 2) == {}


def test_many_clips_of_one_camera_are_compared_at_once(monkeypatch) -> None:
    lengths = (100, 30, 60, 140, 45, 100)
    sounds = [speech_like(seed, frames) for seed, frames in enumerate(lengths)]
    sounds += [sounds[3][20:110], sounds[0][:36]]
    compared = []

    def counted(first, second) -> bool:
        compared.append(sound_alike(first, second))
        return compared[-1]

    monkeypatch.setattr("anytalker.curation.duplicates.sound_alike", counted)
    clips = [clip(str(index), person(0), loudness=sound) for index, sound in enumerate(sounds)]
    assert find_duplicates(clips, 10) == {"6": "3"}
    assert compared == [True]


def test_hashes_stay_close_when_a_picture_is_scaled_and_noisy() -> None:
    rng = np.random.default_rng(0)
    import cv2

    coarse = rng.integers(0, 255, (6, 8, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC)
    noisy = cv2.resize(picture, (160, 120)).astype(int) + rng.integers(-6, 7, (120, 160, 3))
    assert bits_between(picture_hash(picture), picture_hash(np.clip(noisy, 0, 255).astype(np.uint8))) <= 6
    assert bits_between(picture_hash(picture), picture_hash(picture[:, ::-1])) > 12


def test_people_are_known_again_by_their_voice_in_other_files() -> None:
    voices = {"a.mp4": np.eye(3)[:2], "b.mp4": np.array([[0.0, 1.0, 0.05]])}
    clips = [
        clip("one", person(0)),
        clip("two", person(1)),
        clip("other file", person(0), path="b.mp4"),
        clip("silent", person(None), person(1)),
    ]
    names = name_identities(clips, voices)
    assert names["two", 0] == names["other file", 0] == names["silent", 1] != names["one", 0]
    assert ("silent", 0) not in names


def test_people_of_many_files_are_those_that_comparing_each_with_each_finds(monkeypatch) -> None:
    monkeypatch.setattr(identities, "_ROWS", 16)
    rng = np.random.default_rng(0)
    known = rng.normal(size=(12, 24))
    voices = {
        f"{file}.mp4": known[rng.integers(0, 12, size)] + rng.normal(0, 0.45, (size, 24))
        for file, size in enumerate(rng.integers(0, 4, 40))
    }
    voices["silence.mp4"] = np.zeros((1, 24))
    clips = [
        clip(f"{path} {voice}", person(voice), path=path)
        for path, found in voices.items()
        for voice in range(len(found))
    ]
    unit = {
        path: found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9) for path, found in voices.items()
    }
    groups = _Groups()
    for path, other in combinations(sorted(voices), 2):
        for one, two in zip(*np.nonzero(unit[path] @ unit[other].T > identities.SAME_VOICE), strict=True):
            groups.join(f"{path}#{one}", f"{other}#{two}")
    named = name_identities([*clips, clip("unheard", person(0), path="unheard.mp4")], voices)
    keys = {(one.name, 0): f"{one.source.path}#{one.persons[0].voice}" for one in clips}
    wanted = {place: short_digest(groups.find(key))[:12] for place, key in keys.items()}
    assert named == wanted | {("unheard", 0): short_digest("unheard.mp4#0")[:12]}
    assert 12 < len(set(wanted.values())) < len(wanted) - 12


def test_nobody_is_in_two_parts() -> None:
    rng = np.random.default_rng(0)
    clips, voices = [], {f"{file}.mp4": np.eye(80)[4 * file : 4 * file + 4] for file in range(20)}
    for number in range(120):
        file = int(rng.integers(0, 20))
        people = [person(int(one)) for one in rng.permutation(4)[: 1 + number % 2]]
        if file < 3 and number % 2:
            people[0] = person(None)
        clips.append(clip(f"clip {number}", *people, path=f"{file}.mp4"))
    names = name_identities(clips, voices)
    split = split_people(clips, names, SplitConfig(validation=0.2, test=0.2))
    parts: dict[str, set[str]] = {}
    for (name, _), identity in names.items():
        parts.setdefault(identity, set()).add(split[name])
    assert all(len(part) == 1 for part in parts.values())
    for file in range(3):
        assert len({split[one.name] for one in clips if one.source.path == f"{file}.mp4"}) == 1
    assert set(split.values()) == {"train", "validation", "test"}
    assert all(0.08 <= list(split.values()).count(part) / len(clips) <= 0.3 for part in ("validation", "test"))


def test_captions_say_who_speaks() -> None:
    assert describe(clip("a", person(0))) == (
        "One person in a close-up, talking to the camera, the camera standing still."
    )
    assert "the right one talking, the other listening" in describe(clip("b", person(None), person(1)))
    assert "talking with each other" in describe(clip("c", person(0, height=20), person(1, height=20)))
    three = clip("three", person(0), person(1), person(None))
    assert "the second from the left talking, the other listening" in describe(three)
    assert "Two people in a close-up, listening, the camera" in describe(clip("e", person(None), person(None)))
    moving = clip("f", person(0)).model_copy(update={"numbers": {"camera.moving": 1.0}})
    assert describe(moving).endswith("the camera moving.")
    assert describe(clip("d", person(0), person(1)), "{people} people talk.") == "2 people talk."


def piece(seconds: float, spans: list[tuple[float, float]], start: int = 1000) -> Piece:
    frames = round(seconds * FPS)
    begin = start / FPS
    face = Face(
        np.tile(np.array([10, 10, 60, 60], np.float32), (frames, 1)),
        tuple((a + begin, b + begin) for a, b in spans),
        0,
    )
    return Piece(Footage(Path("a.mp4")), start, start + frames, np.zeros(0, np.float32), faces=(face,))


def test_clips_cover_the_piece_and_end_in_pauses() -> None:
    spans = [(0.2, 3.6), (4.2, 7.9), (8.4, 12.0), (12.5, 15.8)]
    stage = ClipsStage(ClipsConfig(), SpeechConfig())
    clips = [one for one in stage(piece(16, spans)) if isinstance(one, Piece)]
    assert clips[0].start == 1000
    assert clips[-1].end == 1400
    assert [one.end for one in clips[:-1]] == [one.start for one in clips[1:]]
    assert all(2.0 <= one.seconds <= 6.0 for one in clips)
    assert all(len(one.faces[0].boxes) == one.end - one.start for one in clips)
    for one in clips[1:]:
        moment = (one.start - 1000) / FPS
        assert not any(a + 0.05 < moment < b - 0.05 for a, b in spans)


@pytest.mark.parametrize(("size", "told"), [((64, 200), ""), ((60, 200), "less than 64 pixels"), ((64, 3), "is black")])
def test_tiny_pictures_are_not_called_black(size, told) -> None:
    side, value = size
    picture = np.full((side, 80, 3), value, np.uint8)
    one = replace(piece(4, []), pictures=SimpleNamespace(frames=lambda *_: iter([picture])))
    (result,) = BordersStage()(one)
    assert told in result.reason if told else isinstance(result, Piece)


def test_chains_of_people_may_be_long() -> None:
    groups = _Groups()
    for number in reversed(range(3000)):
        groups.join(f"{number:04d}", f"{number + 1:04d}")
    assert groups.find("3000") == groups.find("1500") == "0000"


def test_no_clip_is_shorter_than_the_shortest() -> None:
    stage = ClipsStage(ClipsConfig(mean=4, min_seconds=4), SpeechConfig())
    for seconds in (6.5, 7.9, 8.1, 13.0):
        clips = list(stage(piece(seconds, [(0.2, seconds - 0.2)])))
        assert min(one.seconds for one in clips) >= 4
        assert sum(one.seconds for one in clips) == pytest.approx(seconds, abs=0.03)


def test_short_and_quiet_pieces_are_dropped_with_a_reason() -> None:
    stage = ClipsStage(ClipsConfig(), SpeechConfig())
    (short,) = stage(piece(1.2, [(0, 1)]))
    assert isinstance(short, Dropped)
    assert "shorter than 2 s" in short.reason
    (quiet,) = stage(piece(4, [(0, 0.4)]))
    assert isinstance(quiet, Dropped)
    assert "speaks" in quiet.reason


def test_a_voice_of_ones_own_has_nobody_elses_words() -> None:
    one = piece(4, [(0.5, 1.5)])
    other = Face(one.faces[0].boxes, ((41.6, 43.0),), 1)
    both = Piece(one.footage, one.start, one.end, one.sound, faces=(one.faces[0], other))
    mixed = np.ones(4 * 16000, np.float32)
    voice = own_voice(both, both.faces[0], mixed)
    assert voice[round(1.0 * 16000)] == pytest.approx(1)
    assert np.all(voice[round(1.65 * 16000) :] == 0)
    assert np.all(voice[: round(0.3 * 16000)] == 0)
    assert own_voice(both, other, mixed)[round(1.2 * 16000)] == 0


def test_configurations_name_what_is_wrong(tmp_path) -> None:
    path = tmp_path / "curate.yaml"
    path.write_text("faces:\n  presence: 1.5\n")
    with pytest.raises(InputError, match=r"faces\.presence"):
        load_config(path)
    path.write_text("face: {}\n")
    with pytest.raises(InputError, match="face"):
        load_config(path)
    path.write_text("clips: {mean: 5}\n")
    assert load_config(path).clips.mean == 5
    for text, told in (
        ("shots: {min_seconds: 10, max_seconds: 5}", "more than max_seconds, 5"),
        ("split: {validation: 0.6, test: 0.6}", "more than all people"),
        ("clips: {seed: -1}", r"clips\.seed"),
        ("speech: {margin: .nan}", r"speech\.margin"),
        ("sync: {min_confidence: .inf}", r"sync\.min_confidence"),
        ("clips: [", "is not YAML: while parsing"),
        ("[" * 500, "is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            load_config(path)
    with pytest.raises(InputError, match="no configuration"):
        load_config(tmp_path / "none.yaml")


def test_notes_on_rights_are_read_in_either_spelling(tmp_path) -> None:
    (tmp_path / "footage.json").write_text('{"license": "CC0", "consent": "all"}')
    (tmp_path / "talk.json").write_text('{"licence": "CC-BY-4.0"}')
    assert read_rights(tmp_path / "other.mp4") == Rights(licence="CC0", consent="all")
    assert read_rights(tmp_path / "talk.mp4") == Rights(licence="CC-BY-4.0", consent="all")
    (tmp_path / "talk.json").write_text('{"licence": ["CC0"]}')
    with pytest.raises(InputError, match=r"talk\.json can't be used: licence must be text"):
        read_rights(tmp_path / "talk.mp4")
