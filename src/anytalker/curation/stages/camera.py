"""The camera must stand still: who is filmed moves, the picture does not (paper, clip building)."""

from __future__ import annotations

from collections.abc import Iterator

from anytalker.curation.camera import camera_motion
from anytalker.curation.config import CameraConfig
from anytalker.curation.footage import FPS
from anytalker.curation.piece import Dropped, Piece

_EVERY = 5


class CameraStage:
    """Drops pieces in which the camera pans, tilts, zooms or shakes."""

    name = "camera"

    def __init__(self, config: CameraConfig) -> None:
        self._config = config

    def __call__(self, piece: Piece) -> Iterator[Piece | Dropped]:
        """The piece with what the camera does, or dropped."""
        motion = camera_motion(piece.frames(_EVERY), FPS / _EVERY)
        measured = piece.measured(**{"camera.shift": motion.shift, "camera.zoom": motion.zoom})
        if motion.moving and not self._config.allow_moving:
            yield measured.drop(self.name, "the camera moves")
        else:
            yield measured.measured(**{"camera.moving": 1}) if motion.moving else measured
