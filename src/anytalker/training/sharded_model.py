"""FSDP2: a model that no process ever holds whole, from its files to its export."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.training_utils import EMAModel
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from anytalker.checkpoints.tensors import Checkpoint
from anytalker.errors import InputError
from anytalker.loading.found import FoundModel
from anytalker.loading.part_loaders import transformer_config
from anytalker.models.digest import TensorDigest
from anytalker.models.precision import stays_float32
from anytalker.models.release_names import Names, problems_of
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.training.model import TrainedModel

Read = Callable[[str], torch.Tensor]


def empty_transformer(found: FoundModel) -> AnyTalkerTransformer3DModel:
    """A model's transformer without weights (on the meta device); rotary positions, which are none, are there."""
    config = {name: value for name, value in transformer_config(found).items() if not name.startswith("_")}
    with init_empty_weights(include_buffers=False):
        return AnyTalkerTransformer3DModel(**config)


@contextmanager
def transformer_reader(found: FoundModel, model: AnyTalkerTransformer3DModel) -> Iterator[Read]:
    """What reads the tensors of a model's transformer from its files one by one, by our names.

    Args:
        found: the model.
        model: its transformer, which may be empty.

    Raises:
        InputError: if a tensor is missing, unexpected or of the wrong shape, or the files are damaged.
    """
    with Checkpoint(found.parts["transformer"]) as checkpoint:
        keys = {key: key for key in checkpoint}
        if found.config is not None:
            names = Names(model.config.audio_face_layout)
            keys = {names.ours(key) or key: key for key in checkpoint}
        given = {name: checkpoint.shapes[key] for name, key in keys.items()}
        wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        if problems := problems_of(given, wanted):
            raise InputError(
                f"The transformer in {found.parts['transformer']} doesn't fit its configuration: {problems}."
            )
        yield lambda name: checkpoint[keys[name]]


def shard(model: TrainedModel, half: bool) -> None:
    """Share a model out over all processes: each block is gathered for its turn only (`fully_shard`).

    Args:
        model: still empty; `fill` comes next.
        half: compute in bfloat16, with weights, their gradients' sums and what `stays_float32` names in float32. The
            last are vectors of the blocks; they are held whole by every process (0.02 % of the 14B), as a group that
            is gathered together has one type. See `sum_gradients`.
    """
    exact = MixedPrecisionPolicy(cast_forward_inputs=False)
    policy, whole = exact, set()
    transformer: Any = model.transformer
    if half:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        embedder = transformer.condition_embedder
        fully_shard(embedder.time_embedder, mp_policy=exact)
        fully_shard(embedder.time_proj, mp_policy=exact)
        alone = {*embedder.time_embedder.parameters(), *embedder.time_proj.parameters()}
        whole = {value for name, value in transformer.named_parameters() if stays_float32(name)} - alone
    for block in transformer.blocks:
        fully_shard(block, mp_policy=policy, ignored_params=whole)
    for piece in _pieces(model.image_encoder):
        fully_shard(piece, mp_policy=exact)
    fully_shard(model, mp_policy=policy, ignored_params=whole)


def _pieces(encoder: nn.Module) -> Iterator[nn.Module]:
    """Layers of an encoder of transformers, and what is around them; the library knows the encoder by its class."""
    for child in encoder.children():
        if any(isinstance(module, (nn.ModuleList, PreTrainedModel)) for module in child.modules()):
            yield from _pieces(child)
        elif any(True for _ in child.parameters()):
            yield child


def fill(model: nn.Module, read: Read | None, device: torch.device) -> dict[str, str]:
    """Give a sharded model its weights in float32: the main process reads tensor by tensor, and each gets its part.

    Args:
        model: empty but for its buffers.
        read: what reads a tensor by its name, on the main process; None on the others.
        device: of the parts.

    Returns:
        On the main process the `weights_digest` of each child of the model; nothing on the others.
    """
    buffers = dict(model.named_buffers())
    model.to_empty(device=device)
    digests: dict[str, TensorDigest] = {}
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        for name, value in model.named_parameters():
            if read is None:
                tensor = torch.empty(value.shape, device=device)
            else:
                tensor = read(name).float()
                child, _, rest = name.partition(".")
                digests.setdefault(child, TensorDigest()).add(rest, tensor)
                tensor = tensor.to(device)
            if isinstance(value, DTensor):
                part = distribute_tensor(tensor, value.device_mesh, value.placements)
                value.to_local().copy_(part.to_local())
            else:
                distributed.broadcast(tensor, 0)
                value.copy_(tensor)
    return {child: str(digest) for child, digest in digests.items()}


def gathered(tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Whole tensors on the CPU, one by one; every process must go through them alike."""
    for name, value in tensors:
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        yield name, whole.detach().cpu()


class ShardedAdamW(torch.optim.AdamW):
    """AdamW of sharded weights: each process steps with its own part, without a detour by DTensor for every operation.

    Its state is sharded like the weights.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[torch.Tensor]) -> Any:
        found = super()._init_group(group, *lists)  # type: ignore[call-arg]
        for values in lists:
            values[:] = map(_own, values)
        return found


class ShardedAverage(EMAModel):
    """The moving average of sharded weights; see `ShardedAdamW`."""

    shadow_params: list[torch.Tensor]

    def step(self, parameters: Iterable[torch.Tensor]) -> None:
        """Take in the weights, all of them trained."""
        shards = self.shadow_params
        self.shadow_params = [_own(value) for value in shards]
        super().step(_own(value).requires_grad_() for value in parameters)
        self.shadow_params = shards


def _own(value: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, in the same memory."""
    return (value.to_local() if isinstance(value, DTensor) else value).detach()


def sum_gradients(parameters: Sequence[torch.Tensor]) -> None:
    """Average the gradients of what every process holds whole; FSDP does it for the rest."""
    whole = [value.grad for value in parameters if value.grad is not None and not isinstance(value, DTensor)]
    if whole and distributed.is_initialized():
        joined = torch.cat([gradient.flatten() for gradient in whole])
        distributed.all_reduce(joined)
        joined /= distributed.get_world_size()
        for gradient, mean in zip(whole, joined.split([gradient.numel() for gradient in whole]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def clip_gradients(parameters: Sequence[torch.Tensor], limit: float) -> float:
    """Scale all gradients down to the norm `limit` if theirs, which is returned, is greater."""
    gradients = [value.grad for value in parameters if value.grad is not None]
    sharded = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    whole = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    device = gradients[0].device
    squares = _square(sharded, device)
    if sharded:
        distributed.all_reduce(squares)
    norm = (squares + _square(whole, device)).sqrt()
    torch._foreach_mul_([*sharded, *whole], torch.clamp(limit / (norm + 1e-6), max=1.0))
    return float(norm)


def _square(gradients: Sequence[torch.Tensor], device: torch.device) -> torch.Tensor:
    if not gradients:
        return torch.zeros((), device=device)
    return torch.stack(torch._foreach_norm(list(gradients))).square().sum()
