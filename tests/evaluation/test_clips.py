"""Finding what belongs to a clip, and decoding it."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from anytalker.errors import InputError
from anytalker.evaluation.clips import ClipSource, Folders, VideoFrames, find_clips, find_voices, read_spans
from anytalker.evaluation.eye_motion.tracks import FaceTracks
from anytalker.evaluation.mouth_scores import voices_of
from anytalker.media.video import read_video, write_video


@pytest.fixture
def folder(tmp_path) -> Path:
    place = tmp_path / "made"
    place.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), dtype=np.uint8)
    for name in ("two", "one"):
        write_video(place / f"{name}.mp4", frames, 24.0)
    return place


def test_what_lies_beside_a_video_is_found(folder, tmp_path) -> None:
    persons = [{"box_xywh": [1, 2, 20, 21], "audio": None, "speaking": [[0.0, 0.2]]}]
    (folder / "one.json").write_text(json.dumps({"persons": persons}))
    FaceTracks(np.zeros((12, 1, 4), "f4"), None, (64, 48), 24.0).save(folder / "two.tracks.safetensors")
    (tmp_path / "real").mkdir()
    write_video(tmp_path / "real" / "two.mp4", np.zeros((5, 48, 64, 3), np.uint8), 24.0)
    one, two = find_clips(folder, Folders(real=tmp_path / "real"))
    assert (one.name, two.name) == ("one", "two")
    assert one.boxes == [(1, 2, 20, 21)]
    assert one.speaking == [[(0.0, 0.2)]]
    assert one.tracks is None
    assert one.real is None
    assert two.tracks == folder / "two.tracks.safetensors"
    assert two.real == tmp_path / "real" / "two.mp4"


def test_the_benchmarks_spans_and_voices_are_found(folder, tmp_path) -> None:
    spans = {"one.mp4": {"left": [[0, 1]], "right": []}, "two.mp4": [[[0, 0.5]], [], [[1, 2]]]}
    (folder / "speaker_duration.json").write_text(json.dumps(spans))
    for side in ("left", "right"):
        (tmp_path / "voices" / f"audio_{side}").mkdir(parents=True)
    (tmp_path / "voices" / "audio_right" / "one_right.wav").write_bytes(b"")
    one, two = find_clips(folder, Folders(voices=tmp_path / "voices"))
    assert one.speaking == [[(0.0, 1.0)], []]
    assert two.speaking == [[(0.0, 0.5)], [], [(1.0, 2.0)]]
    assert one.voices == [None, tmp_path / "voices" / "audio_right" / "one_right.wav"]
    assert two.voices is None
    (tmp_path / "voices" / "audio_left" / "one_left.wav").write_bytes(b"")
    assert [path.name for path in find_voices("one", tmp_path / "voices")] == ["one_left.wav", "one_right.wav"]


def test_voices_are_the_clips_own_in_the_order_of_their_numbers(tmp_path) -> None:
    def found(name: str, people: list[str] | None = None) -> list[str]:
        return [path.name for path in find_voices(name, tmp_path, people) or ()]

    (tmp_path / "more").mkdir()
    for name in [*(f"talk_{person}" for person in range(11)), "talk_2_0", "talk_2_1", "talk_", "c[1]_0", "c1_0"]:
        (tmp_path / "more" / f"{name}.wav").write_bytes(b"")
    assert found("talk") == [f"talk_{person}.wav" for person in range(11)]
    assert found("talk_2") == ["talk_2_0.wav", "talk_2_1.wav"]
    assert found("c[1]") == found("c[1]", ["0"]) == ["c[1]_0.wav"]
    assert found("talk", ["[0-9]"]) == []
    assert find_voices("tal", tmp_path) is None


@pytest.mark.parametrize("names", [("0", "1"), ("1", "2"), ("anna", "ben")])
def test_people_without_names_have_the_recordings_in_order(tmp_path, names: tuple[str, str]) -> None:
    (tmp_path / "talk.mp4").write_bytes(b"")
    (tmp_path / "speaker_duration.json").write_text('{"talk.mp4": [[[0, 1]], [[1, 2]]]}')
    for name in names:
        (tmp_path / f"talk_{name}.wav").write_bytes(b"")
    assert find_clips(tmp_path, Folders(voices=tmp_path))[0].voices == [tmp_path / f"talk_{n}.wav" for n in names]


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"a.mp4": {"left": [["x", 1]]}}', '{"a.mp4": {"left": 3}}', '{"a.mp4": 3}']
)
def test_spans_of_another_form_are_named(tmp_path, text: str) -> None:
    path = tmp_path / "spans.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"spans\.json"):
        read_spans(path)


def test_folders_without_videos_are_named(tmp_path) -> None:
    with pytest.raises(InputError, match="holds no videos"):
        find_clips(tmp_path)
    with pytest.raises(InputError, match="There is no folder"):
        find_clips(tmp_path / "none")


def test_frames_are_decoded_again_and_again(folder) -> None:
    video = VideoFrames(folder / "one.mp4")
    assert len(list(video)) == len(list(video)) == 12
    assert (video.size, video.fps, video.uneven()) == ((64, 48), 24.0, False)
    assert video.probe() == ((64, 48), 24.0)


def test_frames_of_a_turned_phone_are_upright(folder) -> None:
    path = folder / "one.mp4"
    plain = next(iter(VideoFrames(path)))
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 * 65536, 0, 1 << 30)
    path.write_bytes(data)
    video = VideoFrames(path)
    turned = np.rot90(plain, -1)
    assert np.array_equal(next(iter(video)), turned)
    assert video.size == (48, 64)
    assert np.array_equal(read_video(path)[0][0], turned)


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_sound_that_begins_late_stays_in_time(tmp_path, late) -> None:
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=24)
        video.width = video.height = 64
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for number in range(48):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            picture.pts = number
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        click = np.zeros((1, 16000), np.int16)
        click[0, 1600:1760] = 20000
        frame = av.AudioFrame.from_ndarray(click, "s16", "mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), round(16000 * late)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    heard = voices_of(ClipSource(path), 1, 2.0)[0]
    assert np.abs(heard).argmax() / 16000 == pytest.approx(late + 0.1, abs=0.02)


def test_broken_videos_are_named(folder, tmp_path) -> None:
    whole = (folder / "one.mp4").read_bytes()
    broken = tmp_path / "broken.mp4"
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"broken\.mp4"):
            list(VideoFrames(broken))


@pytest.mark.parametrize("name", ["list.ffconcat", "clip.mp4"])
def test_playlists_are_refused_and_what_they_name_is_not_opened(folder, name) -> None:
    (folder / name).write_text("ffconcat version 1.0\nfile one.mp4\n")
    with pytest.raises(InputError, match="playlist"):
        list(VideoFrames(folder / name))


def test_a_name_with_a_colon_is_a_files(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    Path("one.mp4").rename("concat:one.mp4")
    assert len(list(VideoFrames(Path("concat:one.mp4")))) == 12
