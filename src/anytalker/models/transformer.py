"""AnyTalkerTransformer3DModel, layout A."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanImageEmbedding, WanRotaryPosEmbed, WanTimeTextImageEmbedding
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from anytalker.models.audio_face_attention import AudioFaceCrossAttention
from anytalker.models.audio_projection import AudioProjection


def rotate(states, cosine, sine):
    """states B T H d"""
    even, odd = states[..., 0::2], states[..., 1::2]
    c, s = cosine[..., 0::2], sine[..., 1::2]
    return torch.stack([even * c - odd * s, even * s + odd * c], dim=-1).flatten(-2)


class SelfAttention(nn.Module):
    def __init__(self, dim, heads, eps):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = nn.RMSNorm(dim, eps), nn.RMSNorm(dim, eps)

    def forward(self, x, rotary):
        q = rotate(self.norm_q(self.to_q(x)).unflatten(-1, (self.heads, -1)), *rotary).transpose(1, 2)
        k = rotate(self.norm_k(self.to_k(x)).unflatten(-1, (self.heads, -1)), *rotary).transpose(1, 2)
        v = self.to_v(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.to_out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, dim, heads, ffn_dim, eps):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = SelfAttention(dim, heads, eps)
        self.norm2 = nn.LayerNorm(dim, eps)
        self.attn2 = AudioFaceCrossAttention(dim, heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = FeedForward(dim, inner_dim=ffn_dim, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(self, x, modulation, rotary, text, image, faces, audio, face_masks):
        s1, c1, g1, s2, c2, g2 = (self.scale_shift_table + modulation.float()).unsqueeze(2).unbind(1)
        x = x + self.attn1(self.norm1(x) * (1 + c1) + s1, rotary) * g1
        x = x + self.attn2(self.norm2(x), text, image, faces, audio, face_masks)
        return x + self.ffn(self.norm3(x) * (1 + c2) + s2) * g2


class AnyTalkerTransformer3DModel(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, patch_size=(1, 2, 2), num_attention_heads=12, attention_head_dim=128, in_channels=36, out_channels=16,
                 text_dim=4096, text_len=512, freq_dim=256, ffn_dim=8960, num_layers=30, eps=1e-6, image_dim=1280,
                 audio_window=5, audio_blocks=12, audio_channels=768, audio_hidden_dim=512, audio_tokens=32,
                 rope_max_seq_len=1024):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self.patch_embedding = nn.Conv3d(in_channels, dim, patch_size, patch_size)
        self.condition_embedder = WanTimeTextImageEmbedding(dim, freq_dim, 6 * dim, text_dim, image_dim)
        self.face_embedder = WanImageEmbedding(image_dim, dim)
        self.audio_embedder = AudioProjection(audio_window * audio_blocks * audio_channels, audio_hidden_dim, audio_tokens, dim)
        self.rope = WanRotaryPosEmbed(attention_head_dim, patch_size, rope_max_seq_len)
        self.blocks = nn.ModuleList(Block(dim, num_attention_heads, ffn_dim, eps) for _ in range(num_layers))
        self.norm_out = nn.LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels * 4)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, hidden_states, timestep, encoder_hidden_states, encoder_hidden_states_image, face_embeds, audio_embeds, face_masks, return_dict=True):
        _, _, f, h, w = hidden_states.shape
        rotary = self.rope(hidden_states)
        x = self.patch_embedding(hidden_states).flatten(2).transpose(1, 2)
        text = nn.functional.pad(encoder_hidden_states, (0, 0, 0, self.config.text_len - encoder_hidden_states.shape[1]))
        temb, modulation, text, image = self.condition_embedder(timestep, text, encoder_hidden_states_image)
        modulation = modulation.unflatten(1, (6, -1))
        faces = self.face_embedder(face_embeds.flatten(0, 1)).unflatten(0, face_embeds.shape[:2])
        audio = self.audio_embedder(audio_embeds)
        for block in self.blocks:
            x = block(x, modulation, rotary, text, image, faces, audio, face_masks)
        shift, scale = (self.scale_shift_table + temb.unsqueeze(1)).chunk(2, dim=1)
        x = self.proj_out(self.norm_out(x) * (1 + scale) + shift)
        x = x.unflatten(1, (f, h // 2, w // 2)).unflatten(-1, (2, 2, -1)).permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
        return (x,) if not return_dict else Transformer2DModelOutput(sample=x)
