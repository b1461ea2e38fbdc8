"""API keys: a JSON file that holds their SHA-256, never themselves. They are random, so that a plain hash is enough."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anytalker.errors import InputError
from anytalker.files import atomic_path, exclusive
from anytalker.queue.record import LOCAL

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_START = "at_"


class ApiKey(BaseModel):
    """A key, without itself.

    Attributes:
        name: whose it is, and the owner of its jobs.
        sha256: of the key.
        created: when.
        max_jobs: that may wait or run at a time; None: as many as the queue holds.
        per_minute: requests; None: as many as the service allows.
        priority: of its jobs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{_NAME.pattern}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: str
    max_jobs: int | None = Field(default=None, ge=1)
    per_minute: int | None = Field(default=None, ge=1)
    priority: int = 0


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: list[ApiKey] = []


class ApiKeys:
    """The keys of a file, which is read again whenever it has changed.

    Args:
        path: the file; None of its keys is known while it isn't there.

    Raises:
        InputError: from `read`, if it isn't a file of keys.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._state: tuple[int, int] | None = None
        self._known: dict[str, ApiKey] = {}
        self._lock = threading.Lock()

    def find(self, key: str) -> ApiKey | None:
        """The key, if it is known. What is compared are hashes, whose timing tells nothing."""
        self._refresh()
        return self._known.get(_hash(key))

    def names(self) -> list[str]:
        """Whose keys there are."""
        return [key.name for key in self.read()]

    def read(self) -> list[ApiKey]:
        """All keys of the file.

        Raises:
            InputError: if it is something else.
        """
        try:
            return _File.model_validate_json(self.path.read_bytes()).keys
        except FileNotFoundError:
            return []
        except (OSError, ValidationError, ValueError) as error:
            raise InputError(f"{self.path} isn't a file of keys. `anytalker serve keys add` makes one.") from error

    def add(self, name: str, max_jobs: int | None = None, per_minute: int | None = None, priority: int = 0) -> str:
        """Make a key; it is returned, and known to nobody else.

        Raises:
            InputError: if there is one of that name, or the name or a limit can't be one.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} can't be the name of a key; give letters, digits, dots and dashes, at most 40.")
        if name == LOCAL:
            raise InputError(f"{name!r} can't be the name of a key: so are videos owned that are made without one.")
        secret = _START + secrets.token_urlsafe(32)
        try:
            added = ApiKey(
                name=name,
                sha256=_hash(secret),
                created=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                max_jobs=max_jobs,
                per_minute=per_minute,
                priority=priority,
            )
        except ValidationError as error:
            raise InputError("The limits of a key must be at least 1.") from error
        with self._changing():
            keys = self.read()
            if any(known.name == name for known in keys):
                raise InputError(f"{self.path} has a key of {name} already. Remove it first, or give another name.")
            self._write([*keys, added])
        return secret

    def remove(self, name: str) -> None:
        """Forget a key; a running service forgets it, too.

        Raises:
            InputError: if there is none of that name.
        """
        with self._changing():
            keys = self.read()
            rest = [key for key in keys if key.name != name]
            if len(rest) == len(keys):
                raise InputError(f"{self.path} has no key of {name}; there are {', '.join(self.names()) or 'none'}.")
            self._write(rest)

    def _changing(self) -> AbstractContextManager[None]:
        """Keep others from changing the file between reading and writing: a key of theirs would be lost."""
        refusal = f"Another process is changing {self.path} right now. Try again."
        return exclusive(self.path.with_name(f".{self.path.name}.lock"), refusal)

    def _write(self, keys: list[ApiKey]) -> None:
        try:
            with atomic_path(self.path) as partial:
                partial.touch(mode=0o600)
                partial.write_text(_File(keys=keys).model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{self.path} can't be written: {error.strerror}. Choose another place.") from error

    def _refresh(self) -> None:
        try:
            found = self.path.stat()
            state = found.st_mtime_ns, found.st_ino
        except OSError:
            state = None
        with self._lock:
            if state == self._state and state is not None:
                return
            try:
                self._known = {key.sha256: key for key in self.read()}
                self._state = state
            except InputError:  # half-edited by hand: nobody is let in by chance
                self._known, self._state = {}, None


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
