"""Scores of lip sync: their arithmetic on made-up embeddings, and the shipped weights on people they never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anytalker.errors import InputError, NoScoreError
from anytalker.evaluation.lip_sync.binding import binding
from anytalker.evaluation.lip_sync.crops import FaceCrop, crop_faces
from anytalker.evaluation.lip_sync.scores import (
    REACH,
    LipSync,
    SyncTracks,
    embed_tracks,
    lip_sync,
    lip_sync_of,
    pair_distances,
    resample_frames,
    sync_c_star,
    windows_within,
)
from anytalker.evaluation.lip_sync.silence import mouth_motions, silence
from anytalker.evaluation.lip_sync.syncnet import load_sync_model
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip

FPS = 25.0


def made_up(people: int = 1, windows: int = 80, delay: int = 0, seed: int = 0) -> SyncTracks:
    """Faces and voices that are the same random vectors, the voices `delay` windows late."""
    rng = np.random.default_rng(seed)
    voices = rng.normal(size=(people, windows + 40, 8))
    faces = voices[:, 20 + delay : 20 + delay + windows]
    return SyncTracks(
        faces=faces.astype(np.float32),
        voices=voices[:, 20 : 20 + windows].astype(np.float32),
        sounding=np.ones(people, bool),
        missing=np.zeros(people),
        fps=FPS,
        window=5,
        zero_padding=False,
    )


def test_distances_by_hand() -> None:
    face, voice = np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [3.0, 0.0]])
    nan = np.nan
    np.testing.assert_equal(pair_distances(face, voice, False, reach=1), [[nan, 5, 4], [0, 3, nan]])
    np.testing.assert_equal(pair_distances(face, voice, True, reach=1), [[5, 5, 4], [0, 3, 0]])


@pytest.mark.parametrize("delay", [-15, -4, 0, 1, 15])
def test_a_late_voice_is_found_late(delay: int) -> None:
    score = lip_sync_of(made_up(delay=delay), 0)
    assert score.offset == delay
    assert score.distance == pytest.approx(0, abs=1e-6)
    assert score.confidence == pytest.approx(np.median(score.distances) - score.distances[REACH + delay])
    assert score.confidence > 3


def test_frames_tell_where_it_goes_wrong() -> None:
    tracks = made_up()
    tracks.faces[0, 30:40] = -tracks.faces[0, 30:40]
    score = lip_sync_of(tracks, 0)
    assert score.frame_confidence.shape == (80,)
    assert score.frame_confidence[30:40].max() < score.frame_confidence[:30].min()


def test_only_what_is_spoken_counts() -> None:
    tracks = made_up()
    tracks.faces[0, 45:] = 0
    spans = [(0.0, 1.9)]
    assert windows_within(tracks, spans).sum() == 45
    score = lip_sync_of(tracks, 0, speaking=spans)
    assert score.distance == pytest.approx(0, abs=1e-6)
    assert score.seconds == pytest.approx(45 / 25)
    assert np.isnan(score.frame_confidence[45:]).all()
    assert lip_sync_of(tracks, 0).distance > 1


def test_missing_faces_are_tolerated_up_to_half() -> None:
    tracks = made_up()
    tracks.faces[0, 10:30] = np.nan
    assert lip_sync_of(replace(tracks, missing=np.array([0.3])), 0).distance == pytest.approx(0, abs=1e-6)
    with pytest.raises(NoScoreError, match="missing in 60%"):
        lip_sync_of(replace(tracks, missing=np.array([0.6])), 0)
    tracks.faces[0, 20:] = np.nan
    with pytest.raises(NoScoreError, match=r"Less than 1.0 s"):
        lip_sync_of(replace(tracks, missing=np.array([0.4])), 0)


def test_nothing_can_be_in_sync_with_silence() -> None:
    with pytest.raises(NoScoreError, match="silent"):
        lip_sync_of(replace(made_up(), sounding=np.array([False])), 0)


def test_sync_c_star_weighs_spans_by_their_length() -> None:
    score = lip_sync_of(made_up(), 0)

    def scored(confidence: float, seconds: float) -> LipSync:
        return replace(score, confidence=confidence, seconds=seconds)

    assert sync_c_star([scored(4.0, 1.0), scored(8.0, 3.0)]) == pytest.approx(7.0)
    with pytest.raises(NoScoreError):
        sync_c_star([])


def test_rates_are_changed_by_repeating_and_leaving_out() -> None:
    assert resample_frames(5, 24, 24).tolist() == [0, 1, 2, 3, 4]
    assert resample_frames(8, 50, 25).tolist() == [1, 3, 5, 7]
    assert resample_frames(3, 12.5, 25).tolist() == [0, 0, 1, 1, 2, 2]
    assert len(resample_frames(240, 24, 25)) == 250


def test_faces_find_their_voices() -> None:
    result = binding(made_up(4))
    assert result.best == [0, 1, 2, 3]
    assert result.accuracy == 1
    assert result.confidence.shape == (4, 4)
    swapped = made_up(4)
    swapped.voices[[0, 1]] = swapped.voices[[1, 0]]
    result = binding(swapped)
    assert result.best == [1, 0, 2, 3]
    assert result.correct == [False, False, True, True]
    assert result.accuracy == 0.5
    assert binding(swapped, owners=[1, 0, 2, 3]).accuracy == 1


def test_a_delayed_voice_is_not_bound() -> None:
    def delayed(delay: int) -> float:
        return float(binding(made_up(2, delay=delay)).confidence[0, 0])

    assert delayed(1) == pytest.approx(delayed(0), abs=0.3)
    assert delayed(3) < 0.3 * delayed(0)


def test_the_silent_are_left_out_of_binding() -> None:
    tracks = replace(made_up(3), sounding=np.array([True, False, True]))
    result = binding(tracks)
    assert np.isnan(result.confidence[:, 1]).all()
    assert result.correct == [True, None, True]
    assert result.best[1] in (0, 2)
    with pytest.raises(NoScoreError, match="two or more"):
        binding(replace(tracks, sounding=np.array([True, False, False])))
    with pytest.raises(InputError, match="owners"):
        binding(tracks, owners=[0, 0, 1])
    gone = replace(tracks, missing=np.array([0.9, 0.0, 0.9]))
    with pytest.raises(NoScoreError, match="No face"):
        binding(gone)


def mouths(openings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crops (T, P, 48, 48) of mouths that open by `openings` (T, P)."""
    rows, columns = np.indices((48, 48)) - 24
    face = 140 + 20 * np.cos(columns / 9) + rows
    dark = (np.abs(columns) < 10) & (np.abs(rows) < 10 * openings[..., None, None])
    return np.where(dark, 30, face).astype(np.uint8), np.ones(openings.shape, bool)


def test_still_mouths_are_still() -> None:
    rng = np.random.default_rng(0)
    speech = rng.uniform(0, 1, 60)
    steps = mouth_motions(*mouths(np.stack([speech, 0 * speech, 0.3 * speech], axis=1)))
    result = silence(steps, [[(0.0, 3.0)], [], []], 24.0)
    assert result.per_person[1] == 0
    assert 0.15 < result.per_person[2] < 0.5
    assert np.isnan(result.per_person[0])
    assert result.ratio == pytest.approx(result.per_person[1:].mean())


def test_a_nod_is_no_speech() -> None:
    crops, _ = mouths(np.tile([[0.5, 0.5]], (40, 1)))
    for frame in range(40):
        crops[frame, 0] = np.roll(crops[0, 1], int(2 * np.sin(frame / 3)), axis=0)
    speaking, _ = mouths(np.random.default_rng(0).uniform(0, 1, (40, 1)))
    steps = mouth_motions(np.concatenate([crops, speaking], axis=1), np.ones((40, 3), bool))
    assert steps[:, 0].mean() < 0.3 * steps[:, 2].mean()


def test_silence_without_a_score() -> None:
    steps = np.ones((48, 2))
    with pytest.raises(NoScoreError, match="of speech"):
        silence(steps, [[], []], 24.0)
    with pytest.raises(NoScoreError, match="of silence"):
        silence(steps, [[(0, 2)], [(0, 2)]], 24.0)
    with pytest.raises(NoScoreError, match="don't move"):
        silence(0 * steps, [[(0, 2)], []], 24.0)
    with pytest.raises(InputError, match="2 faces"):
        silence(steps, [[(0, 2)]], 24.0)
    steps[:30, 1] = np.nan
    with pytest.raises(NoScoreError, match="of silence"):
        silence(steps, [[(0, 2)], []], 24.0)


def test_what_does_not_fit_is_refused() -> None:
    crops, found = np.zeros((30, 1, 48, 48), np.uint8), np.ones((30, 1), bool)
    with pytest.raises(InputError, match="needs"):
        embed_tracks(crops[..., :40], found, [None], 24.0)
    with pytest.raises(InputError, match="frame rate"):
        embed_tracks(crops, found, [None], 0.0)
    with pytest.raises(NoScoreError, match="lasts"):
        embed_tracks(crops[:20], found[:20], [None], 24.0)


# The shipped weights, on people and voices of the drawn world that training never met.


def boxes_of(clip: RenderedClip) -> np.ndarray:
    return np.array([[x, y, x + w, y + h] for x, y, w, h in clip.boxes], dtype=float)


@pytest.fixture(scope="module")
def monologues() -> list[RenderedClip]:
    settings = CorpusSettings(frames=97, unseen=True, silent_share=0.0)
    return [render_clip(seed, settings) for seed in range(6_500_000, 6_500_004)]


def test_shipped_weights_tell_true_from_false_and_late(monologues: list[RenderedClip]) -> None:
    model = load_sync_model()
    crops = [crop_faces(clip.frames, boxes_of(clip), model.crop) for clip in monologues]
    late = [np.concatenate([np.zeros(2000, np.float32), clip.voices[0]]) for clip in monologues]
    early = [clip.voices[0][1333:] for clip in monologues]
    for index, clip in enumerate(monologues):
        voices = [clip.voices[0], late[index], early[index], monologues[index - 1].voices[0]]
        tracks = embed_tracks(*crops[index], voices, 24.0, model)
        own, after, before, foreign = (lip_sync_of(tracks, 0, voice) for voice in range(4))
        assert [own.offset, after.offset, before.offset] == [0, 3, -2]
        assert own.confidence > 2 * foreign.confidence


def test_the_less_goes_together_the_lower_the_score(monologues: list[RenderedClip]) -> None:
    model = load_sync_model()
    for clip in monologues:
        crops, found = crop_faces(clip.frames, boxes_of(clip), model.crop)
        confidences = []
        for share in (0.0, 0.3, 0.6, 1.0):
            frozen = crops.copy()
            frozen[: int(share * len(crops))] = crops[0]
            confidences.append(lip_sync_of(embed_tracks(frozen, found, clip.voices, 24.0, model), 0).confidence)
        assert confidences == sorted(confidences, reverse=True)
        assert confidences[-1] < 0.2 * confidences[0]


def test_one_call_gives_the_same(monologues: list[RenderedClip]) -> None:
    clip, model = monologues[0], load_sync_model()
    boxes = np.tile(boxes_of(clip)[0], (len(clip.frames), 1))
    score = lip_sync(iter(clip.frames), boxes, clip.voices[0], 24.0)
    tracks = embed_tracks(*crop_faces(clip.frames, boxes_of(clip), model.crop), clip.voices, 24.0, model)
    assert score.confidence == lip_sync_of(tracks, 0).confidence
    boxes[::20] = np.nan
    gaps = lip_sync(clip.frames, boxes, clip.voices[0], 24.0)
    assert gaps.offset == 0
    assert gaps.confidence == pytest.approx(score.confidence, rel=0.25)
    boxes[:] = np.nan
    with pytest.raises(NoScoreError, match="missing in 100%"):
        lip_sync(clip.frames, boxes, clip.voices[0], 24.0)
    with pytest.raises(NoScoreError, match="silent"):
        lip_sync(clip.frames, boxes_of(clip)[0], np.zeros(64000, np.float32), 24.0)


@pytest.mark.parametrize("fps", [25.0, 30.0, 48.0])
def test_other_frame_rates(monologues: list[RenderedClip], fps: float) -> None:
    clip = monologues[1]
    shown = resample_frames(len(clip.frames), 24.0, fps)
    score = lip_sync(clip.frames[shown], boxes_of(clip)[0], clip.voices[0], fps)
    assert abs(score.offset) <= 1
    assert score.confidence > 0.1


def test_shipped_weights_bind_three_people() -> None:
    clip = render_clip(6_500_000, CorpusSettings(persons=3, frames=97, unseen=True))
    model = load_sync_model()
    tracks = embed_tracks(*crop_faces(clip.frames, boxes_of(clip), model.crop), clip.voices, 24.0, model)
    result = binding(tracks)
    assert result.accuracy == 1
    turned = replace(tracks, voices=np.roll(tracks.voices, 1, axis=0), sounding=np.roll(tracks.sounding, 1))
    speakers = np.flatnonzero(tracks.sounding)
    assert [binding(turned).best[face] for face in speakers] == [(face + 1) % 3 for face in speakers]


def test_the_crop_serves_the_silence_too() -> None:
    model = load_sync_model()
    assert isinstance(model.crop, FaceCrop)
    clip = render_clip(6_500_001, CorpusSettings(frames=49, unseen=True, silent_share=1.0))
    crops, found = crop_faces(clip.frames, boxes_of(clip), model.crop)
    assert mouth_motions(crops, found).mean() < 0.02
