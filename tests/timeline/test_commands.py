"""`anytalker timeline`, and `anytalker generate` from scripts, recordings and timelines."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from anytalker.media.recordings import load_audio, write_wave
from anytalker.media.video import read_video
from anytalker.miniature.demo import write_picture
from anytalker.pipelines.pipeline import AnyTalkerPipeline
from anytalker.timeline.formats import read_timeline
from anytalker.timeline.model import Timeline
from anytalker.timeline.script import parse_script
from anytalker.timeline.spoken import timeline_of_script
from anytalker.timeline.streams import streams
from tests.test_cli import run

pytestmark = pytest.mark.usefixtures("quick_diarization")

SCRIPT = "Anna: Hello you.\nBen: [pause 0.1] Oh, hi!\nCarla: [pause 0.1] Good day.\nDan: [with Carla] Good day.\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of two and of four people."""
    made = tmp_path_factory.mktemp("conversation")
    for persons, name in ((2, "two.png"), (4, "four.png")):
        write_picture(persons, 1_000_003, made / name)
    return made


@pytest.fixture
def here(tmp_path, monkeypatch, folder) -> Path:
    """An empty folder to work in, with the script."""
    monkeypatch.chdir(tmp_path)
    Path("talk.txt").write_text(SCRIPT, encoding="utf-8")
    for name in ("two.png", "two.json", "four.png", "four.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return tmp_path


def test_four_people_say_a_script(here, capsys) -> None:
    command = ["generate", "--image", "four.png", "--script", "talk.txt", "--fps", "12", "--steps", "1"]
    assert run(*command, "--subtitles", "srt", "--output", "talk.mp4") == 0
    record = json.loads(Path("talk.json").read_text())
    timeline = Timeline.read("talk.json")
    assert [person.name for person in timeline.people] == ["Anna", "Ben", "Carla", "Dan"]
    lefts = [person.face[0] for person in timeline.people]
    assert lefts == sorted(lefts)
    assert [person["audio"] for person in record["persons"]] == ["Anna", "Ben", "Carla", "Dan"]
    frames, fps = read_video("talk.mp4")
    assert abs(len(frames) / fps - timeline.seconds) < 4 / 12
    for person, shown in zip(timeline.people, record["persons"], strict=True):
        (turn,) = timeline.turns_of(person.name)
        assert turn.start - 0.05 <= shown["speaking"][0][0]
        assert shown["speaking"][-1][1] <= turn.end + 0.05
    spoken = sum(voice[:] for voice in streams(timeline))
    heard = load_audio("talk.mp4")[: len(spoken)]
    assert np.corrcoef(heard, spoken[: len(heard)])[0, 1] > 0.95
    subtitles = read_timeline("talk.srt")
    assert [(turn.person, turn.text) for turn in subtitles.turns] == [
        (turn.person, turn.text) for turn in timeline.turns
    ]
    with av.open("talk.mp4") as container:
        chapters = [chapter["metadata"]["title"] for chapter in container.chapters()]
    assert chapters in (["Anna", "Ben", "Carla, Dan"], ["Anna", "Ben", "Dan, Carla"])
    edited = json.loads(Path("talk.json").read_text())
    edited["timeline"]["turns"] = edited["timeline"]["turns"][:1]
    edited["timeline"]["turns"][0] |= {"start": 0.1, "end": 0.4}
    Path("talk.json").write_text(json.dumps(edited))
    again = ["--timeline", "talk.json", "--fps", "12", "--steps", "1", "--max-frames", "5"]
    assert run("generate", "--image", "four.png", *again) == 0
    assert Timeline.read("talk-2.json").turns[0].start == 0.1
    assert json.loads(Path("talk.json").read_text()) == edited
    assert run("generate", "--image", "four.png", "--timeline", "talk.json", "--preview", "--output", "again.mp4") == 0
    assert Image.open("again.preview.png").height > 1.3 * Image.open("four.png").height


def test_subtitles_are_burnt_in(here) -> None:
    Path("talk.txt").write_text("Anna: Hi you.\n")
    short = ["--image", "two.png", "--script", "talk.txt", "--fps", "12", "--steps", "1"]
    assert run("generate", *short, "--output", "plain.mp4") == 0
    assert run("generate", *short, "--output", "burnt.mp4", "--subtitles", "burn") == 0
    plain, burnt = (read_video(name)[0].astype(float) for name in ("plain.mp4", "burnt.mp4"))
    (turn,) = Timeline.read("burnt.json").turns
    first, last = round(turn.start * 12) + 1, round(turn.end * 12) - 2
    changed = np.abs(burnt - plain).mean(axis=(2, 3))
    height = plain.shape[1]
    assert changed[first:last, -height // 12 :].mean() > 20
    assert changed[:, : height // 2].mean() < 3
    assert changed[0].mean() < 3


def test_plain_audio_is_recorded_as_a_timeline(here, capsys) -> None:
    timeline = timeline_of_script(parse_script("Ben: Good morning. [pause 0.5] Yes."))
    (voice,) = streams(timeline)
    Path("voices").mkdir()
    write_wave("voices/ben.wav", voice[:])
    people = ["--audio", "none", "--audio", "voices/ben.wav", "--max-frames", "13"]
    assert run("generate", "--image", "two.png", *people, "--fps", "12", "--steps", "1", "--output", "talk.mp4") == 0
    found = Timeline.read("talk.json")
    assert [person.name for person in found.people] == ["Person 1", "Person 2"]
    assert {turn.person for turn in found.turns} == {"Person 2"}
    again = streams(found)[1]
    np.testing.assert_allclose(again[8000:9000], voice[8000:9000], atol=1e-3)


def test_a_timeline_can_be_made_edited_and_written_in_every_format(here, capsys) -> None:
    assert (
        run("timeline", "--script", "talk.txt", "--image", "four.png", "--voice", "Ben=de+m2", "--output", "a.json")
        == 0
    )
    first = Timeline.read("a.json")
    assert (first.people[1].voice.name, len(first.people[1].face)) == ("de+m2", 4)
    for kind in ("srt", "vtt", "rttm"):
        assert run("timeline", "--timeline", "a.json", "--output", f"a.{kind}") == 0
        held = [(turn.person, turn.start, turn.end) for turn in read_timeline(f"a.{kind}").turns]
        assert sorted(held) == sorted((turn.person, turn.start, turn.end) for turn in first.turns)
    capsys.readouterr()
    assert run("timeline", "--script", "talk.txt", "--output", "a.json") == 2
    assert "may have been edited" in capsys.readouterr().err
    assert Timeline.read("a.json") == first


def test_a_recording_becomes_a_timeline_with_samples(here, capsys) -> None:
    spoken = timeline_of_script(
        parse_script(
            "Anna: Did you see the game last night? It was the best.\nBen: I could not believe the ending of it."
        )
    )
    write_wave("all.wav", sum(voice[:] for voice in streams(spoken)))
    Path("out").mkdir()
    assert run("timeline", "--recording", "all.wav", "--image", "two.png", "--output", "out/all.json") == 0
    found = Timeline.read("out/all.json")
    assert {turn.sound.file for turn in found.turns} == {"../all.wav"}
    assert sorted(path.name for path in Path("out/all.voices").iterdir()) == ["Speaker 1.wav", "Speaker 2.wav"]
    assert run("generate", "--image", "two.png", "--timeline", "out/all.json", "--preview") == 0
    assert run("timeline", "--timeline", "out/all.json", "--output", "all.rttm") == 0
    both = ["--timeline", "all.rttm", "--recording", "all.wav"]
    assert run("timeline", *both, "--output", "both.json") == 0
    assert [turn.sound.offset for turn in Timeline.read("both.json").turns] == [turn.start for turn in found.turns]


def test_what_lies_where_samples_of_voices_go_is_named_first(here, capsys) -> None:
    Path("talk.voices").write_text("mine")
    write_wave("all.wav", np.zeros(1600, np.float32))
    assert run("timeline", "--recording", "all.wav", "--output", "talk.json") == 2
    assert "talk.voices is a file" in capsys.readouterr().err
    assert run("timeline", "--recording", f"{'x' * 300}.wav", "--output", "talk.json") == 2
    assert "can't be read: File name too long" in capsys.readouterr().err
    assert Path("talk.voices").read_text() == "mine"


def test_recorded_takes_are_used(here) -> None:
    Path("takes").mkdir()
    tone = 0.5 * np.sin(np.arange(16000) / 5)
    write_wave("takes/002_ben.wav", tone)
    assert run("timeline", "--script", "talk.txt", "--takes", "takes", "--output", "talk.json") == 0
    timeline = Timeline.read("talk.json")
    assert timeline.turns[1].sound.file == "takes/002_ben.wav"
    assert timeline.turns[1].seconds == 1
    assert timeline.turns[0].sound is None


BAD = {
    "no voices": ([], "Nobody has a voice"),
    "two ways": (["--script", "talk.txt", "--recording", "x.wav"], "can't go together"),
    "script and audio": (["--script", "talk.txt", "--audio", "x.wav"], "can't go together"),
    "no such script": (["--script", "gone.txt"], "There is no script gone.txt"),
    "no such recording": (["--recording", "gone.wav"], "There is no recording gone.wav"),
    "no such timeline": (["--timeline", "gone.json"], "There is no timeline gone.json"),
    "unknown speaker": (["--script", "unknown.txt"], "line 2: there is no Carl"),
    "unbalanced tags": (["--script", "open.txt"], "line 1: the brackets [] are not in pairs"),
    "empty turns": (["--script", "empty.txt"], "line 1: Anna says nothing"),
    "emoji alone": (["--script", "emoji.txt"], "line 1: Anna says nothing"),
    "10,000 lines": (["--script", "long.txt"], "more than 5000 turns"),
    "not a text": (["--script", "two.png"], "no text in UTF-8"),
    "negative times": (["--timeline", "negative.json"], "turn 1, start"),
    "more people than faces": (["--script", "talk.txt"], "4 people speak, but the picture shows 2 faces"),
    "more voices than faces": (["--recording", "three.wav"], "three.wav has 3 voices, but the picture shows 2 people"),
    "music only": (["--recording", "music.wav"], "Nobody speaks in music.wav"),
    "unknown voice": (["--script", "right.txt", "--voice", "Anna=alloy"], "espeak-ng has no voice"),
    "voice of nobody": (["--script", "right.txt", "--voice", "Zoe=de"], "nobody called Zoe; there are Anna"),
    "a voice without a name": (["--script", "right.txt", "--voice", "de"], "--voice is 'de'"),
    "an unsafe endpoint": (["--script", "right.txt", "--speech", "http://example.com"], "https://"),
    "speakers of a script": (["--script", "right.txt", "--speakers", "2"], "--speakers goes with --recording"),
    "turns without sound": (["--timeline", "bare.rttm"], "neither sound nor text"),
    "gone sound": (["--timeline", "sound.json"], "gone.wav"),
    "nothing to read": (["--timeline", "music.json", "--subtitles", "srt"], "--subtitles needs texts"),
    "no letters to draw": (["--script", "hebrew.txt", "--subtitles", "burn"], "--subtitles burn has no letters"),
    "the script would be overwritten": (["--timeline", "talk.json", "--output", "talk.mp4"], "talk.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, here, monkeypatch, capsys) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded before the input was looked at")

    monkeypatch.setattr(AnyTalkerPipeline, "from_pretrained", load)
    given, part = BAD[case]
    write_inputs(given)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    output = [] if "--output" in given else ["--output", "out.mp4"]
    assert run("generate", "--image", "two.png", *given, *output) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert part in said[0]
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def write_inputs(given: list[str]) -> None:
    """The files that a case names."""
    turn = {"person": "Anna", "start": 0, "end": 1}
    anna = {"people": [{"name": "Anna"}]}
    texts = {
        "unknown.txt": "People: Anna\nCarl: Hi\n",
        "open.txt": "Anna: Hi [pause 1\n",
        "empty.txt": "Anna:\n",
        "emoji.txt": "Anna: 😀\n",
        "long.txt": "Anna: Hi\n" * 10000,
        "right.txt": "Anna: Hi\n",
        "hebrew.txt": "Anna: [he] שלום\n",
        "bare.rttm": "SPEAKER x 1 0.5 1 <NA> <NA> a <NA> <NA>\n",
        "negative.json": json.dumps(anna | {"turns": [turn | {"start": -1, "text": "Hi"}]}),
        "sound.json": json.dumps(anna | {"turns": [turn | {"sound": {"file": "gone.wav"}}]}),
        "music.json": json.dumps(anna | {"turns": [turn | {"sound": {"file": "music.wav"}}]}),
        "talk.json": json.dumps(anna | {"turns": [turn | {"text": "Hi"}]}),
    }
    for name in given:
        if name in texts:
            Path(name).write_text(texts[name], encoding="utf-8")
    if "music.wav" in given or "music.json" in given:
        from anytalker.miniature.episodes.music import play_music

        write_wave("music.wav", 0.1 * play_music(np.random.default_rng(0), 5 * 16000))
    if "three.wav" in given:
        sentence = "Did you see the game last night? I could not believe the ending."
        spoken = timeline_of_script(parse_script("\n".join(f"{name}: {sentence}" for name in ("A", "B", "C"))))
        write_wave("three.wav", sum(voice[:] for voice in streams(spoken)))
