"""How much memory a video will take, before it is made.

The model is run on tensors that have shapes but no data, and what it would allocate is counted.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from anytalker.denoising.denoiser import CONTEXT_BUDGET
from anytalker.denoising.windows import plan_windows
from anytalker.doctor.allocations import AllocationCounter
from anytalker.hardware.placement import STREAMED, Placement
from anytalker.models.audio_face_attention import Streams
from anytalker.models.face_regions import FaceRegions
from anytalker.models.latents import CHUNK
from anytalker.models.precision import stays_float32
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import WHOLE_LAYERS, AnyTalkerTransformer3DModel, TransformerContext
from anytalker.models.upscaler import SCALE

_SIMULATED: dict[tuple[str, str, str], Any] = {}
_SIMULATING = threading.Lock()
_SIMULATED_LAYERS = 2
_DECODED = 3
"""Latent frames that are decoded to see what more of them take: Wan's autoencoder decodes one after another."""
_FACE_SHARE = 3
_COPIES = 3
"""Copies of a chunk of frames on their way from the autoencoder to the encoder of the file."""
_ENCODER_LAYERS = 4
"""An encoder's largest layer, its embedding, is less than one part in so many of its weights."""
_AHEAD = 2
"""Layers on the device at a time where weights are streamed: the one that computes and the next."""
_BLOCKS_AHEAD = 5
"""The same for the transformer's blocks, which are done before their memory is freed; 5.9 measured with the 14B."""
_LATENT_COPIES = 6
"""Tensors of the latents' size while denoising: latents, velocity, its weighted sum, the history of the sampler."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that making a video takes on its device.

    Attributes:
        weights: of each part.
        layer: of the largest layer of each part, for parts that come layer by layer.
        placement: what is on the device at a time.
        context: keys and values that are kept between denoising steps.
        denoising: what a denoising step takes besides.
        decoding: what a chunk of frames takes while it is decoded.
        latents: of the whole video with noise and conditioning.
        rest: the process and its libraries, or the GPU's.
    """

    weights: dict[str, int]
    layer: dict[str, int]
    placement: Placement
    context: int
    denoising: int
    decoding: int
    latents: int
    rest: int

    @property
    def peak(self) -> int:
        """Most that is needed at any moment."""
        denoising = self.context + self.denoising
        return (
            self.rest
            + self.latents
            + max(
                self._resident("text encoder"),
                self._resident("image encoder"),
                self._resident("transformer") + denoising,
                self._resident("vae") + self.decoding,
            )
        )

    @property
    def resident(self) -> int:
        """Most weights that are on the device at any moment."""
        return max(map(self._resident, self.weights))

    def _resident(self, working: str) -> int:
        """Bytes of weights on the device while one part works."""
        if self.placement.memory == "high":
            return sum(self.weights.values())
        if self.placement.memory == "balanced":
            return self.weights.get(working, 0) + (self.weights["vae"] if working == "transformer" else 0)
        staying = sum(size for name, size in self.weights.items() if name.replace(" ", "_") not in STREAMED)
        ahead = _BLOCKS_AHEAD if working == "transformer" else _AHEAD
        return staying + min(ahead * self.layer.get(working, 0), self.weights.get(working, 0))

    @property
    def reason(self) -> str:
        """What takes most of it."""
        kept = self.weights if self.placement.memory != "low" else self.layer
        parts = {f"the weights of the {name}": size for name, size in kept.items()}
        parts |= {"keys and values": self.context, "a denoising step": self.denoising, "decoding": self.decoding}
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class ModelShape:
    """What a plan needs to know of a model: configurations of transformer and autoencoder, settings, other weights.

    `vae` holds "_class_name"; `others` bytes of the other parts' weights.
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    settings: PipelineSettings
    others: dict[str, int]


def plan_memory(
    shape: ModelShape,
    size: tuple[int, int],
    frames: int,
    people: int,
    dtype: torch.dtype,
    rest: int,
    batched: bool = False,
    placement: Placement = Placement(),
    workspace: float = 1.0,
) -> MemoryPlan:
    """The memory of one video.

    Args:
        shape: of the model.
        size: (width, height) of the video in pixels.
        frames: of the video.
        people: people in it.
        dtype: of the transformer.
        rest: bytes that the process or the GPU takes without any model.
        batched: both branches of guidance at once.
        placement: what is on the device at a time, and how the transformer's weights are kept.
        workspace: what decoding takes on the device, times what its tensors take.
    """
    settings, latent_frames = shape.settings, (frames - 1) // 4 + 1
    rows, columns = size[1] // 16, size[0] // 16
    windows = plan_windows(latent_frames, settings.window, settings.window_overlap)
    window_frames = 1 + max(window.stop - window.start for window in windows)
    active_windows = min(len(windows), settings.num_inference_steps + 1)
    layers = int(complete_config(shape.transformer)["num_layers"])
    branches = 1 if settings.guidance_scale == 1 else 2
    batch = branches if batched else 1
    step, context = _once(simulate_step, shape.transformer, (window_frames, rows, columns), people, dtype, batch)
    contexts = context * (branches // batch) * active_windows
    if placement.memory == "low":  # keys and values are made anew, of one block at a time
        step, contexts = step + context // layers, 0
    elif contexts > CONTEXT_BUDGET:  # what is beyond the budget is made anew, for one window at a time
        step, contexts = step + context, CONTEXT_BUDGET
    decoding = _once(simulate_decoding, shape.vae, (min(latent_frames, CHUNK), rows, columns))
    return replace(
        plan_weights(shape, dtype, rest, placement),
        context=contexts,
        denoising=step,
        decoding=int(workspace * decoding),
        latents=_latent_bytes(latent_frames, active_windows * window_frames, (rows, columns)),
    )


def plan_weights(shape: ModelShape, dtype: torch.dtype, rest: int, placement: Placement = Placement()) -> MemoryPlan:
    """The memory of a model that computes nothing, which is the least that any video of it takes."""
    transformer = _once(transformer_bytes, shape.transformer, dtype, Placement(weights=placement.weights))
    layers = int(complete_config(shape.transformer)["num_layers"])
    others = {name: size // _ENCODER_LAYERS for name, size in shape.others.items()}
    return MemoryPlan(
        weights={"transformer": transformer} | shape.others,
        layer={"transformer": transformer // layers} | others,
        placement=placement,
        context=0,
        denoising=0,
        decoding=0,
        latents=0,
        rest=rest,
    )


def _latent_bytes(latent_frames: int, active_frames: int, grid: tuple[int, int]) -> int:
    """Bytes of latents being denoised, and of mask and condition of a chunk; four latents a token, float32."""
    channels = 16 * _LATENT_COPIES * min(latent_frames, active_frames) + 20 * min(latent_frames, CHUNK)
    return 4 * 4 * grid[0] * grid[1] * channels


def _once(simulate: Callable[..., Any], config: Mapping[str, Any], *arguments: Any) -> Any:
    """The result of a simulation, run once for the same arguments: advice compares many plans."""
    key = (simulate.__name__, repr(sorted(config.items())), repr(arguments))
    with _SIMULATING:  # by one thread at a time, as the default type of tensors is that of the whole process
        if key not in _SIMULATED:
            _SIMULATED[key] = simulate(config, *arguments)
        return _SIMULATED[key]


def transformer_bytes(config: Mapping[str, Any], dtype: torch.dtype, placement: Placement = Placement()) -> int:
    """Bytes of a transformer's weights; some stay in float32, matrices of blocks may be 8-bit."""
    eight_bit = placement.weights != "full"
    values = complete_config(config)

    def bytes_a_value(key: str, tensor: torch.Tensor) -> int:
        if stays_float32(key):
            return 4
        is_block_matrix = key.startswith("blocks.") and tensor.ndim == 2 and re.search(WHOLE_LAYERS, key) is None
        return 1 if eight_bit and is_block_matrix else dtype.itemsize

    def size(layers: int) -> int:
        with torch.device("meta"):
            model = AnyTalkerTransformer3DModel(**values | {"num_layers": layers})
        return sum(tensor.numel() * bytes_a_value(key, tensor) for key, tensor in model.state_dict().items())

    first, second = size(1), size(2)
    return first + (values["num_layers"] - 1) * (second - first)


def simulate_step(
    config: Mapping[str, Any], grid: tuple[int, int, int], people: int, dtype: torch.dtype, batch: int = 1
) -> tuple[int, int]:
    """Bytes that a denoising step allocates at its peak, and bytes of the context of one batch.

    Args:
        config: of the transformer.
        grid: latent frames, and token rows and columns.
        people: people, each with a face as wide as a third of the picture's height.
        dtype: of the weights.
        batch: branches of guidance in one batch.
    """
    frames, height, width = grid
    values = complete_config(config)
    layers = values["num_layers"]
    regions = assumed_regions(people, grid, batch).without_data()
    with without_data(dtype):
        model = AnyTalkerTransformer3DModel(**values | {"num_layers": min(layers, _SIMULATED_LAYERS)}).eval()
        dim = values["num_attention_heads"] * values["attention_head_dim"]
        audio_frames = 4 * (frames - 1) + 1 if values["audio_face_layout"] == "A" else frames
        audio_dim = dim if values["audio_face_layout"] == "A" else values["audio_dim"]
        streams = Streams(
            torch.empty(batch, values["text_len"], dim),
            torch.empty(batch, 257, dim),
            torch.empty(batch, people, 257, dim),
            torch.empty(batch, people, audio_frames, values["audio_tokens"], audio_dim),
        )
        blocks: list[Any] = list(model.blocks)
        context = TransformerContext(tuple(block.context(streams) for block in blocks), regions)
        hidden_states = torch.empty(batch, values["in_channels"], frames, 2 * height, 2 * width, dtype=torch.float32)
        with AllocationCounter() as counter:
            model(hidden_states, torch.full((batch,), 500.0), context=context)
        return counter.peak, context.nbytes * layers // len(blocks)


def simulate_decoding(config: Mapping[str, Any], grid: tuple[int, int, int]) -> int:
    """Bytes that decoding allocates at its peak, for latent frames, token rows and columns; float32."""
    frames, height, width = grid
    further = 0
    name = config.get("_class_name", "AutoencoderKLWan")
    own = {key: value for key, value in config.items() if not key.startswith("_")}
    with without_data(torch.float32):
        vae: Any
        if name == "MiniatureAutoencoder":
            from anytalker.models.autoencoder import MiniatureAutoencoder

            vae = MiniatureAutoencoder(**own).eval()
        else:
            from diffusers import AutoencoderKLWan

            vae = AutoencoderKLWan(**own).eval()
            further = max(0, frames - _DECODED)
        latents = torch.empty(1, 16, frames - further, 2 * height, 2 * width)
        with AllocationCounter() as counter:
            pixels = vae.decode(latents).sample
        added = (1 + _COPIES) * 4 * pixels[:, :, 0].nbytes + latents[:, :, 0].nbytes
        enlarged = SCALE**2 if getattr(vae, "upscaler", None) is not None else 1
        return counter.peak + _COPIES * pixels.nbytes * enlarged + further * added


@contextmanager
def without_data(dtype: torch.dtype, gradients: bool = False) -> Iterator[None]:
    """Context in which new tensors have shapes but no data; floating point ones have type `dtype` by default."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"), _attention_of_the_cpu(), torch.set_grad_enabled(gradients):
            yield
    finally:
        torch.set_default_dtype(default)


@contextmanager
def _attention_of_the_cpu() -> Iterator[None]:
    """Context in which attention without data keeps no matrix of all pairs, as on every device with data.

    A `TorchFunctionMode` would be off where checkpointed blocks run again in the backward pass.
    """
    functional: Any = torch.nn.functional
    real = functional.scaled_dot_product_attention

    @functools.wraps(real)
    def attend(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **others: Any,
    ) -> torch.Tensor:
        if not query.is_meta:
            return real(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **others)
        attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return attention(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]

    functional.scaled_dot_product_attention = attend
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = real


def assumed_regions(people: int, grid: tuple[int, int, int], batch: int, multiple: int = 1) -> FaceRegions:
    """Places of people whose faces are as wide as a third of the picture's height; `multiple` as for `FaceRegions`."""
    frames, height, width = grid
    side = max(1, height // _FACE_SHARE)
    masks = torch.zeros(batch, people, frames, height, width)
    for person in range(people):
        left = person * max(0, width - side) // max(1, people - 1)
        masks[:, person, :, :side, left : left + side] = 1
    return FaceRegions(masks, multiple)


def complete_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A transformer's configuration with the defaults of all values that it leaves out."""
    import inspect

    parameters = inspect.signature(AnyTalkerTransformer3DModel.__init__).parameters
    defaults = {name: value.default for name, value in parameters.items() if name != "self"}
    return defaults | {name: value for name, value in config.items() if name in defaults}
