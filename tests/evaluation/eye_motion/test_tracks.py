"""Face tracks keep people apart, and files of them are read or refused."""

from __future__ import annotations

import numpy as np
import pytest

from anytalker.errors import InputError
from anytalker.evaluation import interactivity
from anytalker.evaluation.eye_motion.detectors import BoxFrameDetector, CascadeFrameDetector
from anytalker.evaluation.eye_motion.tracks import Detection, FaceLinker, FaceTracks, find_tracks, track_faces
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.miniature.landmarks import scene_tracks


def face(x: float, y: float = 100.0, side: float = 40.0) -> np.ndarray:
    return np.array([x - side / 2, y - side / 2, x + side / 2, y + side / 2], dtype=np.float32)


def moving(frame: int) -> list[float]:
    """Two people who walk through each other."""
    return [100.0 + 4 * frame, 400.0 - 4 * frame]


@pytest.mark.parametrize("with_identity", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_people_who_cross_keep_their_index(with_identity: bool, flip: bool) -> None:
    linker = FaceLinker()
    for frame in range(80):
        found = [
            Detection(face(x), embedding=np.eye(4)[i] if with_identity else None) for i, x in enumerate(moving(frame))
        ]
        linker.add(found[::-1] if flip and frame % 2 else found)
    tracks = linker.result((500, 200), 25.0)
    middles = tracks.boxes[:, :, [0, 2]].mean(axis=2)
    np.testing.assert_allclose(middles, [moving(frame) for frame in range(80)], atol=1e-3)


def test_looks_keep_people_apart_who_meet_and_turn_back() -> None:
    """Where people come from does not tell who leaves to which side: only looks do."""
    colors = np.array([[220, 60, 40], [40, 90, 220]], dtype=np.uint8)
    linker = FaceLinker()
    for frame in range(61):
        offset = abs(30 - frame) * 3 + 30
        places = [300 - offset, 300 + offset]
        picture = np.full((200, 600, 3), 128, dtype=np.uint8)
        for place, color in zip(places, colors, strict=True):
            picture[80:120, int(place) - 20 : int(place) + 20] = color
        linker.add([Detection(face(place)) for place in places[::-1]], picture)
    tracks = linker.result((600, 200), 25.0)
    assert tracks.boxes.shape[1] == 2
    assert tracks.boxes[0, 0, 0] < tracks.boxes[0, 1, 0]
    assert tracks.boxes[-1, 0, 0] < tracks.boxes[-1, 1, 0]


def test_a_short_loss_is_a_gap_and_not_another_person() -> None:
    linker = FaceLinker(longest_gap=10)
    for frame in range(60):
        found = [Detection(face(100 + frame)), Detection(face(300))]
        linker.add(found[1:] if 20 <= frame < 27 else found)
    tracks = linker.result((500, 200), 25.0)
    assert tracks.boxes.shape[1] == 2
    assert np.isnan(tracks.boxes[20:27, 0]).all()
    assert np.isfinite(tracks.boxes[27:, 0]).all()
    assert np.isfinite(tracks.boxes[:, 1]).all()


def test_passers_by_are_left_out() -> None:
    linker = FaceLinker()
    for frame in range(50):
        found = [Detection(face(100)), Detection(face(300))]
        linker.add([*found, Detection(face(200, 40))] if frame < 5 else found)
    assert linker.result((500, 200), 25.0).boxes.shape[1] == 2
    assert linker.result((500, 200), 25.0, people=3).boxes.shape[1] == 3


def test_drawn_people_are_found_and_followed() -> None:
    clip = render_clip(5, CorpusSettings(persons=2, frames=9, size=192, unseen=True))
    tracks = track_faces(clip.frames, BoxFrameDetector(), 24.0, people=2)
    truth = scene_tracks(clip.scene, clip.states, 192, 24.0)
    assert tracks.boxes.shape == truth.boxes.shape
    np.testing.assert_allclose(
        tracks.boxes[0].reshape(-1, 2, 2).mean(axis=1), truth.boxes[0].reshape(-1, 2, 2).mean(axis=1), atol=10
    )


def test_true_tracks_show_lively_listeners() -> None:
    clip = render_clip(5, CorpusSettings(persons=3, frames=73, unseen=True))
    tracks = scene_tracks(clip.scene, clip.states, 128, 24.0)
    assert tracks.landmarks is not None
    lively = interactivity(tracks.landmarks, tracks.boxes, tracks.frame_size, 24.0).overall
    frozen = np.broadcast_to(tracks.landmarks[:1], tracks.landmarks.shape)
    assert interactivity(frozen, tracks.boxes, tracks.frame_size, 24.0).overall == 0
    assert lively > 0.05


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_files_come_back(tmp_path, kind: str) -> None:
    rng = np.random.default_rng(0)
    tracks = FaceTracks(
        rng.normal(size=(4, 2, 4)).astype("f4"), rng.normal(size=(4, 2, 106, 2)).astype("f4"), (64, 48), 24.0
    )
    path = tmp_path / f"clip.tracks.{kind}"
    if kind == "npz":
        np.savez(path, boxes=tracks.boxes, landmarks=tracks.landmarks)
        with pytest.raises(InputError, match="frame_size"):
            FaceTracks.load(path)
    else:
        tracks.save(path)
    back = FaceTracks.load(path, (64, 48), 24.0)
    np.testing.assert_array_equal(back.boxes, tracks.boxes)
    np.testing.assert_array_equal(back.landmarks, tracks.landmarks)
    assert (back.frame_size, back.fps) == ((64, 48), 24.0)
    assert find_tracks(tmp_path / "clip.mp4") == path
    assert find_tracks(tmp_path / "other.mp4") is None


def test_damaged_files_are_named(tmp_path) -> None:
    path = tmp_path / "clip.tracks.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"clip\.tracks"):
        FaceTracks.load(path)
    array = tmp_path / "clip.tracks.npz"
    np.savez(array, boxes=np.zeros((3, 4)), frame_size=(4, 4), fps=24.0)
    with pytest.raises(InputError, match=r"\(frames, people, 4\)"):
        FaceTracks.load(array)
    np.savez(array, boxes=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"clip\.tracks\.npz"):
        FaceTracks.load(array)


def test_a_video_without_frames_is_refused() -> None:
    with pytest.raises(InputError, match="without frames"):
        track_faces([], CascadeFrameDetector(), 24.0)
