"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(destination: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `destination`; it takes its place on success and vanishes on any exception."""
    target = Path(destination)
    partial = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.partial{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_json_atomic(path: str | Path, data: Any) -> None:
    """Write `data` as indented JSON, whole or not at all."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
