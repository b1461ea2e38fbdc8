"""Models recognised by their weights."""

from __future__ import annotations

import hashlib

import torch

_SAMPLES = 256
_DIGITS = 16


def weights_digest(module: torch.nn.Module, dtype: torch.dtype | None = None, without: tuple[str, ...] = ()) -> str:
    """Sixteen hexadecimal digits; of each tensor name, shape, type and 256 values count.

    Args:
        module: whose weights.
        dtype: as if numbers with fractions had this type; None: as they are.
        without: tensors whose names begin like this don't count.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        if name.startswith(without):
            continue
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // _SAMPLES)].cpu().contiguous()
        some = some.to(dtype) if dtype is not None and some.is_floating_point() else some
        digest.update(f"{name} {tuple(tensor.shape)} {some.dtype}".encode())
        digest.update(some.view(torch.uint8).numpy() if some.dim() and len(some) else b"")
    return digest.hexdigest()[:_DIGITS]


def encoder_digest(vae: torch.nn.Module, dtype: torch.dtype | None = None) -> str:
    """The digest of what makes an autoencoder's latents, which stay the same if its decoder is trained further."""
    return weights_digest(vae, dtype, without=("decode", "post_quant"))
