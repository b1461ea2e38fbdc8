"""Logs: a JSON object a line, with what happened and to which job, never with what a request held."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone

_FIELDS = (
    *("request", "method", "route", "status", "ms", "owner", "job", "attempt", "code", "seconds", "worker", "why"),
    "model",
)


class JsonLines(logging.Formatter):
    """Formats a record as JSON, with the fields that are known to hold no contents."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "from": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json() -> None:
    """Let the package's loggers write JSON lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("anytalker", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "anytalker" else logging.WARNING)
