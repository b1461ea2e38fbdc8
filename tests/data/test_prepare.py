"""From footage to shards: cuts, boxes, voices, and clips that can't be used."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from anytalker import AnyTalkerPipeline, InputError
from anytalker.conditioning.audio_features import silent_rows
from anytalker.data import prepare as preparation
from anytalker.data.encoding import Clip, ClipEncoder, forth_and_back
from anytalker.data.prepare import PrepareSettings, cut_frames, move_box, prepare, views_of
from anytalker.data.records import ClipRecord, read_records
from anytalker.data.shards import read_all
from anytalker.media.video import read_video, write_video
from anytalker.pipelines.inputs import prepare_inputs
from anytalker.pipelines.options import GenerationOptions
from anytalker.training.batches import silenced
from tests.training.fixtures import FEATURES, write_model

SETTINGS = PrepareSettings(width=96, height=64, windows=2, clips_per_shard=2)


def record(**changes) -> dict:
    values = {
        "video_path": "a.mp4",
        "n_frames": 13,
        "width": 160,
        "height": 96,
        "fps": 24.0,
        "caption": "someone talks",
        "persons": [{"audio_path": "voice.wav", "face_boxes": [[60, 20, 40, 40]]}],
    }
    return values | changes


@pytest.fixture
def encoder(tmp_path) -> ClipEncoder:
    pipeline = AnyTalkerPipeline.from_pretrained(write_model(tmp_path / "model"))
    return ClipEncoder(pipeline.vae, FEATURES, "still", 16)


@pytest.fixture
def footage(tmp_path, write_wave, tone):
    frames = np.full((15, 96, 160, 3), 60, np.uint8)
    frames[:, 20:60, 60:100] = 200
    write_video(tmp_path / "a.mp4", frames, 24)
    write_wave(tone)
    return tmp_path


def texts(caption: str) -> torch.Tensor:
    return torch.full((len(caption), 8), 0.5)


def test_footage_becomes_samples_that_training_reads(footage, encoder) -> None:
    two = {"audio_path": None, "face_boxes": [[100, 20, 40, 40]]}
    lines = [record(), record(persons=[*record()["persons"], two])]
    (footage / "records.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    report = prepare(list(read_records(footage / "records.jsonl")), encoder, texts, footage / "shards", SETTINGS)
    assert report.left_out == []
    whole, windows = (list(read_all(footage / "shards" / name)) for name in ("whole", "windows"))
    assert (len(whole), len(windows), report.samples) == (2, 2, 4)
    assert (report.windows, report.pauses) == (2, 0), "nobody pauses"
    single, duo = (Clip.from_sample(entry, FEATURES.window) for entry in whole)
    assert single.latents.shape == (16, 4, 8, 12)
    assert single.condition.shape == single.latents.shape
    assert single.audio.shape == (1, 13, 5, 1, FEATURES.channels)
    assert duo.audio[0].abs().max() > 0
    assert duo.audio[1].abs().max() == 0
    assert len(duo.boxes) == len(duo.faces) == 2
    assert single.text_embeds.shape == (13, 8)
    assert whole[0]["voices"].abs().max() > 1000
    for entry in windows:
        half = Clip.from_sample(entry, FEATURES.window)
        assert half.latents.shape == (16, 4, 8, 6)
        x, y, width, height = half.boxes[0]
        assert x >= 0
        assert x + width <= 48
        assert y + height <= 64


def test_an_interrupted_preparation_goes_on(footage, encoder) -> None:
    records = [
        ClipRecord.model_validate(
            record(video_path=str(footage / "a.mp4"), persons=[{"face_boxes": [[60, 20, 40, 40]]}])
        )
    ] * 5
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(records, encoder, texts, footage / "shards", SETTINGS, stop)
    first = (footage / "shards" / "whole" / "clips-000000.tar").stat().st_mtime_ns
    prepare(records, encoder, texts, footage / "shards", SETTINGS)
    assert (footage / "shards" / "whole" / "clips-000000.tar").stat().st_mtime_ns == first
    assert len(list(read_all(footage / "shards" / "whole"))) == 5
    assert len(list(read_all(footage / "shards" / "windows"))) == 10


def test_a_clip_that_was_mended_comes_in_and_no_other_is_lost_or_doubled(footage, encoder) -> None:
    boxes = [[60, 20, 40, 40], [61, 20, 40, 40], [62, 20, 40, 40], [63, 20, 40, 40]]
    clips = [
        ClipRecord.model_validate(record(video_path=str(footage / "a.mp4"), persons=[{"face_boxes": [box]}]))
        for box in boxes
    ]
    broken = clips[1].model_copy(update={"video_path": str(footage / "gone.mp4")})
    shards = footage / "mended"
    assert len(prepare([clips[0], broken, *clips[2:]], encoder, texts, shards, SETTINGS).left_out) == 1
    for wanted in (clips, clips[1:]):  # mended, then one removed at the front
        prepare(wanted, encoder, texts, shards, SETTINGS)
        found = [sample["record"]["persons"][0]["face_boxes"][0] for sample in read_all(shards / "whole")]
        assert sorted(found) == boxes
    assert len(list(read_all(shards / "windows"))) == 2 * len(boxes)
    report = prepare(clips[1:], encoder, texts, shards, SETTINGS)
    assert (report.samples, report.others, report.pruned) == (9, 3, False)
    assert prepare(clips[1:], encoder, texts, shards, SETTINGS, prune=True).pruned
    found = [sample["record"]["persons"][0]["face_boxes"][0] for sample in read_all(shards / "whole")]
    assert sorted(found) == boxes[1:]
    assert len(list(read_all(shards / "windows"))) == 6
    two = clips[1].model_copy(update={"persons": clips[1].persons * 2})
    assert prepare([two], encoder, texts, shards, SETTINGS).others == 9, "windows of others count, where there are none"
    (footage / "a.mp4").unlink()  # what is there needs no footage, and is not lost with it
    report = prepare(clips[1:], encoder, texts, shards, SETTINGS, prune=True)
    assert (report.samples, report.others, report.left_out) == (9, 1, [])


def test_clips_are_the_same_however_the_way_to_them_is_written(footage, encoder, monkeypatch) -> None:
    monkeypatch.chdir(footage)
    for way in ("", f"{footage}/", "../" + footage.name + "/"):
        clip = ClipRecord.model_validate(record(video_path=f"{way}a.mp4", persons=[{"face_boxes": [[60, 20, 40, 40]]}]))
        assert prepare([clip], encoder, texts, footage / "ways", SETTINGS).others == 0
    assert len(list(read_all(footage / "ways" / "whole"))) == 1


def test_no_more_is_decoded_than_a_record_says(footage, encoder, monkeypatch) -> None:
    decoded = []

    def counting(path, limit):
        frames, fps = read_video(path, limit)
        decoded.append(len(frames))
        return frames, fps

    monkeypatch.setattr(preparation, "read_video", counting)
    clip = ClipRecord.model_validate(
        record(video_path=str(footage / "a.mp4"), n_frames=6, persons=[{"face_boxes": [[60, 20, 40, 40]]}])
    )
    prepare([clip], encoder, texts, footage / "short", SETTINGS)
    prepare([clip], encoder, texts, footage / "short", SETTINGS)
    assert decoded == [6], "and nothing at all the second time"


def test_unusable_clips_are_named_and_the_rest_goes_on(footage, encoder) -> None:
    good = ClipRecord.model_validate(
        record(video_path=str(footage / "a.mp4"), persons=[{"face_boxes": [[60, 20, 40, 40]]}])
    )
    gone = good.model_copy(update={"video_path": "gone.mp4"})
    odd = good.model_copy(update={"width": 320, "height": 192})
    report = prepare([gone, good, odd], encoder, texts, footage / "shards", SETTINGS)
    assert len(report.left_out) == 2
    assert "gone.mp4" in report.left_out[0]
    assert "160×96" in report.left_out[1]
    assert len(list(read_all(footage / "shards" / "whole"))) == 1
    with pytest.raises(InputError, match=r"None of the 1 clips.*gone\.mp4"):
        prepare([gone], encoder, texts, footage / "none", SETTINGS)


def test_faces_that_are_cut_away_and_other_frame_rates_are_named(footage, encoder) -> None:
    edge = {"audio_path": None, "face_boxes": [[0, 30, 12, 12]]}
    far = ClipRecord.model_validate(record(video_path=str(footage / "a.mp4"), persons=[edge]))
    tall = PrepareSettings(width=32, height=64, windows=0)
    with pytest.raises(InputError, match=r"None of the 1 clips.*a\.mp4: a face is outside"):
        prepare([far], encoder, texts, footage / "cut", tall)
    good = far.model_copy(update={"persons": ClipRecord.model_validate(record()).persons[:1]})
    good.persons[0].audio_path = None
    report = prepare([far, good], encoder, texts, footage / "tall", tall)
    assert (report.samples, len(report.left_out)) == (1, 1)
    slow = good.model_copy(update={"fps": 12.0})
    with pytest.raises(InputError, match="24 frames a second, but its record says 12"):
        prepare([slow], encoder, texts, footage / "slow", tall)


def test_what_is_prepared_again_must_be_of_the_same_model(footage, encoder) -> None:
    clip = ClipRecord.model_validate(
        record(video_path=str(footage / "a.mp4"), caption="", persons=[{"face_boxes": [[60, 20, 40, 40]]}])
    )
    for _ in range(2):
        assert prepare([clip] * 3, encoder, texts, footage / "shards", SETTINGS).samples == 9
    assert len(list(read_all(footage / "shards" / "whole"))) == 3
    assert Clip.from_sample(next(read_all(footage / "shards" / "whole")), FEATURES.window).text_embeds is None
    torch.nn.init.ones_(encoder.vae.encode_linear.weight)
    with pytest.raises(InputError, match="other settings"):
        prepare([clip], encoder, texts, footage / "shards", SETTINGS)


def test_people_can_be_silenced_whatever_the_condition_latents_are(encoder, tone) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (9, 64, 96, 3), np.uint8)
    inputs = (frames, [tone], [(20, 10, 40, 40)], 24.0)
    still = Clip.from_sample(encoder(*inputs), FEATURES.window)
    grey = Clip.from_sample(replace(encoder, condition="zeros")(*inputs), FEATURES.window)
    assert torch.equal(still.silent.latents, still.condition), "nobody pauses, so they stand still"
    assert torch.equal(grey.silent.latents, still.silent.latents)
    assert not torch.allclose(grey.condition[:, 1:], grey.silent.latents[:, 1:], atol=0.1)
    assert torch.equal(silenced(grey).latents, still.condition)


@pytest.mark.parametrize("condition", ["still", "zeros"])
def test_who_is_silenced_is_shown_in_a_pause_of_their_own(encoder, tone, condition: str) -> None:
    encoder = replace(encoder, condition=condition)
    frames = np.random.default_rng(0).integers(0, 255, (49, 64, 96, 3), np.uint8)
    boxes = [(20, 10, 40, 40)]
    sample = encoder(frames, [tone], boxes, 24.0)  # the voice ends after 24 frames
    played = forth_and_back(range(26, 49), 49)
    assert played[21:26] == [47, 48, 47, 46, 45]
    paused = encoder(frames[played], [None], boxes, 24.0)
    for name in ("latents", "condition", "pictures"):
        assert torch.equal(sample[f"silent_{name}"], paused[name])
    clip = Clip.from_sample(sample, FEATURES.window)
    assert clip.pauses
    assert torch.equal(silenced(clip).latents, paused["latents"].float())
    assert torch.equal(silenced(clip).faces, paused["pictures"][1:].float())
    talking = frames.copy()
    talking[2:20] = 0
    assert torch.equal(encoder(talking, [tone], boxes, 24.0)["silent_latents"], sample["silent_latents"])
    assert "silent_latents" not in encoder(frames, [tone, None], [*boxes, (60, 10, 30, 30)], 24.0)


@pytest.mark.parametrize("seconds", [0.2, 0.4])
def test_training_hears_what_generation_hears(tmp_path, encoder, wav2vec2, tone, seconds) -> None:
    pipeline = AnyTalkerPipeline.from_pretrained(tmp_path / "model")
    pipeline.audio_features = wav2vec2
    voices = [tone[: int(seconds * 16000)], None, tone[: 13 * 16000 // 24]]
    boxes = [(0, 8, 30, 30), (31, 8, 30, 30), (63, 8, 30, 30)]
    frames = np.zeros((13, 64, 96, 3), np.uint8)
    options = GenerationOptions(max_frames=13)
    inputs = prepare_inputs(Image.fromarray(frames[0]), voices, boxes, pipeline.settings, options)
    assert inputs.frames == 13
    generated = pipeline.encode_voices(inputs).at(range(13))[0]
    sample = replace(encoder, audio_features=wav2vec2)(frames, voices, boxes, 24.0)
    clip = Clip.from_sample(sample, wav2vec2.window, silent_rows(wav2vec2, 13, 24.0))
    assert clip.audio.shape == generated.shape
    torch.testing.assert_close(clip.audio, generated, atol=2e-3, rtol=2e-3)
    assert generated[0].abs().max() > 0.1
    assert not generated[1].any(), "who has no voice is not heard"
    torch.testing.assert_close(silenced(clip).audio[0], generated[1], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n_frames": 3}, "n_frames"),
        ({"persons": []}, "persons"),
        ({"persons": [{"face_boxes": [[150, 20, 40, 40]]}]}, "person 0 is not inside"),
        ({"persons": [{"face_boxes": [[1, 2, 30, 30]] * 2}]}, "2 face boxes"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_records_are_named_by_line(tmp_path, changes, reason) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(record()) + "\n\n" + json.dumps(record(**changes)))
    with pytest.raises(InputError, match=rf"line 3.*{reason}"):
        list(read_records(path))


def test_a_moving_face_has_one_box_around_all_of_its_places() -> None:
    person = {"face_boxes": [[10 + i, 20, 30, 30] for i in range(13)]}
    assert ClipRecord.model_validate(record(persons=[person])).persons[0].union_box == (10, 20, 42, 30)


def test_windows_are_half_a_frame_about_the_face() -> None:
    clip = ClipRecord.model_validate(record())
    views = views_of(clip, SETTINGS, np.random.default_rng(0))
    assert [view[0] for view in views] == ["whole", "windows", "windows"]
    for _, crop, size in views[1:]:
        assert size == (48, 64)
        assert crop[2] / crop[3] == pytest.approx(48 / 64)
        assert crop[0] + crop[2] / 2 == pytest.approx(80, abs=20)
        box = move_box(clip.persons[0].union_box, crop, size)
        assert box is not None
    assert move_box((0, 0, 20, 20), (80, 0, 40, 40), (48, 48)) is None


def test_cutting_keeps_what_it_cuts() -> None:
    frames = np.zeros((2, 40, 60, 3), np.uint8)
    frames[:, 10:30, 20:40] = 255
    for size in ((20, 20), (10, 10), (40, 40)):
        cut = cut_frames(frames, (20, 10, 20, 20), size)
        assert cut.shape == (2, size[1], size[0], 3)
        assert cut.mean() > 240
