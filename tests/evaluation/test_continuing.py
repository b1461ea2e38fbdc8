"""What an evaluation that is run again takes over from the time before, and what it does not."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from anytalker.errors import NoScoreError
from anytalker.evaluation import run
from anytalker.evaluation.clips import ClipSource
from anytalker.evaluation.lip_sync.syncnet import load_sync_model
from anytalker.evaluation.mouth_scores import MouthScores
from anytalker.evaluation.scoring import ScoringSettings
from anytalker.media.recordings import SAMPLE_RATE


def clip(folder: Path) -> ClipSource:
    (folder / "one.mp4").write_bytes(b"")
    return ClipSource(folder / "one.mp4")


def scored(*arguments) -> dict:
    return {"clip": "one", "people": 0, "frames": 1, "fps": 1.0, "scores": {"psnr": 30.0}, "problems": {}}


def broken(*arguments) -> dict:
    raise RuntimeError("a library is missing")


def test_what_failed_is_tried_again(tmp_path, monkeypatch) -> None:
    report = tmp_path / "report"
    monkeypatch.setattr(run, "score_clip", broken)
    assert run.evaluate([clip(tmp_path)], ScoringSettings(), report).failed == 1
    monkeypatch.setattr(run, "score_clip", scored)
    assert run.evaluate([clip(tmp_path)], ScoringSettings(), report).failed == 0


def test_features_of_a_clip_that_has_changed_do_not_count(tmp_path, monkeypatch) -> None:
    report = tmp_path / "report"
    left = report / run.FEATURES_FOLDER / "one.fvd.npz"
    left.parent.mkdir(parents=True)
    features = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.savez(left, made=features, real=features)
    monkeypatch.setattr(run, "score_clip", broken)
    outcome = run.evaluate([clip(tmp_path)], ScoringSettings(networks=(("fvd", tmp_path / "net.pt"),)), report)
    assert "fvd" not in {summary.metric for summary in outcome.summaries}


def test_spans_of_other_people_give_no_score_and_a_reason(tmp_path) -> None:
    rng = np.random.default_rng(0)
    voices: list[Path | None] = []
    for name in ("a", "b"):
        voices.append(tmp_path / f"{name}.wav")
        with wave.open(str(voices[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(rng.integers(-9000, 9000, 2 * SAMPLE_RATE).astype("<i2").tobytes())
    crops = rng.integers(0, 255, (48, 2, 48, 48), dtype=np.uint8)
    one = ClipSource(tmp_path / "one.mp4", speaking=[[(0.0, 2.0)]], voices=voices)
    scores = MouthScores(one, crops, np.ones((48, 2), bool), crops, 24.0, load_sync_model())
    assert scores.lip_sync()["sync_d"] > 0
    with pytest.raises(NoScoreError, match="The spans are of 1 people, but 2 were found"):
        scores.sync_c_star()
