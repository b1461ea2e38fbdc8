"""The page of a curation, and why a clip or a moment was kept or dropped."""

from __future__ import annotations

import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from anytalker.curation.config import CurationConfig
from anytalker.curation.dataset import Dataset
from anytalker.curation.explain import explain_clip
from anytalker.curation.footage import Footage
from anytalker.curation.measures import judgement, measure_of, number, passes
from anytalker.curation.piece import Dropped, Source
from anytalker.curation.report import write_report
from anytalker.curation.report.charts import histogram, spoken
from anytalker.curation.report.pictures import heard
from anytalker.curation.report.tally import funnel, people, spread
from anytalker.curation.survey import Survey
from anytalker.errors import InputError
from tests.curation.drawn_dataset import make_dataset
from tests.test_cli import run


class _Addresses(HTMLParser):
    """Collects everything that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attributes if name in ("src", "href", "poster") and value]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Dataset, Path]:
    root = tmp_path_factory.mktemp("curated")
    return make_dataset(root / "footage", root / "dataset"), root / "dataset"


@pytest.fixture(scope="module")
def page(made) -> Path:
    return write_report(*made)


def stretch(seconds: float, stage: str, reason: str, **numbers: float) -> Dropped:
    return Dropped(source=Source(path="a.mp4", start=0, end=seconds), stage=stage, reason=reason, numbers=numbers)


def test_everything_that_the_page_loads_is_in_the_dataset(page) -> None:
    parser = _Addresses()
    parser.feed(page.read_text(encoding="utf-8"))
    files = [(page.parent / unquote(address)).resolve() for address in parser.found]
    assert all(file.is_relative_to(page.parent.parent.resolve()) and file.is_file() for file in files)
    clips = [file for file in files if file.parent.parent.name == "clips"]
    previews = [file for file in files if file.suffix == ".mp4" and file not in clips]
    assert len(clips) == 2
    assert len(previews) == 4, "two reasons in two files that can be read"
    assert len({file for file in files if file.suffix == ".jpg"}) == 2 + 4 + 3, "posters, previews, faces"
    assert {file.name for file in files} >= {path.name for path in page.parent.glob("previews/*")}


def test_names_can_do_no_harm(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;duo &amp; &quot;co&quot;.mp4" in text
    assert "<b>duo" not in text
    assert "<script" not in text


def test_the_page_says_what_became_of_the_footage(page, made) -> None:
    text = re.sub(r"<[^>]+>", " ", page.read_text(encoding="utf-8"))
    assert "4.0 s kept of 6.4 s (62.5%)" in " ".join(text.split())
    assert "a face is too small" in text
    assert "1.6 s · 2×" in text
    assert "smallest face: 21 pixels high, at least 30 wanted: too low" in text
    assert "broken.mp4 is damaged or no video" in text
    assert "faces.min_pixels" in text
    for one in people(made[0]):
        assert one.identity in text


def test_previews_are_short_and_heard(page) -> None:
    for video in page.parent.glob("previews/*.mp4"):
        frames = list(Footage(video).frames())
        assert len(frames) in (5, 20)
        assert frames[0].shape[0] == 96, "small ones are not enlarged"
        assert np.concatenate(list(Footage(video).sound())).size > 0


def test_a_page_is_written_again_as_it_was_and_forgets_what_is_gone(made, page) -> None:
    before, text = {path: path.stat().st_mtime_ns for path in page.parent.glob("previews/*")}, page.read_text()
    (page.parent / "previews" / "old.jpg").write_bytes(b"")
    assert write_report(*made).read_text() == text
    assert {path: path.stat().st_mtime_ns for path in page.parent.glob("previews/*")} == before


def test_sound_is_cut_where_the_pictures_are(made) -> None:
    path = Path(made[0].surveys[0].path)
    whole = np.concatenate(list(Footage(path).sound()))
    part = heard(path, 0.8, 1.6)
    assert part is not None
    shifts = range(-160, 161)
    alike = [np.corrcoef(part, whole[12800 + shift : 25600 + shift])[0, 1] for shift in shifts]
    assert (shifts[int(np.argmax(alike))], max(alike) > 0.98) == (0, True), "AAC's noise is another after a seek"
    assert heard(path.with_name("broken.mp4"), 0, 1) is None


def test_the_funnel_adds_up() -> None:
    dropped = [
        stretch(2, "sound", "music"),
        stretch(3, "camera", "the camera moves"),
        stretch(1, "own stage", "no reason"),
        stretch(1, "duplicates", "nearly the same as one"),
        stretch(2, "duplicates", "nearly the same as two"),
    ]
    steps = funnel(20, dropped)
    assert [(step.stage, step.left) for step in steps] == [
        ("camera", 17),
        ("sound", 15),
        ("duplicates", 12),
        ("own stage", 11),
    ]
    (alike,) = steps[2].reasons
    assert (alike.seconds, len(alike.dropped)) == (3, 2)
    many = funnel(20, [stretch(0.1 * index, "faces", f"reason {index}") for index in range(20)])[0]
    assert (len(many.reasons), many.reasons[0].text, many.reasons[-1].text) == (12, "reason 19", "other reasons")
    assert many.seconds == pytest.approx(19)
    late = [stretch(1, "speakers", f"the sound is {frames} frames too late") for frames in (12, 13)]
    assert [reason.text for reason in funnel(2, late)[0].reasons] == ["the sound is too late"]


def test_a_page_of_many_stretches_is_bounded(tmp_path) -> None:
    reasons = [f"{index} people are seen, not 1 or 2" for index in range(3, 30)]
    dropped = [stretch(1, "faces", reason, **{"faces.height": 10.0}) for reason in reasons for _ in range(100)]
    surveys = [Survey(path=f"{index}.mp4", frames=2500) for index in range(400)]
    text = write_report(Dataset(surveys, dropped=dropped, failed=["bad"] * 300), tmp_path).read_text(encoding="utf-8")
    assert text.count('class="card"') < 40
    assert "100 of 400 files are shown" in text
    assert "50 of 300 problems are shown" in text
    assert "45 min 00 s" in text, "hours are those of all"
    assert len(text) < 60_000


def test_an_empty_dataset_has_a_page(tmp_path) -> None:
    assert "Nothing was kept" in write_report(Dataset([]), tmp_path).read_text(encoding="utf-8")


def test_numbers_are_held_against_the_settings() -> None:
    config = CurationConfig()
    assert judgement("faces.people", 3, config) == "3, 1 or 2 wanted: not among them"
    assert judgement("faces.presence", 0.97, config) == "0.97, at least 0.95 wanted: ok"
    assert judgement("speakers.delay", -12, config) == "-12 frames, at most 10 wanted: too high"
    assert judgement("own.number", 0.5, config) == "0.5"
    assert passes("own.number", 1.0, config) is None
    assert measure_of("sync.confidence_1").label == "agreement of lips and voice, person 2"
    assert [number(value) for value in (3.0, 0.123456, 1234.5)] == ["3", "0.1235", "1234"]
    assert [spoken(value) for value in (8.44, 200, 7500)] == ["8.4 s", "3 min 20 s", "2 h 05 min"]
    assert list(spread(3, 5)) == [0, 1, 2]
    assert list(spread(101, 3)) == [0, 50, 100]


def test_a_histogram_shows_both_groups_and_the_threshold() -> None:
    drawn = histogram("a <b>", np.array([1.0, 1.0, 2.0]), np.array([5.0]), 3.0)
    assert "a &lt;b&gt;" in drawn
    assert "3 kept, 1 dropped" in drawn
    columns = {kind: re.search(rf'class="{kind}" d="([^"]*)"', drawn)[1] for kind in ("kept", "dropped")}
    assert (columns["kept"].count("z"), columns["dropped"].count("z")) == (2, 1)
    assert 'class="limit" d="M151.7' in drawn
    assert histogram("nothing", np.zeros(0), np.zeros(0), None) == ""


def test_a_kept_clip_is_explained(made) -> None:
    dataset, folder = made
    clip = dataset.kept[1]
    lines = explain_clip(clip.name, folder)
    assert lines == explain_clip(str(folder / clip.video_path)) == explain_clip(f"{clip.source.path}@0:1.5", folder)
    said = "\n".join(lines)
    assert f"{clip.name} was kept" in lines[0]
    assert "faces: smallest face: 33 pixels high, at least 30 wanted: ok" in said
    assert "the sound came 3 frames late" in said
    assert "person 2 of 2" in said
    assert "voice 1, speaks at 1.20–1.90 s of the clip" in said
    assert "for: train" in said
    assert "licence: CC-BY-4.0" in "\n".join(explain_clip("talk@0.5", folder))


def test_a_dropped_moment_is_explained(made) -> None:
    lines = explain_clip("talk.mp4@2.4", made[1])
    assert "2.00 to 2.80 s, was dropped by faces: a face is too small" in lines[0]
    assert "  faces: smallest face: 21 pixels high, at least 30 wanted: too low" in lines
    name = made[0].kept[0].name.replace("0000000-0000050", "0000050-0000070")
    assert explain_clip(name, made[1])[1:] == lines, "by the name that it would have"
    assert "from 0.40 s on was dropped by footage" in "\n".join(explain_clip("broken@7", made[1]))


def test_cuts_and_voices_are_told(made) -> None:
    dataset, folder = made
    path = dataset.surveys[0].path
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for file in ("curation.json", "clips.jsonl", "dropped.jsonl", "single.jsonl"):
            (copy / file).write_bytes((folder / file).read_bytes())
        (copy / "cuts.jsonl").write_text(f'{{"path": "{path}", "cuts": [2.5, 9.0]}}\n')
        heard = '"turns": [[0, 0.5, 2.6], [1, 8, 9]], "overlaps": [[2.7, 3.5]]'
        (copy / "turns.jsonl").write_text(f'{{"path": "{path}", {heard}}}\n')
        said = explain_clip("talk@2.2", copy)
    assert "  shot: from 0.00 s to 2.50 s" in said
    assert "  voices: 0 (2.00–2.60 s)" in said
    assert "  several at once: 2.70–2.80 s" in said


@pytest.mark.parametrize(
    ("clip", "told"),
    [
        ("talk-1", r"no clip talk-1.*The nearest: talk-[0-9a-f]{8}-0000000-0000050"),
        ("tall.mp4@1", "no file tall.mp4.*nearest: talk.mp4"),
        ("talk.mp4@500", "at 500 s; what is known ends at 3 s"),
        ("talk.mp4@1.2.3", "1.2.3 is no moment"),
    ],
)
def test_what_is_unknown_is_named(made, clip, told) -> None:
    with pytest.raises(InputError, match=told):
        explain_clip(clip, made[1])


def test_explain_on_the_command_line(made, tmp_path, monkeypatch, capsys) -> None:
    dataset, folder = made
    assert run("curate", "explain", folder / dataset.kept[0].video_path) == 0
    assert "was kept" in capsys.readouterr().out
    assert run("curate", "explain", "talk@2.4", "--dataset", folder) == 0
    assert "a face is too small" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert run("curate", "explain", "talk") == 2
    assert "--dataset" in capsys.readouterr().err
    assert run("curate", "explain", "talk", "--dataset", tmp_path) == 2
    assert "no dataset" in capsys.readouterr().err
