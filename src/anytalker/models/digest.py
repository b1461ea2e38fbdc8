"""Models recognised by their weights."""

from __future__ import annotations

import torch

from anytalker.hashing import ShortDigest

_SAMPLES = 256


class TensorDigest:
    """Sixteen hexadecimal digits for tensors that come one by one; of each, name, shape, type and 256 values count."""

    def __init__(self) -> None:
        self._digest = ShortDigest()

    def add(self, name: str, tensor: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        """Count a tensor in, as if numbers with fractions had the type `dtype`; None: as it is."""
        flat = tensor.detach().flatten()
        some = flat[:: max(1, len(flat) // _SAMPLES)].cpu().contiguous()
        some = some.to(dtype) if dtype is not None and some.is_floating_point() else some
        self._digest.add(f"{name} {tuple(tensor.shape)} {some.dtype}")
        self._digest.add(some.view(torch.uint8).numpy().data if some.dim() and len(some) else b"")

    def __str__(self) -> str:
        return str(self._digest)


def weights_digest(module: torch.nn.Module, dtype: torch.dtype | None = None, without: tuple[str, ...] = ()) -> str:
    """Sixteen hexadecimal digits; of each tensor name, shape, type and 256 values count.

    Args:
        module: whose weights.
        dtype: as if numbers with fractions had this type; None: as they are.
        without: tensors whose names begin like this don't count.
    """
    digest = TensorDigest()
    for name, tensor in module.state_dict().items():
        if not name.startswith(without):
            digest.add(name, tensor, dtype)
    return str(digest)


def encoder_digest(vae: torch.nn.Module, dtype: torch.dtype | None = None) -> str:
    """The digest of an autoencoder's encoder, which decides the latents; the decoder may be trained further."""
    return weights_digest(vae, dtype, without=("decode", "post_quant"))
