"""Optional parts of a curation: text over mouths, and the quality of sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from anytalker.curation.config import CurationConfig, SoundConfig, TextConfig
from anytalker.curation.footage import Footage
from anytalker.curation.piece import Dropped, Face, Piece
from anytalker.curation.run import curate
from anytalker.curation.sound_quality import sound_quality
from anytalker.curation.stages.sound import SoundStage
from anytalker.curation.stages.text import TextStage, find_text
from anytalker.curation.work import FileWork, _sound
from anytalker.errors import InputError
from anytalker.media.sound import Sound
from anytalker.miniature.voices.speech import random_utterance
from tests.curation.test_footage import write_footage


class Still:
    """Frames of a piece, all the same."""

    def __init__(self, picture: np.ndarray) -> None:
        self._picture = picture

    def frames(self, start: int, end: int, every: int = 1):
        return iter([self._picture] * len(range(start, end, every)))


def piece(picture: np.ndarray, sound: np.ndarray | None = None) -> Piece:
    boxes = np.tile(np.array([100, 50, 200, 150], np.float32), (75, 1))
    heard = np.zeros(48000, np.float32) if sound is None else sound
    return Piece(Footage(Path("talk.mp4")), 0, 75, heard, faces=(Face(boxes),), pictures=Still(picture))


def written(at: tuple[int, int]) -> np.ndarray:
    picture = np.full((240, 420, 3), 110, np.uint8)
    return cv2.putText(picture, "BREAKING NEWS", at, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 3)


@pytest.mark.parametrize(
    ("text", "covers"), [((90, 115, 300, 150), True), ((90, 180, 300, 210), False), ((90, 50, 300, 80), False)]
)
def test_text_counts_where_it_covers_a_mouth(text, covers) -> None:
    stage = TextStage(TextConfig(max_share=0.3), lambda _: np.array([text], float))
    (result,) = stage(piece(written((0, 0))))
    assert isinstance(result, Dropped) is covers
    assert result.numbers["text.covered"] == float(covers)


def test_text_is_looked_for_once_a_picture() -> None:
    looked = []
    one = piece(written((0, 0)))
    two = replace(one, faces=one.faces * 2)
    list(TextStage(TextConfig(max_share=0.3), lambda picture: looked.append(picture) or np.zeros((0, 4)))(two))
    assert len(looked) == 3


def test_text_is_not_looked_for_unless_asked(monkeypatch) -> None:
    one = piece(written((20, 135)))
    assert list(TextStage(TextConfig())(one)) == [one]


def test_rapidocr_finds_text() -> None:
    pytest.importorskip("rapidocr")
    (box,) = find_text(written((20, 135)))
    assert np.abs(box - [20, 105, 300, 140]).max() < 25
    assert find_text(np.full((240, 420, 3), 110, np.uint8)).shape == (0, 4)


def test_bad_sound_is_dropped_if_asked() -> None:
    rng = np.random.default_rng(0)
    loud = np.repeat(rng.random(6) > 0.5, 8000) * rng.normal(0, 0.1, 48000)
    one = piece(written((0, 0)), loud.astype(np.float32))
    (kept,) = SoundStage(SoundConfig(min_ratio=-20), lambda _: 1.0)(one)
    assert "sound.quality" not in kept.numbers
    (kept,) = SoundStage(SoundConfig(min_ratio=-20, min_quality=2.5), lambda _: 3.0)(one)
    assert kept.numbers["sound.quality"] == 3.0
    (dropped,) = SoundStage(SoundConfig(min_ratio=-20, min_quality=2.5), lambda _: 2.0)(one)
    assert dropped.reason == "the sound is bad"


def test_dnsmos_hears_noise_behind_a_voice() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("speechmos")
    rng = np.random.default_rng(3)
    voice = random_utterance(rng).waveform
    noise = rng.normal(0, 0.1, len(voice)).astype(np.float32)
    assert 1 <= sound_quality(np.clip(voice + noise, -1, 1)) + 0.5 < sound_quality(voice) <= 5
    with pytest.raises(ValueError, match="no sound"):
        sound_quality(np.zeros(0, np.float32))


def test_voices_are_taken_out_of_the_sound_of_a_whole_file(tmp_path, monkeypatch) -> None:
    path = write_footage(tmp_path / "talk.mkv", [number / 25 for number in range(25)], sound_from=0.0)
    network = tmp_path / "network.onnx"
    network.write_bytes(b"")
    monkeypatch.setattr("anytalker.curation.cleaning.VocalSeparator", lambda _: lambda sound: Sound(0.5 * sound[:]))
    heard = []
    for settings in ({}, {"sound": {"separator": str(network)}}):
        work = FileWork(path, tmp_path / "dataset", CurationConfig.model_validate(settings))
        work.folder.mkdir(parents=True)
        heard.append(_sound(work)[:])
    assert np.abs(heard[0]).max() > 0.5
    np.testing.assert_allclose(heard[1], 0.5 * heard[0], atol=1e-4)


def test_a_separator_that_is_missing_is_named_before_any_work(tmp_path) -> None:
    config = CurationConfig.model_validate({"sound": {"separator": str(tmp_path / "missing.onnx")}})
    with pytest.raises(InputError, match=r"no separator .*missing\.onnx"):
        curate([], tmp_path / "dataset", config)
    assert not (tmp_path / "dataset").exists()


def test_a_part_that_is_missing_is_named_before_any_work(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("anytalker.curation.run.find_spec", lambda _: None)
    for settings in ({"text": {"max_share": 0.1}}, {"sound": {"min_quality": 2}}):
        with pytest.raises(ModuleNotFoundError) as caught:
            curate([], tmp_path / "dataset", CurationConfig.model_validate(settings))
        assert caught.value.name in ("rapidocr", "speechmos")
    assert not (tmp_path / "dataset").exists()
