"""Summaries and the page: numbers that can be checked by hand, names that can do no harm."""

from __future__ import annotations

import csv
import json
import math
import re

import numpy as np
import pytest

from anytalker.evaluation.report.page import PAGE_FILE, SUMMARY_FILE, TABLE_FILE, read_lines, write_report
from anytalker.evaluation.report.reference import INTERACTIVE_EYES
from anytalker.evaluation.report.summary import mean_interval, summarize


def line(name: str, value: float, **more) -> dict:
    return {
        "clip": name,
        "people": 2,
        "frames": 50,
        "fps": 25.0,
        "scores": {"sync_c": value, "binding": 1.0},
        "real": {"sync_c": value + 1},
        "problems": {"interactivity": "There are no landmarks."},
        "speaking": [[[0.0, 1.0]], [[1.0, 2.0]]],
        "binding_matrix": [[0.9, 0.1], [0.2, None]],
        "timeline": {"rate": 5.0, "mouth": [[0.1] * 10, [None] * 10], "eyes": [[0.2] * 10, [0.0] * 10]},
    } | more


LINES = [line("one", 3.0), line("two", 5.0), {"clip": "<b>bad</b>", "failure": "it is no video", "scores": {}}]


def test_summaries_are_means_with_reasons_for_what_is_missing() -> None:
    found = {summary.metric: summary for summary in summarize(LINES, {"fvd": 12.0})}
    assert set(found) == {"sync_c", "binding", "interactivity", "fvd"}
    assert found["sync_c"].mean == 4.0
    assert found["sync_c"].low <= 4.0 <= found["sync_c"].high
    assert (found["sync_c"].real, found["sync_c"].distance) == (5.0, 1.0)
    assert found["binding"].low == found["binding"].high == 1.0
    assert found["interactivity"].missing == {"There are no landmarks.": 2}
    assert math.isnan(found["interactivity"].mean)
    assert found["fvd"].mean == 12.0


def test_spans_of_other_people_than_were_found_are_not_drawn(tmp_path) -> None:
    write_report(tmp_path, [line("one", 3.0, speaking=[[[0.0, 1.0]]])])
    assert "<svg" in (tmp_path / PAGE_FILE).read_text(encoding="utf-8")


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    covered = sum(low < 0 < high for low, high in (mean_interval(rng.normal(size=40)) for _ in range(60)))
    assert covered >= 52
    assert all(map(math.isnan, mean_interval([1.0])))


def test_the_report_stands_on_its_own(tmp_path) -> None:
    write_report(tmp_path / "out", LINES, reference=INTERACTIVE_EYES, title="A & B")
    page = (tmp_path / "out" / PAGE_FILE).read_text()
    assert "&lt;b&gt;bad&lt;/b&gt;" in page
    assert "<b>bad</b>" not in page
    assert "A &amp; B" in page
    assert page.count("<svg") == 2 * 2 + 1
    assert "MultiTalk" in page
    assert "arXiv 2511.23475" in page
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    rows = list(csv.DictReader((tmp_path / "out" / TABLE_FILE).open()))
    assert [row["clip"] for row in rows] == ["<b>bad</b>", "one", "two"]
    assert rows[1]["sync_c"] == "3.0"
    assert rows[0]["problem"] == "it is no video"
    summary = json.loads((tmp_path / "out" / SUMMARY_FILE).read_text())
    assert summary["failures"] == [["<b>bad</b>", "it is no video"]]
    assert {metric["metric"]: metric["mean"] for metric in summary["metrics"]}["interactivity"] is None


def test_a_line_cut_off_by_an_interruption_is_left_out(tmp_path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(json.dumps(LINES[0]) + "\n" + json.dumps(LINES[1])[:30])
    assert read_lines(path) == LINES[:1]
    assert read_lines(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("count", [0, 1, 25])
def test_any_number_of_clips(tmp_path, count: int) -> None:
    plain = {"people": 1, "speaking": None, "binding_matrix": None}
    summaries = write_report(tmp_path, [line(f"clip{i:02}", float(i), **plain) for i in range(count)])
    assert len(summaries) == (3 if count else 0)
    assert ("scores.csv" in (tmp_path / PAGE_FILE).read_text()) == (count > 24)
