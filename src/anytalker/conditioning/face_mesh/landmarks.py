"""Landmarks of tracked faces through a video, read once, with the network that comes with the package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anytalker.errors import InputError

WEIGHTS = Path(__file__).parent / "weights" / "attention_mesh.safetensors"
POINTS = 468

_CHUNK = 24
"""Frames whose faces are kept at a time."""
_LOOK_EVERY = 6
"""Frames from one first look, which tells how a head is turned, to the next."""
_BATCH = 16
_FIRST_SIDE, _FIRST_UP = 1.75, 0.12
"""Side of the first look, and how far above a box's middle it lies, in units of the box's larger side."""
_SIDE = 1.5
"""Side of the second look in units of the points' larger extent, as MediaPipe's tracker takes it."""
_EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class FaceMesh:
    """Landmarks of P people over T frames.

    Attributes:
        points: float32 (T, P, 468, 3): x and y in pixels of the frame, depth in the same unit, smaller is nearer;
            numbered as MediaPipe's canonical face model; NaN where a face is missing.
        confidence: float32 (T, P) from 0 to 1, that there is a face; 0 where it is missing.
    """

    points: np.ndarray
    confidence: np.ndarray


def find_landmarks(frames: Iterable[np.ndarray], boxes: np.ndarray) -> FaceMesh:
    """Find the landmarks of tracked faces, reading the frames once and keeping few; see `stream_landmarks`."""
    meshes = list(stream_landmarks(frames, boxes))
    if not meshes:
        return FaceMesh(np.zeros((0, boxes.shape[1], POINTS, 3), np.float32), np.zeros((0, boxes.shape[1]), np.float32))
    return FaceMesh(
        np.concatenate([mesh.points for mesh in meshes]), np.concatenate([mesh.confidence for mesh in meshes])
    )


def stream_landmarks(frames: Iterable[np.ndarray], boxes: np.ndarray) -> Iterator[FaceMesh]:
    """Find the landmarks of tracked faces, up to 24 frames at a time.

    Every sixth frame is looked at twice: first upright, to learn how the head is tilted and how large it is.

    Args:
        frames: uint8 (H, W, 3) RGB each; an array (T, H, W, 3) or any iterator.
        boxes: face boxes (T, P, 4), left, top, right, bottom in pixels, brows to chin; NaN where a face is missing.

    Raises:
        InputError: if the boxes have another shape, a frame is no picture, or there aren't as many frames as boxes.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 3 or boxes.shape[2] != 4:
        raise InputError(f"Face boxes have shape {boxes.shape}; give (frames, people, 4).")
    done = 0
    for chunk in _chunks(frames):
        if done + len(chunk) > len(boxes):
            raise InputError(f"The video has more frames than the {len(boxes)} that there are face boxes for.")
        found = [_read_face(chunk, boxes[done : done + len(chunk), person]) for person in range(boxes.shape[1])]
        points = np.stack([face for face, _ in found], axis=1) if found else np.zeros((len(chunk), 0, POINTS, 3))
        sure = np.stack([face for _, face in found], axis=1) if found else np.zeros((len(chunk), 0))
        yield FaceMesh(points.astype(np.float32), sure.astype(np.float32))
        done += len(chunk)
    if done < len(boxes):
        raise InputError(f"The video has {done} frames, and there are face boxes for {len(boxes)}.")


def _chunks(frames: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    chunk: list[np.ndarray] = []
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise InputError(f"A frame is {frame.dtype} {frame.shape}; give uint8 (height, width, 3).")
        chunk.append(frame)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _read_face(frames: list[np.ndarray], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, 468, 3) and confidence (T,) of one face with boxes (T, 4)."""
    with np.errstate(invalid="ignore"):
        there = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] - boxes[:, :2] >= 2).all(axis=1))
    points, confidence = np.full((len(boxes), POINTS, 3), np.nan), np.zeros(len(boxes))
    if not len(there):
        return points, confidence
    sizes = (boxes[there, 2:] - boxes[there, :2]).max(axis=1)
    middles = (boxes[there, :2] + boxes[there, 2:]) / 2
    keys = np.unique(np.append(np.arange(0, len(there), _LOOK_EVERY), len(there) - 1))
    first = np.stack(
        [middles[:, 0], middles[:, 1] - _FIRST_UP * sizes, _FIRST_SIDE * sizes, np.zeros(len(there))], axis=1
    )
    looked, _ = _place_points([frames[there[key]] for key in keys], first[keys])
    around = np.stack([_square(found) for found in looked])
    # The boxes tell where the head goes between the first looks.
    ratios = np.column_stack(
        [(around[:, :2] - middles[keys]) / sizes[keys, None], around[:, 2] / sizes[keys], np.unwrap(around[:, 3])]
    )
    steady = np.stack([np.interp(there, there[keys], column) for column in ratios.T], axis=1)
    places = np.column_stack([middles + steady[:, :2] * sizes[:, None], steady[:, 2] * sizes, steady[:, 3]])
    points[there], confidence[there] = _place_points([frames[index] for index in there], places)
    return points, confidence


def _square(points: np.ndarray) -> np.ndarray:
    """The square (x, y, side, tilt in radians) around points (468, 3) that the network knows faces in."""
    left, right = points[_EYE_CORNERS[0], :2], points[_EYE_CORNERS[1], :2]
    tilt = np.arctan2(right[1] - left[1], right[0] - left[0])
    turn = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    upright = points[:, :2] @ turn
    low, high = upright.min(axis=0), upright.max(axis=0)
    return np.array([*(turn @ ((low + high) / 2)), _SIDE * (high - low).max(), tilt])


def _place_points(frames: list[np.ndarray], squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (T, 468, 3) in pixels of the frames, and confidence (T,), looked for in squares (T, 4)."""
    import torch

    from anytalker.conditioning.face_mesh.network import SIZE

    crops, places = zip(
        *(_cut(frame, square, SIZE) for frame, square in zip(frames, squares, strict=True)), strict=True
    )
    points, logits = [], []
    with torch.inference_mode():
        for start in range(0, len(crops), _BATCH):
            pixels = torch.from_numpy(np.stack(crops[start : start + _BATCH])).permute(0, 3, 1, 2)
            found, sure = mesh_network()(pixels.float() / 255)
            points.append(found.numpy())
            logits.append(sure.numpy())
    found, matrices = np.concatenate(points).astype(np.float64), np.stack(places)
    flat = np.concatenate([found[..., :2] - 0.5, np.ones((*found.shape[:2], 1))], axis=2) @ matrices.transpose(0, 2, 1)
    depth = found[..., 2] * (squares[:, 2] / SIZE)[:, None]
    return np.concatenate([flat, depth[..., None]], axis=2), 1 / (1 + np.exp(-np.concatenate(logits).clip(-30, 30)))


def _cut(frame: np.ndarray, square: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A tilted square of a frame as uint8 (size, size, 3), and the matrix (2, 3) from its pixels to the frame's."""
    x, y, side, tilt = square
    scale = side / size
    shrink = 1.0
    corner = np.zeros(2)
    view = frame
    if scale > 1.5:
        # Averaging first keeps thin lips.
        reach = int(np.ceil(0.75 * side)) + 2
        left, top = (min(max(0, int(at) - reach), side - 1) for at, side in ((x, frame.shape[1]), (y, frame.shape[0])))
        view = frame[top : max(top + 1, int(y) + reach), left : max(left + 1, int(x) + reach)]
        corner = np.array([left, top])
        smaller = max(1, round(view.shape[1] / scale)), max(1, round(view.shape[0] / scale))
        shrink = view.shape[1] / smaller[0]
        view = cv2.resize(view, smaller, interpolation=cv2.INTER_AREA)
    turn = scale * np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    start = np.array([x, y]) - turn @ np.full(2, size / 2 - 0.5) - 0.5
    matrix = np.column_stack([turn, start])
    seen = np.column_stack([turn / shrink, (start - corner + 0.5) / shrink - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(view, seen, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE), matrix


@lru_cache(maxsize=1)
def mesh_network() -> Any:
    """The network that comes with the package, read once."""
    import torch
    from safetensors.torch import load_file

    from anytalker.conditioning.face_mesh.network import MeshNetwork

    network = MeshNetwork().eval().requires_grad_(False)
    state = load_file(WEIGHTS)
    # Assigned: copied, they would take the default type, which another thread may have changed for a while.
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}, assign=True
    )
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
