"""What a training run will take, before anything is loaded: memory, disk, arithmetic, time.

One step is run on tensors that have shapes but no data, and what it would allocate and compute is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from anytalker.doctor.allocations import AllocationCounter
from anytalker.doctor.memory import assumed_regions, complete_config, without_data
from anytalker.doctor.report import GPU_REST
from anytalker.errors import InputError
from anytalker.models.audio_face_attention import Streams
from anytalker.models.face_regions import FaceRegions
from anytalker.models.transformer import TRAINED_PLACES, AnyTalkerTransformer3DModel, TransformerContext
from anytalker.training.adapters import add_adapter
from anytalker.training.config import TrainingConfig
from anytalker.training.losses import flow_matching_loss
from anytalker.training.model import TrainedModel
from anytalker.training.run_shape import BatchKind, TrainingShape

_SIMULATED_LAYERS = 3
"""Blocks that are run, and one less: every further one adds as much as the last of them."""
_GATHERED_BLOCKS = 2
"""Blocks whose shards are gathered at a time: the one that computes and the next."""
_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class RunEstimate:
    """What a run takes.

    Attributes:
        trained, frozen: parameters of transformer and image encoder.
        processes: that share the run.
        groups: of clips that each of them runs in a step.
        sharded: whether weights and optimizer are shared out among them.
        kinds: of batches.
        states: bytes that a process keeps from step to step, by what they are.
        computing: bytes that forward and backward take besides, by what they are.
        updating: bytes that the optimizer's step takes in their place.
        rest: bytes that a GPU takes without any model.
        checkpoint: bytes of one checkpoint.
        clips: of a step.
        flops: floating point operations of an average step of all processes, a multiplication and an addition being
            two, and what gradient checkpointing computes again counted.
        steps: of the run.
    """

    trained: int
    frozen: int
    processes: int
    groups: int
    sharded: bool
    kinds: tuple[BatchKind, ...]
    states: dict[str, int]
    computing: dict[str, int]
    updating: int
    rest: int
    checkpoint: int
    clips: int
    flops: float
    steps: int

    @property
    def peak(self) -> int:
        """Most bytes that a process needs at any moment."""
        return self.rest + sum(self.states.values()) + max(sum(self.computing.values()), self.updating)

    def hours(self, tflops: float) -> float:
        """Hours of the whole run where every process computes so many 10¹² operations a second."""
        return self.steps * self.flops / (tflops * 1e12 * self.processes) / 3600


def estimate_run(
    config: TrainingConfig, shape: TrainingShape, kinds: list[BatchKind], processes: int = 1
) -> RunEstimate:
    """Count what a run takes; nothing of the model or of the shards is read.

    Activations are counted with weights in the working precision, as FSDP2's mixed precision has them; faces are as
    wide as a third of the picture's height.

    Args:
        config: the run.
        shape: of its model.
        kinds: of its batches, from `run_shape.batch_kinds`.
        processes: that share the run.

    Raises:
        InputError: if they can't share its groups evenly, or `lora.layers` names no layer.
    """
    if config.groups % processes:
        raise InputError(
            f"groups is {config.groups}, which {processes} processes can't share evenly; make it a multiple."
        )
    groups = config.groups // processes
    with torch.device("meta"):
        model = _build(config, shape, None)
    sharded = config.fsdp and processes > 1
    values = list(model.parameters())
    trained = _numbers(_trained(values))
    share = processes if sharded else 1
    states = {
        "weights": math.ceil(sum(value.nbytes for value in values) / share),
        "gradients": math.ceil(4 * trained / share),
        "optimizer": math.ceil(8 * trained / share),
        "averages": math.ceil(4 * trained / share),
    }
    if processes > 1 and not sharded:
        states["gradient buckets"] = 4 * trained
    steps = simulate_steps(config, shape, [kind for kind in dict.fromkeys(kinds) if kind.chance > 0])
    flops = sum(kind.chance * steps[kind][0] for kind in kinds if kind.chance > 0)
    computing = {"activations": max(memory for _, memory in steps.values())}
    return RunEstimate(
        trained=trained,
        frozen=_numbers(values) - trained,
        processes=processes,
        groups=groups,
        sharded=sharded,
        kinds=tuple(kinds),
        states=states,
        computing=computing | _working_copies(config, model, sharded),
        updating=math.ceil(4 * trained / share),
        rest=GPU_REST,
        checkpoint=16 * trained,
        clips=config.groups * config.batch_size,
        flops=flops * config.groups,
        steps=config.steps,
    )


def _build(config: TrainingConfig, shape: TrainingShape, layers: int | None) -> TrainedModel:
    """The trained model with all its layers, or so many of the transformer's."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    values = complete_config(shape.transformer)
    transformer = AnyTalkerTransformer3DModel(**values | {"num_layers": layers or values["num_layers"]})
    if config.lora:
        add_adapter(transformer, config.lora, half=config.precision == "bf16")
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    known = {key: value for key, value in shape.image_encoder.items() if key not in ("dtype", "torch_dtype")}
    image_encoder = CLIPVisionModel(CLIPVisionConfig(**known))
    return TrainedModel(transformer, image_encoder, config.train_image_encoder).train()


def _working_copies(config: TrainingConfig, model: TrainedModel, sharded: bool) -> dict[str, int]:
    """Bytes of weights and gradients that forward and backward make besides those that are kept."""
    width = 2 if config.precision == "bf16" else 4
    if not sharded:
        matrices = [value for value in model.parameters() if value.requires_grad and value.ndim > 1]
        return {"weights in bf16": 2 * _numbers(matrices)} if width == 2 else {}
    blocks: list[Any] = list(model.transformer.blocks)
    inside = [list(block.parameters()) for block in blocks]
    block, trained_block = max(map(_numbers, inside)), max(_numbers(_trained(values)) for values in inside)
    outside = _numbers(model.parameters()) - sum(map(_numbers, inside))
    trained_outside = _numbers(_trained(model.parameters())) - sum(_numbers(_trained(values)) for values in inside)
    to_share = width * (trained_outside + trained_block) + 4 * trained_block
    gathered = width * (outside + min(_GATHERED_BLOCKS, len(blocks)) * block)
    return {"gathered weights": gathered, "gradients to share": to_share}


def _numbers(values: Iterable[torch.Tensor]) -> int:
    return sum(value.numel() for value in values)


def _trained(values: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [value for value in values if value.requires_grad]


def simulate_steps(
    config: TrainingConfig, shape: TrainingShape, kinds: Sequence[BatchKind]
) -> dict[BatchKind, tuple[int, int]]:
    """For each kind of batch, what forward and backward of one group take.

    Returns:
        Floating point operations, and peak bytes without weights and gradients.
    """
    values = complete_config(shape.transformer)
    layers = int(values["num_layers"])
    regions = {
        kind: assumed_regions(
            kind.people, (kind.frames, kind.rows // 2, kind.columns // 2), kind.scenes, TRAINED_PLACES
        ).without_data()
        for kind in kinds
    }
    runs: dict[BatchKind, list[tuple[int, int]]] = {kind: [] for kind in kinds}
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    with torch.device("meta"):
        model = _build(config, shape, min(layers, _SIMULATED_LAYERS))
    with without_data(dtype, gradients=True):
        _fill(model, dtype)
        for value in model.parameters():
            if value.requires_grad:
                value.register_post_accumulate_grad_hook(_forget_gradient)
        for kind in kinds:
            runs[kind].append(_run(model, values, kind, regions[kind]))
        if layers > _SIMULATED_LAYERS:
            blocks: Any = model.transformer.blocks
            del blocks[-1]
            for kind in kinds:
                runs[kind].append(_run(model, values, kind, regions[kind]))
    more = max(0, layers - _SIMULATED_LAYERS)
    return {
        kind: (many[0] + more * (many[0] - few[0]), many[1] + more * (many[1] - few[1]))
        for kind, (many, *fewer) in runs.items()
        for few in (fewer or [many])
    }


def _fill(model: torch.nn.Module, dtype: torch.dtype) -> None:
    """Give a model of the meta device tensors of this one, its weights in another type."""
    for module in model.modules():
        for name, value in module.named_parameters(recurse=False):
            made = torch.empty(value.shape, dtype=dtype)
            setattr(module, name, torch.nn.Parameter(made, requires_grad=value.requires_grad))
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _run(model: TrainedModel, values: Mapping[str, Any], kind: BatchKind, regions: FaceRegions) -> tuple[int, int]:
    with _StepCounter() as counter:
        _forward(model, values, kind, regions).backward()
    return counter.flops, counter.peak


def _forget_gradient(value: torch.Tensor) -> None:
    value.grad = None


def _forward(model: TrainedModel, values: Mapping[str, Any], kind: BatchKind, regions: FaceRegions) -> torch.Tensor:
    """The loss of a batch; its tokens are made here, as what the model looks up of them needs data."""
    transformer: Any = model.transformer
    image_encoder: Any = model.image_encoder
    scenes, people = kind.scenes, kind.people
    size = image_encoder.config.image_size
    with torch.set_grad_enabled(model.train_image_encoder):
        pixels = torch.empty(scenes * (1 + people), 3, size, size)
        states = image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
    heard = [values[f"audio_{key}"] for key in ("window", "blocks", "channels")]
    streams = Streams(
        transformer.condition_embedder.text_embedder(torch.empty(scenes, values["text_len"], values["text_dim"])),
        transformer.condition_embedder.image_embedder(states[:scenes]),
        transformer.face_embedder(states[scenes:]).unflatten(0, (scenes, people)),
        transformer.audio_embedder(torch.empty(scenes, people, 4 * kind.frames - 3, *heard)),
    )
    place = (kind.frames, kind.rows, kind.columns)
    latents = torch.empty(scenes, values["out_channels"], *place, dtype=torch.float32)
    given = torch.empty(scenes, values["in_channels"], *place, dtype=torch.float32)
    context = TransformerContext((streams,) * len(transformer.blocks), regions)  # type: ignore[arg-type]
    velocity = transformer(given, torch.full((scenes,), 500.0), context=context, return_dict=False)[0]
    weights = torch.ones(scenes, 1, 1, *place[1:], dtype=torch.float32)
    return flow_matching_loss(velocity, latents, torch.empty_like(latents), torch.ones(scenes), weights)


class _StepCounter(AllocationCounter):
    """Counts the operations of matrices, convolutions and attention, too, as `torch.utils.flop_counter` does."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = super().__torch_dispatch__(function, types, args, kwargs)
        packet = function._overloadpacket
        if packet is _ATTENTION:
            self.flops += sdpa_flop_count(*(tensor.shape for tensor in args[:3]))
        elif packet is _ATTENTION_BACKWARD:
            self.flops += sdpa_backward_flop_count(*(tensor.shape for tensor in args[:4]))
        elif packet in flop_registry:
            self.flops += flop_registry[packet](*args, **(kwargs or {}), out_val=made)
        return made
