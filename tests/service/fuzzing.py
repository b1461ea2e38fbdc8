"""What Schemathesis and Hypothesis do for `test_fuzzed.py`, which imports this only when it runs: it takes seconds."""

from __future__ import annotations

from typing import Any

import hypothesis
import schemathesis
from hypothesis import given, seed
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks as known

__all__ = ["CHECKS", "few", "given", "hypothesis", "schemathesis", "seed", "st"]

CHECKS = [
    schemathesis.checks.not_a_server_error,
    known.status_code_conformance,
    known.content_type_conformance,
    known.response_schema_conformance,
]


def few(count: int) -> Any:
    """The same examples every time."""
    only = {"phases": (hypothesis.Phase.generate,), "suppress_health_check": tuple(hypothesis.HealthCheck)}
    return hypothesis.settings(max_examples=count, deadline=None, database=None, **only)
