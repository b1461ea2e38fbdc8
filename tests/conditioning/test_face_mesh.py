"""Landmarks of faces: what the mesh measures on drawn faces, whose mouths and eyes are known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from anytalker.conditioning.face_mesh.landmarks import FaceMesh, find_landmarks
from anytalker.conditioning.face_mesh.mouths import FaceMotion, follow_faces, read_motion
from anytalker.conditioning.face_mesh.network import MeshNetwork
from anytalker.conditioning.face_mesh.photographed import moving_areas
from anytalker.errors import InputError
from anytalker.miniature.world.drawing import EYE_Y, mouth_center
from anytalker.miniature.world.scenes import Scene

FRAMES, HEIGHT = 24, 128


class DrawnClip:
    """Two people who open their mouths at different times, and blink once."""

    def __init__(self) -> None:
        self.scene = Scene.random(2, 1_000_001)
        times = np.arange(FRAMES)
        self.openings = np.stack([np.sin(times / 2) ** 2, np.sin(times / 3 + 1) ** 2]) * (times % 8 > 1)
        self.blinks = np.zeros((2, FRAMES))
        self.blinks[:, 10:13] = 1
        states = [
            [
                replace(self.scene.neutral(person), opening=float(self.openings[person, time]), blink=float(blink))
                for time, blink in enumerate(self.blinks[person])
            ]
            for person in range(2)
        ]
        self.frames = np.stack(list(self.scene.render(states, HEIGHT)))
        self.boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in self.scene.boxes(HEIGHT)], dtype=float)
        self.tracks = np.tile(self.boxes, (FRAMES, 1, 1))


@pytest.fixture(scope="module")
def clip() -> DrawnClip:
    return DrawnClip()


@pytest.fixture(scope="module")
def mesh(clip: DrawnClip) -> FaceMesh:
    return find_landmarks(iter(clip.frames), clip.tracks)


@pytest.fixture(scope="module")
def motion(mesh: FaceMesh) -> FaceMotion:
    return read_motion(mesh)


def test_mouths_open_as_they_were_drawn(clip: DrawnClip, motion: FaceMotion) -> None:
    for person, truth in enumerate(clip.openings):
        assert np.corrcoef(truth, motion.opening[:, person])[0, 1] > 0.95
        assert abs(motion.opening[truth < 0.01, person]).max() < 0.03
        assert np.array_equal(motion.mouth(person)[:, 0], motion.opening[:, person])


def test_eyes_shut_as_they_were_drawn(clip: DrawnClip, motion: FaceMotion) -> None:
    gaps, shut = motion.eyes.mean(axis=2).T, clip.blinks > 0.5
    wide = ~shut
    assert gaps[shut].max() < gaps[wide].min()


def test_points_lie_within_the_face(clip: DrawnClip, mesh: FaceMesh) -> None:
    assert mesh.points.shape == (FRAMES, 2, 468, 3)
    assert mesh.confidence.min() > 0.9
    for person, (x, y, width, height) in enumerate(clip.scene.boxes(HEIGHT)):
        lips = mesh.points[:, person, 13, :2]
        assert abs(lips[:, 0] - (x + width / 2)).max() < 0.15 * width
        assert (lips[:, 1] > y + height / 2).all()
        assert (lips[:, 1] < y + height).all()


@pytest.mark.parametrize("seen", [True, False])
def test_mouths_change_and_eyes_move_with_heads(clip: DrawnClip, seen: bool) -> None:
    picture = clip.frames[0] if seen else np.full_like(clip.frames[0], 90)
    areas = moving_areas(picture, clip.scene.boxes(HEIGHT))
    assert (areas.shape, areas.dtype) == ((3, *clip.frames.shape[1:3]), np.float32)
    assert (areas.min(), areas.max()) == (0, 1)
    for person, place in zip(clip.scene.people, clip.scene.placements, strict=True):

        def at(x: float, y: float, place=place) -> list[float]:
            row, column = (
                round((middle + side * place.scale) * HEIGHT) for middle, side in ((place.y, y), (place.x, x))
            )
            return areas[:, row, column].tolist()

        for eye in (at(-person.eye_spacing, EYE_Y), at(person.eye_spacing, EYE_Y)):
            assert eye == pytest.approx([0, 1, 1], abs=0.1)
        assert at(*mouth_center(person)) == pytest.approx([1, 1, 1], abs=0.1)
        assert at(0, -0.95 * person.face_height) == pytest.approx([0, 1, 0], abs=0.2), (
            "the forehead tells where it goes"
        )
        assert at(1.3, 1.5) == pytest.approx([0, 0, 0], abs=0.1), "shoulders stand still"


def test_tilted_faces_are_read_as_upright_ones(clip: DrawnClip, motion: FaceMotion) -> None:
    middle = (clip.boxes[0, :2] + clip.boxes[0, 2:]) / 2
    turn = cv2.getRotationMatrix2D(middle.tolist(), 30, 1)
    turned = [cv2.warpAffine(frame, turn, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE) for frame in clip.frames]
    found = read_motion(find_landmarks(turned, clip.tracks[:, :1]))
    assert abs(found.roll + 30).max() < 8
    assert np.corrcoef(found.opening[:, 0], motion.opening[:, 0])[0, 1] > 0.95


def test_missing_faces_stay_missing(clip: DrawnClip, motion: FaceMotion) -> None:
    boxes = clip.tracks.copy()
    boxes[5:15, 0] = np.nan
    boxes[:, 1] = np.nan
    found = read_motion(find_landmarks(clip.frames, boxes))
    assert np.isnan(found.opening[5:15, 0]).all()
    assert np.isfinite(found.opening[:5, 0]).all()
    assert np.isnan(found.yaw[:, 1]).all()
    assert not found.confidence[:, 1].any()
    assert np.corrcoef(found.opening[15:, 0], motion.opening[15:, 0])[0, 1] > 0.98


def test_a_long_video_is_followed_piece_by_piece(clip: DrawnClip, motion: FaceMotion) -> None:
    twice = follow_faces((frame for _ in range(2) for frame in clip.frames), np.concatenate([clip.tracks, clip.tracks]))
    for name in ("opening", "width", "eyes", "yaw", "confidence"):
        first, second = np.split(getattr(twice, name), 2)
        np.testing.assert_allclose(first, getattr(motion, name), atol=1e-3)
        np.testing.assert_allclose(second, getattr(motion, name), atol=1e-3)
    assert follow_faces([], np.zeros((0, 2, 4))).opening.shape == (0, 2)


def test_a_background_is_no_face(clip: DrawnClip) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    assert find_landmarks(noise, np.tile([30.0, 30.0, 100.0, 100.0], (3, 1, 1))).confidence.max() < 0.5


def test_a_face_is_found_alike_in_any_batch(mesh: FaceMesh, clip: DrawnClip) -> None:
    alone = find_landmarks(clip.frames[:1], clip.tracks[:1])
    assert abs(alone.points[0] - mesh.points[0])[..., :2].max() < 1.0


def test_regions_replace_their_points() -> None:
    torch.manual_seed(0)
    network = MeshNetwork().eval()
    network.lips_points.copy_(torch.arange(80))
    network.left_eye_points.copy_(torch.arange(100, 171))
    network.right_eye_points.copy_(torch.arange(200, 271))
    for name in network.REGIONS:
        network.get_buffer(f"{name}_axis").copy_(torch.tensor([300, 301]))
    pixels = torch.rand(2, 3, 192, 192)
    with torch.no_grad():
        before, sure = network(pixels)
        network.regions["lips"].points.bias += 1
        after, _ = network(pixels)
    moved = (before != after).any(dim=2).any(dim=0)
    assert moved[:80].all()
    assert not moved[80:].any()
    assert sure.shape == (2,)


@pytest.mark.parametrize(
    ("frames", "shape", "message"),
    [(3, (3, 4), "shape"), (4, (3, 1, 4), "more frames"), (2, (3, 1, 4), "2 frames")],
)
def test_boxes_must_fit_the_frames(frames: int, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_landmarks(np.zeros((frames, 32, 32, 3), np.uint8), np.full(shape, np.nan))


def test_a_box_outside_of_the_frame_is_no_face() -> None:
    frame = np.zeros((64, 64, 3), np.uint8)
    assert find_landmarks([frame], np.array([[[2000.0, 0, 2400, 400]]])).confidence.max() < 0.5


def test_frames_must_be_pictures() -> None:
    with pytest.raises(InputError, match="uint8"):
        find_landmarks([np.zeros((32, 32, 3))], np.full((1, 1, 4), np.nan))
