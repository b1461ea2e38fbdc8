"""Content credentials (C2PA): a video says, signed, that a model has made it, and by which program."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.errors import AnyTalkerError, InputError
from anytalker.files import atomic_path
from anytalker.media.marks import SOURCE_TYPE
from anytalker.media.video import write_video

ALGORITHMS = ("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519")


@dataclass(frozen=True)
class Credentials:
    """With what videos are signed.

    Attributes:
        certificate: PEM file of the certificate and those that vouch for it, in order.
        key: PEM file of its private key.
        algorithm: of the key, one of `ALGORITHMS`.
    """

    certificate: Path
    key: Path
    algorithm: str = "es256"

    def check(self) -> None:
        """Make sure that a video can be signed.

        Raises:
            InputError: if c2pa-python is missing, or certificate and key can't be used.
        """
        if self.algorithm not in ALGORITHMS:
            raise InputError(f"The algorithm is {self.algorithm!r}; it must be one of {', '.join(ALGORITHMS)}.")
        try:
            self._try()
        except ModuleNotFoundError as error:
            raise InputError("Signing needs c2pa-python:  pip install 'anytalker[credentials]'") from error
        except OSError as error:
            raise InputError(f"{error.filename} can't be read: {error.strerror}.") from error
        except AnyTalkerError as error:
            pair = f"{self.certificate} and {self.key}"
            raise InputError(f"{pair} can't sign with {self.algorithm}: {error}") from error

    def sign(self, path: Path) -> None:
        """Add the credentials to an MP4, whole or not at all.

        Raises:
            AnyTalkerError: if it can't be signed.
        """
        from c2pa import Builder

        try:
            with atomic_path(path) as partial:
                Builder(json.dumps(_manifest())).sign_file(path, partial, self._signer())
        except OSError as error:
            raise AnyTalkerError(f"{path} can't be signed: {error.strerror}.") from error
        except Exception as error:
            raise AnyTalkerError(f"The video can't be signed ({error}).") from error

    def _try(self) -> None:
        """Sign a video of a frame: c2pa tells what is wrong only then."""
        import c2pa  # noqa: F401

        self.certificate.read_bytes(), self.key.read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.mp4"
            write_video(path, np.zeros((1, 32, 32, 3), np.uint8), 10)
            self.sign(path)

    def _signer(self) -> Any:
        from c2pa import C2paSignerInfo, Signer

        chain, key = self.certificate.read_bytes(), self.key.read_bytes()
        return Signer.from_info(C2paSignerInfo(self.algorithm, chain, key, None))


def _manifest() -> dict[str, Any]:
    from anytalker import __version__

    created = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE}
    return {
        "claim_generator_info": [{"name": "AnyTalker", "version": __version__}],
        "title": "video.mp4",
        "format": "video/mp4",
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [created]}}],
    }
