"""AnyTalker: talking videos of any number of people.

The heavy parts are imported when they are first asked for, so `import anytalker` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from anytalker.errors import AnyTalkerError, InputError

if TYPE_CHECKING:
    from anytalker.models.transformer import AnyTalkerTransformer3DModel
    from anytalker.pipelines.pipeline import AnyTalkerPipeline

__version__ = "0.1.0"
__all__ = ["AnyTalkerError", "AnyTalkerPipeline", "AnyTalkerTransformer3DModel", "InputError", "__version__"]

_LAZY = {
    "AnyTalkerPipeline": "anytalker.pipelines.pipeline",
    "AnyTalkerTransformer3DModel": "anytalker.models.transformer",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'anytalker' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
