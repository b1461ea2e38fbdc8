"""Where stage 1 begins: a Wan image-to-video transformer, and audio-face layers that add nothing to it yet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from anytalker.checkpoints.tensors import WEIGHTS_NAME, Checkpoint, write_shards
from anytalker.errors import InputError
from anytalker.files import make_folder
from anytalker.models.release_names import Names, problems_of
from anytalker.models.transformer import AnyTalkerTransformer3DModel

_NEW = re.compile(r"^(audio|face)_embedder\.|\.(norm_people|attn_people|attn2\.(norm_)?(audio|face)_?\w*)\.")
_SILENT = re.compile(r"\.(attn2\.(audio|face)_v_proj|attn_people\.to_out)$")


def is_audio_face(name: str) -> bool:
    """Whether one of our tensors belongs to the audio-face layers, which Wan does not have."""
    return _NEW.search(name) is not None


def write_start(source: Path, config: Mapping[str, Any], destination: Path, seed: int = 0) -> int:
    """Write the transformer that stage 1 starts from, one tensor at a time.

    What Wan has is taken as it stands. The face projector starts as a copy of the picture's, which reads the same
    encoder; everything else of audio and faces is drawn anew, with zeros where it meets the video. So what is heard
    changes nothing yet, and in layout A the first videos are Wan's own (in layout B, the attention to text also reads
    the picture, as in the release).

    Args:
        source: a Wan image-to-video transformer, of Diffusers or the original, or an AnyTalker transformer of ours,
            whose audio-face layers are then left behind; see `Checkpoint`.
        config: of the `AnyTalkerTransformer3DModel` to make, of the same size as the source.
        destination: folder for our model.
        seed: of the new layers.

    Returns:
        How many tensors are new.

    Raises:
        InputError: for a damaged source, or one that lacks tensors, has others or has them in another size.
    """
    with torch.device("meta"):
        model = AnyTalkerTransformer3DModel(**config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = Names(model.config.audio_face_layout)
    with Checkpoint(source) as checkpoint:
        ours = {key: _our_name(key, names) for key in checkpoint}
        found = {name: key for key, name in ours.items() if not is_audio_face(name)}
        shapes = {name: checkpoint.shapes[key] for name, key in found.items()}
        kept = {name: shape for name, shape in wanted.items() if not is_audio_face(name)}
        if problems := problems_of(shapes, kept):
            raise InputError(
                f"{checkpoint.path} is no Wan image-to-video transformer of this size: tensors {problems}."
            )
        make_folder(destination)
        model.save_config(destination)

        def tensors() -> Iterator[tuple[str, torch.Tensor]]:
            for name, key in found.items():
                tensor = checkpoint[key]
                yield name, tensor
                if name.startswith("condition_embedder.image_embedder."):
                    yield name.replace("condition_embedder.image_embedder", "face_embedder"), tensor.clone()
            for name, tensor in _new_tensors(model, seed):
                yield name, tensor.to(dtype)

        dtype = checkpoint[found["blocks.0.attn1.to_q.weight"]].dtype
        write_shards(tensors(), destination, WEIGHTS_NAME)
    return len(wanted) - len(kept)


def _our_name(key: str, names: Names) -> str:
    """Our name of a tensor of Diffusers' Wan, of the original, or of ours."""
    return names.ours(key) or key.replace(".to_out.0.", ".to_out.")


def _new_tensors(model: torch.nn.Module, seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Initial tensors of the new layers, except the face projector's, layer by layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for path, layer in model.named_modules():
            own = [name for name, _ in layer.named_parameters(recurse=False)]
            if not own or not is_audio_face(f"{path}.") or path.startswith("face_embedder."):
                continue
            layer.to_empty(device="cpu")
            layer.reset_parameters()  # type: ignore[operator]
            for name in own:
                tensor = getattr(layer, name).detach()
                yield f"{path}.{name}", torch.zeros_like(tensor) if _SILENT.search(path) else tensor
            layer.to("meta")
