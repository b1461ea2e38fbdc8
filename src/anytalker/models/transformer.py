"""AnyTalkerTransformer3DModel: Wan 2.1's image-to-video transformer with Audio-Face Cross Attention."""

# Long because a model is read in one file: small modules first, the model last.

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.hooks import HookRegistry
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.loaders import PeftAdapterMixin
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from diffusers.models.attention import FeedForward
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import (
    WanImageEmbedding,
    WanRotaryPosEmbed,
    WanTimeTextImageEmbedding,
)
from torch import nn

from anytalker.errors import InputError
from anytalker.models.attention_backends import check_attention_backend
from anytalker.models.audio_face_attention import (
    AudioFaceCrossAttention,
    BlockContext,
    PeopleCrossAttention,
    Streams,
    TextImageCrossAttention,
    check_backend,
)
from anytalker.models.audio_projection import AudioProjection, LatentAudioProjection
from anytalker.models.context_parallel import (
    RowsOfAllDevices,
    RowsOfThisDevice,
    join_latents,
    share_rows,
    split_latents,
    split_rotary,
)
from anytalker.models.face_regions import FaceRegions, people_present
from anytalker.models.precision import FLOAT32_MODULES
from anytalker.models.single_file import load_single_file

Rotary = tuple[torch.Tensor, torch.Tensor]
Layout = Literal["A", "B"]

WHOLE_LAYERS = r"attn_people\.to_out"
"""Pattern of the blocks' layers whose weights must stay as they are."""

CACHES = ("FirstBlockCacheConfig", "MagCacheConfig", "TaylorSeerCacheConfig")
CACHED_LAYERS = r"blocks\.\d+\.(attn1|attn2|ffn)"
"""Pattern of the layers whose outputs TaylorSeer extrapolates."""

TRAINED_PLACES = 32
"""In training every batch has faces of other sizes; a compiled block sees them in steps of so many places."""


def apply_rotary(states: torch.Tensor, rotary: Rotary) -> torch.Tensor:
    """Turn neighbouring channels of (B, tokens, heads, d) by their position's angles (cosine, sine)."""
    cosine, sine = rotary[0][..., 0::2], rotary[1][..., 1::2]
    even, odd = states[..., 0::2], states[..., 1::2]
    turned = torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1)
    return turned.flatten(-2).type_as(states)


class SelfAttention(nn.Module):
    """Self attention of the video tokens, with rotary positions and norms over the whole width.

    Args:
        dim: width of the tokens.
        heads: attention heads.
        eps: of the norms.
    """

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.norm_q = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_k, self.norm_k = nn.Linear(dim, dim), nn.RMSNorm(dim, eps)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.Linear(dim, dim)
        self.backend: str | None = None
        self.parallel_config: Any = None

    def forward(self, hidden_states: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        """Attend within (B, tokens, dim)."""
        shape = (self.heads, -1)
        query = apply_rotary(self.norm_q(self.to_q(hidden_states)).unflatten(-1, shape), rotary)
        key = apply_rotary(self.norm_k(self.to_k(hidden_states)).unflatten(-1, shape), rotary)
        value = self.to_v(hidden_states).unflatten(-1, shape)
        attended = dispatch_attention_fn(
            query,
            key,
            value,
            backend=self.backend,  # type: ignore[arg-type]
            parallel_config=self.parallel_config,
        )
        return self.to_out(attended.flatten(2))


class AnyTalkerTransformerBlock(nn.Module):
    """Self attention, cross attention to text, picture and people, and feed-forward, modulated by the time step.

    Args:
        dim: width of the tokens.
        heads: attention heads.
        ffn_dim: inner width of the feed-forward.
        cross_attn_norm: whether the norm before the cross attention exists.
        eps: of the norms.
        audio_dim: for layout B, whose people have a cross attention of their own, width of the audio tokens; None:
            layout A.
    """

    def __init__(
        self, dim: int, heads: int, ffn_dim: int, cross_attn_norm: bool, eps: float, audio_dim: int | None = None
    ) -> None:
        super().__init__()
        self.norm1 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = SelfAttention(dim, heads, eps)
        self.norm2 = FP32LayerNorm(dim, eps) if cross_attn_norm else nn.Identity()
        self.attn2: TextImageCrossAttention
        self.attn_people: PeopleCrossAttention | None = None
        if audio_dim is None:
            self.attn2 = AudioFaceCrossAttention(dim, heads, eps)
        else:
            self.attn2 = TextImageCrossAttention(dim, heads, eps, text_sees_image=True)
            self.norm_people = FP32LayerNorm(dim, eps)
            self.attn_people = PeopleCrossAttention(dim, heads, audio_dim)
        self.norm3 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = FeedForward(dim, inner_dim=ffn_dim, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def context(self, streams: Streams) -> BlockContext:
        """Keys and values of everything that the video attends to."""
        if isinstance(self.attn2, AudioFaceCrossAttention):
            return self.attn2.context(streams)
        assert self.attn_people is not None
        return BlockContext(*self.attn2.text_and_image(streams), self.attn_people.people(streams))

    def forward(
        self,
        hidden_states: torch.Tensor,
        modulation: torch.Tensor,
        rotary: Rotary,
        context: Streams | BlockContext,
        regions: FaceRegions,
    ) -> torch.Tensor:
        """One block on (B, tokens, dim).

        Attention and feed-forward run in the precision of the context; the sum of their outputs, which goes from block
        to block, keeps that of `hidden_states`.

        Args:
            hidden_states: (B, tokens, dim).
            modulation: (B, 6, dim) of the time step: shift, scale and gate of self attention and of the feed-forward.
            rotary: cosines and sines of the tokens' positions.
            context: keys and values of text, picture and people; or their tokens, which are projected here.
            regions: where the people are.
        """
        if isinstance(context, Streams):
            context = self.context(context)
        table = (self.scale_shift_table + modulation.float()).unsqueeze(2)
        shift1, scale1, gate1, shift2, scale2, gate2 = table.unbind(1)
        sum_dtype, compute_dtype = hidden_states.dtype, context.text[1].dtype
        normed = (self.norm1(hidden_states.float()) * (1 + scale1) + shift1).to(compute_dtype)
        hidden_states = (hidden_states.float() + self.attn1(normed, rotary) * gate1).to(sum_dtype)
        normed = self.norm2(hidden_states).to(compute_dtype)
        if self.attn_people is None:
            hidden_states = hidden_states + self.attn2(normed, context, regions)
        else:
            hidden_states = hidden_states + self.attn2(normed, context)
            hidden_states = self.attn_people(hidden_states, self.norm_people, context.people, regions)
        normed = (self.norm3(hidden_states.float()) * (1 + scale2) + shift2).to(compute_dtype)
        return (hidden_states.float() + self.ffn(normed).float() * gate2).to(sum_dtype)


@dataclass(frozen=True)
class TransformerContext:
    """What the transformer computes once per window instead of at every denoising step; see `make_context`.

    `blocks`: keys and values of every block; `regions`: where the people are.
    """

    blocks: tuple[BlockContext, ...]
    regions: FaceRegions

    @property
    def nbytes(self) -> int:
        """Memory of all keys and values in bytes."""
        pairs = [pair for block in self.blocks for pair in (block.text, block.image, *block.people[:2])]
        return sum(tensor.nbytes for pair in pairs for tensor in pair)


def _people(tensor: torch.Tensor, present: list[int]) -> torch.Tensor:
    """The present people of (B, N, …); if all are present, nothing is indexed and so nothing copied to the device."""
    return tensor if len(present) == tensor.shape[1] else tensor[:, present]


class ConditionSkip:
    """Lets a model see and predict only how the video deviates from its condition latents.

    With sample = condition + deviation, noisy − (1 − σ)·condition is the noisy deviation, and its velocity is the
    video's plus the condition. Input and output are preconditioned for deviations of the given size (EDM, Karras et al.
    2022).

    Args:
        hidden_states: (B, in_channels, f, h, w): noisy latents first, condition latents last.
        timestep: (B,) in 0..1000.
        channels: of a latent.
        deviation: expected standard deviation of sample − condition.
    """

    def __init__(self, hidden_states: torch.Tensor, timestep: torch.Tensor, channels: int, deviation: float) -> None:
        sigma = (timestep / 1000).to(hidden_states.dtype).view(-1, 1, 1, 1, 1)
        self.condition = hidden_states[:, -channels:]
        self.noisy = hidden_states[:, :channels] - (1 - sigma) * self.condition
        variance = (1 - sigma) ** 2 * deviation**2 + sigma**2
        self.share = (sigma - (1 - sigma) * deviation**2) / variance
        self.scale = deviation / variance.sqrt()
        self.hidden_states = torch.cat([self.noisy / variance.sqrt(), hidden_states[:, channels:]], dim=1)

    def velocity(self, predicted: torch.Tensor) -> torch.Tensor:
        """The video's velocity from the model's output, both (B, channels, f, h, w)."""
        return self.share * self.noisy + self.scale * predicted - self.condition


class AnyTalkerTransformer3DModel(ModelMixin, ConfigMixin, PeftAdapterMixin, CacheMixin):
    """The video diffusion transformer (paper section 3; both layouts of the release). The defaults are the 1.3B's.

    Args:
        patch_size: latents a token in time, height and width; (1, 2, 2) alone is possible.
        num_attention_heads: heads.
        attention_head_dim: channels a head; the width is heads × channels.
        in_channels: 16 noisy latents, 4 mask channels, 16 condition latents.
        out_channels: channels of a latent.
        text_dim: channels of the text embeddings.
        text_len: tokens that text is padded to with zeros; the padding is attended.
        freq_dim: channels of the time step's sinusoid.
        ffn_dim: inner width of the feed-forward.
        num_layers: blocks.
        cross_attn_norm: whether there is a norm before the cross attention.
        eps: of the norms.
        image_dim: channels of the image encoder's states.
        audio_window, audio_blocks, audio_channels: shape of a video frame's audio features.
        audio_hidden_dim: width inside the audio projection.
        audio_tokens: audio tokens a video frame (layout A) or a latent frame (layout B).
        audio_face_layout: "A" or "B", see `anytalker.models.audio_face_attention`.
        audio_dim: width of the audio tokens in layout B; in layout A it is the transformer's.
        rope_max_seq_len: largest position in time, height or width.
        condition_skip: None (the release), or how far videos are expected to deviate from the condition latents, as a
            standard deviation: the blocks then see and predict the deviation alone, preconditioned as in EDM (Karras et
            al. 2022), and what does not move costs a small model nothing. It needs condition latents that show the
            picture at every latent frame.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ("AnyTalkerTransformerBlock",)
    _keep_in_fp32_modules = FLOAT32_MODULES
    # The last one's weights are used without calling the layer.
    _skip_layerwise_casting_patterns = ("patch_embedding", "condition_embedder", "norm", "proj_out", WHOLE_LAYERS)
    _cp_plan = {  # noqa: RUF012 (diffusers' convention)
        "split_rows": {"rows": ContextParallelInput(split_dim=3, expected_dims=5)},
        "join_rows": ContextParallelOutput(gather_dim=3, expected_dims=5),
    }

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        num_attention_heads: int = 12,
        attention_head_dim: int = 128,
        in_channels: int = 36,
        out_channels: int = 16,
        text_dim: int = 4096,
        text_len: int = 512,
        freq_dim: int = 256,
        ffn_dim: int = 8960,
        num_layers: int = 30,
        cross_attn_norm: bool = True,
        eps: float = 1e-6,
        image_dim: int = 1280,
        audio_window: int = 5,
        audio_blocks: int = 12,
        audio_channels: int = 768,
        audio_hidden_dim: int = 512,
        audio_tokens: int = 32,
        audio_face_layout: Layout = "A",
        audio_dim: int = 768,
        rope_max_seq_len: int = 1024,
        condition_skip: float | None = None,
    ) -> None:
        super().__init__()
        if tuple(patch_size) != (1, 2, 2):
            raise InputError(f"patch_size is {tuple(patch_size)}; it must be (1, 2, 2), as in all of Wan's models.")
        if audio_face_layout not in get_args(Layout):
            raise InputError(f"audio_face_layout is {audio_face_layout!r}; it must be 'A' or 'B'.")
        dim = num_attention_heads * attention_head_dim
        self.rope = WanRotaryPosEmbed(attention_head_dim, patch_size, rope_max_seq_len)
        self.patch_embedding = nn.Conv3d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.condition_embedder = WanTimeTextImageEmbedding(dim, freq_dim, 6 * dim, text_dim, image_dim)
        self.face_embedder = WanImageEmbedding(image_dim, dim)
        projection = AudioProjection if audio_face_layout == "A" else LatentAudioProjection
        self.audio_embedder = projection(
            audio_blocks * audio_channels,
            audio_window,
            audio_hidden_dim,
            audio_tokens,
            dim if audio_face_layout == "A" else audio_dim,
        )
        self.blocks = nn.ModuleList(
            AnyTalkerTransformerBlock(
                dim,
                num_attention_heads,
                ffn_dim,
                cross_attn_norm,
                eps,
                audio_dim=None if audio_face_layout == "A" else audio_dim,
            )
            for _ in range(num_layers)
        )
        self.split_rows, self.join_rows = RowsOfThisDevice(), RowsOfAllDevices()
        self.norm_out = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels * patch_size[1] * patch_size[2])
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False

    @classmethod
    def from_single_file(
        cls,
        path: str | Path,
        config: str | Path | Mapping[str, Any] | None = None,
        quantization_config: Any = None,
        torch_dtype: torch.dtype | None = None,
    ) -> AnyTalkerTransformer3DModel:
        """Load from one file, with our names of tensors or the release's; quantized layers of `.gguf` stay so.

        Args:
            path: `.gguf`, or `.safetensors`.
            config: the transformer's folder of a model, a JSON file (the release's too), or what it holds; None:
                `config.json` beside the file.
            quantization_config: `GGUFQuantizationConfig(compute_dtype=…)` of diffusers, for `.gguf`; None: in float32.
            torch_dtype: type of what isn't quantized, but for what stays in float32; None: as stored, or of `.gguf` the
                type that is computed in.

        Raises:
            InputError: if the file or the configuration can't be read, or they don't go together.
        """
        return load_single_file(cls, path, config, quantization_config, torch_dtype)

    def set_audio_face_backend(self, backend: str) -> None:
        """Choose how AFCA is computed: "sparse" (default) or "dense", the reference; both give the same numbers."""
        check_backend(backend)
        for module in self.modules():
            if isinstance(module, (AudioFaceCrossAttention, PeopleCrossAttention)):
                module.backend = backend  # type: ignore[assignment]

    def set_attention_backend(self, backend: str) -> None:
        """Compute the self attention with another of diffusers' backends, see `AttentionBackendName`.

        Raises:
            InputError: if there is no such backend, or it can't be used here.
        """
        check_attention_backend(backend)
        self._use_attention(backend)

    def reset_attention_backend(self) -> None:
        """Let torch, or diffusers' `attention_backend` context, choose again."""
        self._use_attention(None)

    def _use_attention(self, backend: str | None) -> None:
        for module in self.modules():
            if isinstance(module, SelfAttention):
                module.backend = backend

    def enable_cache(self, config: Any) -> None:
        """Leave out what hardly changes from step to step, by a configuration of diffusers.

        Args:
            config: `FirstBlockCacheConfig`, `MagCacheConfig` or `TaylorSeerCacheConfig`; without identifiers of its own
                the last one works on the attention and feed-forward layers.

        Raises:
            InputError: for caches that need diffusers' own attention classes.
        """
        kind = type(config).__name__
        if kind not in CACHES:
            raise InputError(f"{kind} can't be used with this transformer; use one of {', '.join(CACHES)}.")
        if kind == "TaylorSeerCacheConfig" and config.cache_identifiers is None:
            config.cache_identifiers = [CACHED_LAYERS]
        TransformerBlockRegistry.register(
            AnyTalkerTransformerBlock, TransformerBlockMetadata(return_hidden_states_index=0)
        )
        super().enable_cache(config)
        # Before diffusers 0.42 the hooks of an earlier cache are remembered in place of these.
        HookRegistry.check_if_exists_or_initialize(self)._child_registries_cache = None

    def enable_parallelism(self, *, config: Any, cp_plan: Any = None) -> None:
        """Share every call among the processes of this run, all of which must then call alike.

        Each has some rows of the picture, in all frames, and with them the faces that lie there; for the self attention
        they exchange heads (Ulysses, Jacobs et al. 2023).

        Args:
            config: `ContextParallelConfig(ulysses_degree=devices)` of diffusers.
            cp_plan: of diffusers; None alone is possible.

        Raises:
            InputError: for another configuration, without a process group, with too few processes, or if the heads
                can't be shared out evenly.
        """
        share_rows(self, config, cp_plan)

    def make_context(
        self,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor,
        face_embeds: torch.Tensor,
        audio_embeds: torch.Tensor,
        face_masks: torch.Tensor,
        regions: FaceRegions | None = None,
    ) -> TransformerContext:
        """Compute the keys and values of text, picture and people, which are the same at every denoising step.

        Arguments and errors as for `forward`.
        """
        streams, regions = self._streams_and_regions(
            encoder_hidden_states, encoder_hidden_states_image, face_embeds, audio_embeds, face_masks, regions
        )
        blocks: list[Any] = list(self.blocks)
        return TransformerContext(
            tuple(block.context(stream) for block, stream in zip(blocks, streams, strict=True)), regions
        )

    def find_people(self, face_masks: torch.Tensor) -> FaceRegions:
        """Where the people of face masks (B, N, f, h/2, w/2) are; those without a place are left out.

        Raises:
            InputError: if the rows can't be shared out evenly among the devices.
        """
        self.split_rows.check(face_masks.shape[3])
        present = people_present(face_masks)
        masks = self.split_rows(face_masks[:, present].to(self._precision))
        return FaceRegions(masks, TRAINED_PLACES if self.training else 1, present)

    # Long because it names and documents all inputs.
    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states_image: torch.Tensor | None = None,
        face_embeds: torch.Tensor | None = None,
        audio_embeds: torch.Tensor | None = None,
        face_masks: torch.Tensor | None = None,
        return_dict: bool = True,
        context: TransformerContext | None = None,
        regions: FaceRegions | None = None,
    ) -> Any:
        """Predict the velocity noise − sample.

        Args:
            hidden_states: (B, in_channels, f, h, w): noisy latents, mask channels, condition latents.
            timestep: (B,) in 0..1000.
            encoder_hidden_states: (B, L, text_dim) text embeddings, L up to `text_len`.
            encoder_hidden_states_image: (B, tokens, image_dim) of the picture.
            face_embeds: (B, N, tokens, image_dim) of the people's face crops.
            audio_embeds: (B, N, F, window, blocks, channels) of the people's voices, F = 4(f-1)+1.
            face_masks: (B, N, f, h/2, w/2) in [0, 1], where each person's face and voice may act.
            return_dict: False gives a tuple with the velocity.
            context: from `make_context`, in place of the five before.
            regions: what `find_people` says of `face_masks`, so that it isn't sought again.

        Returns:
            The velocity (B, out_channels, f, h, w) in the precision of `hidden_states`, as `.sample` or in a tuple.
            Inside, matrices are in the precision of the weights; norms, modulation and the sum that runs through the
            blocks are in float32 (release). While gradients are computed the sum is in the weights' precision, since it
            is kept for every block.

        Raises:
            InputError: if the audio frames don't fit the latent frames, the text is too long, or the video has more
                latent frames, or token rows or columns, than there are rotary positions.
        """
        contexts: Any
        if context is not None:
            contexts, regions = context.blocks, context.regions
        else:
            contexts, regions = self._streams_and_regions(
                encoder_hidden_states, encoder_hidden_states_image, face_embeds, audio_embeds, face_masks, regions
            )
        frames, height, width = hidden_states.shape[2:]
        self.split_rows.check(height // 2)
        if regions.face_masks.shape[2] != frames:
            raise InputError(f"face_masks has {regions.face_masks.shape[2]} latent frames, the latents have {frames}.")
        if max(frames, height // 2, width // 2) > self.config.rope_max_seq_len:
            raise InputError(
                f"The latents have {frames} frames of {height // 2}×{width // 2} tokens; the model knows "
                f"{self.config.rope_max_seq_len} positions in each direction. Denoise long videos in windows."
            )
        skip = None
        if self.config.condition_skip is not None:
            skip = ConditionSkip(hidden_states, timestep, self.config.out_channels, self.config.condition_skip)
            hidden_states = skip.hidden_states
        rotary = split_rotary(self.split_rows, self.rope(hidden_states), (frames, height // 2, width // 2))
        hidden_states = split_latents(self.split_rows, hidden_states)
        height = hidden_states.shape[3]
        tokens = self.patch_embedding(hidden_states.to(self._precision)).flatten(2).transpose(1, 2)
        tokens = tokens if torch.is_grad_enabled() else tokens.float()
        temb, modulation = self._time(timestep)
        for block, block_context in zip(self.blocks, contexts, strict=True):
            inputs = (tokens, modulation, rotary, block_context, regions)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(block, *inputs)
            else:
                tokens = block(*inputs)
        shift, scale = (self.scale_shift_table + temb.float().unsqueeze(1)).chunk(2, dim=1)
        tokens = self.proj_out((self.norm_out(tokens.float()) * (1 + scale) + shift).to(self._precision))
        velocity = self._unpatchify(tokens, frames, height, width).to(hidden_states.dtype)
        velocity = join_latents(self.join_rows, velocity)
        if skip is not None:
            velocity = skip.velocity(velocity)
        return Transformer2DModelOutput(sample=velocity) if return_dict else (velocity,)

    @property
    def _precision(self) -> torch.dtype:
        return self.patch_embedding.weight.dtype

    def _streams_and_regions(
        self,
        text: torch.Tensor | None,
        image: torch.Tensor | None,
        faces: torch.Tensor | None,
        audio_embeds: torch.Tensor | None,
        face_masks: torch.Tensor | None,
        regions: FaceRegions | None = None,
    ) -> tuple[list[Streams], FaceRegions]:
        """The same tokens for every block, and where people are; of people without a place nothing is computed."""
        if text is None or image is None or faces is None or audio_embeds is None or face_masks is None:
            raise InputError("The transformer needs text, image, face and audio embeddings and face masks.")
        frames = face_masks.shape[2]
        if audio_embeds.shape[2] != 4 * (frames - 1) + 1:
            raise InputError(
                f"audio_embeds has {audio_embeds.shape[2]} video frames, but {frames} latent frames need "
                f"{4 * (frames - 1) + 1}."
            )
        if text.shape[1] > self.config.text_len:
            raise InputError(f"The text has {text.shape[1]} tokens; at most {self.config.text_len} are possible.")
        regions = self.find_people(face_masks) if regions is None else regions
        faces, audio_embeds = _people(faces, regions.present), _people(audio_embeds, regions.present)
        text, image, faces, audio_embeds = (tensor.to(self._precision) for tensor in (text, image, faces, audio_embeds))
        padded = nn.functional.pad(text, (0, 0, 0, self.config.text_len - text.shape[1]))
        streams = Streams(
            self.condition_embedder.text_embedder(padded),
            self.condition_embedder.image_embedder(image),
            self.face_embedder(faces.flatten(0, 1)).unflatten(0, faces.shape[:2]),
            self.audio_embedder(audio_embeds),
        )
        return [streams] * len(self.blocks), regions

    def _time(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding (B, dim) and modulation (B, 6, dim) of the time step, in the precision of their weights."""
        embedder = self.condition_embedder
        device = timestep.device.type  # "meta" where memory is counted, which knows no autocast
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            sinusoid = embedder.timesteps_proj(timestep).to(embedder.time_embedder.linear_1.weight.dtype)
            temb = embedder.time_embedder(sinusoid)
            modulation = embedder.time_proj(embedder.act_fn(temb).to(embedder.time_proj.weight.dtype))
        return temb, modulation.unflatten(1, (6, -1))

    def _unpatchify(self, tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
        _, tall, wide = self.config.patch_size
        grid = tokens.unflatten(1, (frames, height // tall, width // wide)).unflatten(-1, (tall, wide, -1))
        return grid.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
