"""Hides the progress bars of the libraries that load models, which would fill logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_bars(quiet: bool = True) -> Iterator[None]:
    """Switch the bars of diffusers and transformers off, and those on again that were on before."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    if not quiet:
        yield
        return
    known: tuple[Any, ...] = (diffusers_logging, transformers_logging)
    libraries = [library for library in known if library.is_progress_bar_enabled()]
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in libraries:
            library.enable_progress_bar()
