"""ComfyUI's node contract in small: reads a workflow as the editor saves it, checks it, and runs its nodes in order.

What is published: a node names its inputs by INPUT_TYPES, its outputs by RETURN_TYPES and its method by FUNCTION. In a
saved workflow links are [id, from node, from output, to node, to input, type], and widgets' values stand in the order
of INPUT_TYPES; behind a seed there is a word more, for what happens to it after a run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from anytalker.media.recordings import SAMPLE_RATE, load_audio

_WIDGETS = {"INT": int, "FLOAT": (int, float), "STRING": str, "BOOLEAN": bool}
_AFTER_SEED = {"fixed", "increment", "decrement", "randomize"}


class InterruptProcessingException(Exception):
    """What Comfy raises in a node when the user stops."""


class Comfy:
    """Stands for ComfyUI: its modules that nodes import, what its bars have shown, and its stop button.

    Args:
        stop_at: pressed when a bar has moved so often; None: never.
    """

    def __init__(self, stop_at: int | None = None) -> None:
        self.shown: list[tuple[int, int]] = []
        self.stop_at = stop_at

    def modules(self) -> dict[str, ModuleType]:
        """For `sys.modules`."""
        comfy = self
        found = {name: ModuleType(name) for name in ("comfy", "comfy.utils", "comfy.model_management")}

        class ProgressBar:
            def __init__(self, total: int) -> None:
                self.total = total

            def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
                comfy.shown.append((value, total or self.total))

        def throw() -> None:
            if comfy.stop_at is not None and len(comfy.shown) >= comfy.stop_at:
                raise InterruptProcessingException

        found["comfy.utils"].ProgressBar = ProgressBar  # type: ignore[attr-defined]
        found["comfy.model_management"].throw_exception_if_processing_interrupted = throw  # type: ignore[attr-defined]
        found["comfy.model_management"].get_torch_device = lambda: torch.device("cpu")  # type: ignore[attr-defined]
        return found


def built_in(folder: Path, saved: list[Any]) -> dict[str, type]:
    """Those of Comfy's own nodes that the workflows use; files are taken from a folder, videos land in a list."""

    class LoadImage:
        FUNCTION, RETURN_TYPES = "load", ("IMAGE", "MASK")
        INPUT_TYPES = staticmethod(lambda: {"required": {"image": ("STRING", {})}})

        def load(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
            pixels = np.asarray(Image.open(folder / image).convert("RGB"), dtype=np.float32) / 255
            return torch.from_numpy(pixels)[None], torch.zeros(1, 64, 64)

    class LoadAudio:
        FUNCTION, RETURN_TYPES = "load", ("AUDIO",)
        INPUT_TYPES = staticmethod(lambda: {"required": {"audio": ("STRING", {})}})

        def load(self, audio: str) -> tuple[dict[str, Any]]:
            return ({"waveform": torch.from_numpy(load_audio(folder / audio))[None, None], "sample_rate": SAMPLE_RATE},)

    class CreateVideo:
        FUNCTION, RETURN_TYPES = "create", ("VIDEO",)
        INPUT_TYPES = staticmethod(
            lambda: {"required": {"images": ("IMAGE",), "fps": ("FLOAT", {})}, "optional": {"audio": ("AUDIO",)}}
        )

        def create(self, images: torch.Tensor, fps: float, audio: Any = None) -> tuple[dict[str, Any]]:
            return ({"images": images, "fps": fps, "audio": audio},)

    class SaveVideo:
        FUNCTION, RETURN_TYPES, OUTPUT_NODE = "save", (), True
        INPUT_TYPES = staticmethod(
            lambda: {
                "required": {
                    "video": ("VIDEO",),
                    "filename_prefix": ("STRING", {}),
                    "format": (["auto", "mp4"], {}),
                    "codec": (["auto", "h264"], {}),
                }
            }
        )

        def save(self, video: Any, filename_prefix: str, format: str, codec: str) -> tuple[()]:
            saved.append(video)
            return ()

    return {kind.__name__: kind for kind in (LoadImage, LoadAudio, CreateVideo, SaveVideo)}


def run_workflow(workflow: Mapping[str, Any], classes: Mapping[str, type]) -> dict[int, tuple[Any, ...]]:
    """Run all nodes; their outputs by the nodes' numbers.

    Raises:
        AssertionError: if the workflow and the nodes don't go together.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    done: dict[int, tuple[Any, ...]] = {}

    def run(number: int) -> tuple[Any, ...]:
        if number not in done:
            node = nodes[number]
            kind: Any = classes[node["type"]]
            values = _widgets(node, kind)
            for place in node.get("inputs", []):
                if place.get("link") is not None:
                    _, source, output, target, _, passed = links[place["link"]]
                    assert target == number
                    given = classes[nodes[source]["type"]].RETURN_TYPES[output]  # type: ignore[attr-defined]
                    assert given == passed == _types(kind)[place["name"]][0]
                    values[place["name"]] = run(source)[output]
            missing = set(kind.INPUT_TYPES()["required"]) - set(values)
            assert not missing, f"{node['type']} lacks {missing}"
            outputs = getattr(kind(), kind.FUNCTION)(**values)
            assert len(outputs) == len(kind.RETURN_TYPES)
            done[number] = outputs
        return done[number]

    for number in nodes:
        run(number)
    return done


def _types(kind: Any) -> dict[str, Any]:
    known = kind.INPUT_TYPES()
    return {**known["required"], **known.get("optional", {})}


def _widgets(node: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Values of the widgets; those of linked inputs are replaced later."""
    waiting, values = list(node.get("widgets_values", [])), {}
    for name, (form, *_) in _types(kind).items():
        if not isinstance(form, list) and form not in _WIDGETS:
            continue
        value = waiting.pop(0)
        assert value in form if isinstance(form, list) else isinstance(value, _WIDGETS[form]), (node["type"], name)
        values[name] = value
        if name == "seed" and waiting and waiting[0] in _AFTER_SEED:
            waiting.pop(0)
    assert waiting == [], f"{node['type']} has widgets too many: {waiting}"
    return values


def without_comfy() -> bool:
    """Whether no real ComfyUI is there."""
    return "comfy" not in sys.modules
