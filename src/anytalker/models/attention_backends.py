"""Which of diffusers' attention backends can be used here."""

from __future__ import annotations

from anytalker.errors import InputError


def check_attention_backend(name: str) -> None:
    """Make sure that a backend can be used for the self attention.

    Raises:
        InputError: if there is no such backend, or it can't be used here.
    """
    from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

    known = sorted(backend.value for backend in AttentionBackendName)
    if name not in known:
        raise InputError(f"There is no attention backend {name!r}; there are {', '.join(known)}.")
    try:
        _check_attention_backend_requirements(AttentionBackendName(name))
    except (RuntimeError, ImportError, ValueError) as error:
        raise InputError(f"The attention backend {name} can't be used here: {error}") from error
