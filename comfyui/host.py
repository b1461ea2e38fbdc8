"""What the nodes need of ComfyUI itself: its device, its progress bar, its stop button; without it, nothing happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def device() -> str:
    """The device that ComfyUI computes on; without it CUDA if there is some."""
    try:
        from comfy.model_management import get_torch_device
    except ImportError:
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(get_torch_device())


def stop_if_asked() -> None:
    """Raise ComfyUI's exception if the user has pressed stop."""
    try:
        from comfy.model_management import throw_exception_if_processing_interrupted
    except ImportError:
        return
    throw_exception_if_processing_interrupted()


def progress() -> Callable[[str, int, int], None]:
    """A function for `on_progress` that moves the node's bar, a bar a stage, and lets the user stop."""
    bars: dict[str, Any] = {}

    def report(stage: str, done: int, total: int) -> None:
        stop_if_asked()
        if stage not in bars:
            bars[stage] = _bar(total)
        if bars[stage] is not None:
            bars[stage].update_absolute(done, total)

    return report


def _bar(total: int) -> Any:
    try:
        from comfy.utils import ProgressBar
    except ImportError:
        return None
    return ProgressBar(total)
