"""The release's names of tensors beside ours, and what its configuration says in our words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anytalker.errors import InputError

_OUTER = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "img_emb.proj.0": "condition_embedder.image_embedder.norm1",
    "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
    "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
    "img_emb.proj.4": "condition_embedder.image_embedder.norm2",
    "audio_ref_emb.proj.0": "face_embedder.norm1",
    "audio_ref_emb.proj.1": "face_embedder.ff.net.0.proj",
    "audio_ref_emb.proj.3": "face_embedder.ff.net.2",
    "audio_ref_emb.proj.4": "face_embedder.norm2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
_BLOCK = {
    "modulation": "scale_shift_table",
    "norm3": "norm2",
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out",
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.q": "attn2.to_q",
    "cross_attn.k": "attn2.to_k",
    "cross_attn.v": "attn2.to_v",
    "cross_attn.o": "attn2.to_out",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "cross_attn.k_img": "attn2.add_k_proj",
    "cross_attn.v_img": "attn2.add_v_proj",
    "cross_attn.norm_k_img": "attn2.norm_added_k",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
_PEOPLE_IN_CROSS_ATTENTION = {
    "cross_attn.k_audio": "attn2.audio_k_proj",
    "cross_attn.v_audio": "attn2.audio_v_proj",
    "cross_attn.norm_k_audio": "attn2.norm_audio_k",
    "cross_attn.k_face": "attn2.face_k_proj",
    "cross_attn.v_face": "attn2.face_v_proj",
    "cross_attn.norm_k_face": "attn2.norm_face_k",
}
_PEOPLE_APART = {
    "norm_x": "norm_people",
    "audio_cross_attn.q_linear": "attn_people.to_q",
    "audio_cross_attn.kv_linear": "attn_people.audio_kv_proj",
    "audio_cross_attn.k_face": "attn_people.face_k_proj",
    "audio_cross_attn.v_face": "attn_people.face_v_proj",
    "audio_cross_attn.proj": "attn_people.to_out",
}
_AUDIO_PARTS = ("proj1", "proj1_vf", "proj2", "proj3", "norm")
_WINDOW = 5
Shape = tuple[int, ...]


class Names:
    """Names of the tensors of one layout, ours and the release's.

    Args:
        layout: "A" or "B".
    """

    def __init__(self, layout: str) -> None:
        audio = "audio_emb" if layout == "A" else "audio_proj"
        self._outer = _OUTER | {f"{audio}.{part}": f"audio_embedder.{part}" for part in _AUDIO_PARTS}
        self._inner = _BLOCK | (_PEOPLE_IN_CROSS_ATTENTION if layout == "A" else _PEOPLE_APART)

    def ours(self, key: str) -> str | None:
        """Our name of one of the release's tensors; None if we have none."""
        return _renamed(key, self._outer, self._inner)

    def releases(self, key: str) -> str | None:
        """The release's name of one of our tensors; None if it has none."""
        return _renamed(key, _turned(self._outer), _turned(self._inner))


def _turned(table: Mapping[str, str]) -> dict[str, str]:
    return {ours: theirs for theirs, ours in table.items()}


def _renamed(key: str, outer: Mapping[str, str], inner: Mapping[str, str]) -> str | None:
    """The other side's name of a tensor; None if there is no such tensor."""
    for table, prefix in ((outer, ""), (inner, "blocks.")):
        head, rest = "", key
        if prefix:
            if not key.startswith(prefix) or key.count(".") < 2:
                continue
            index, rest = key[len(prefix) :].split(".", 1)
            head = f"{prefix}{index}."
        if rest in table:
            return head + table[rest]
        module, _, kind = rest.rpartition(".")
        if module in table and kind in ("weight", "bias"):
            return f"{head}{table[module]}.{kind}"
    return None


def check_tensors(given: Mapping[str, Shape], wanted: Mapping[str, Shape], names: Names) -> None:
    """Make sure that a checkpoint has the tensors of a model, all of them and no others.

    Args:
        given: shapes of the checkpoint's tensors by the release's names.
        wanted: shapes of the model's by ours.
        names: of the layout.

    Raises:
        InputError: naming what is missing, unexpected, or of the wrong shape.
    """
    if problems := problems_of(given, {names.releases(name) or name: shape for name, shape in wanted.items()}):
        raise InputError(f"The checkpoint doesn't fit its configuration: tensors {problems}.")


def problems_of(given: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> str:
    """What of the wanted tensors is missing, unexpected, or of the wrong shape, in words; empty if nothing is."""
    both = [name for name in wanted if name in given]
    kinds = (
        ("missing", [name for name in wanted if name not in given]),
        ("unexpected", [name for name in given if name not in wanted]),
        (
            "of the wrong shape",
            [f"{name} is {given[name]} instead of {wanted[name]}" for name in both if given[name] != wanted[name]],
        ),
    )
    return "; ".join(
        f"{len(culprits)} {kind} ({', '.join(culprits[:3])}{', …' if len(culprits) > 3 else ''})"
        for kind, culprits in kinds
        if culprits
    )


def model_config(shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> dict[str, Any]:
    """Our configuration for a release's; sizes that its configuration leaves out are read off the tensors.

    Args:
        shapes: shapes of the checkpoint's tensors by the release's names.
        config: the release's configuration.

    Raises:
        InputError: if the checkpoint or the configuration lacks something.
    """
    layout, audio = ("B", "audio_proj") if config.get("legacy_audio_cross_attn") else ("A", "audio_emb")
    other = "audio_emb" if layout == "B" else "audio_proj"
    if f"{other}.proj1.weight" in shapes:
        raise InputError(
            f"The configuration says layout {layout}, but the checkpoint's tensors are those of the other layout; "
            "take the configuration that lies beside the checkpoint."
        )
    try:
        dim, heads = config["dim"], config["num_heads"]
        features = shapes[f"{audio}.proj1.weight"]
        audio_dim = shapes[f"{audio}.norm.weight"][0]
        audio_tokens = shapes[f"{audio}.proj3.weight"][0] // audio_dim
        image_dim = shapes["img_emb.proj.0.weight"][0]
        values = {
            "patch_size": tuple(config.get("patch_size", (1, 2, 2))),
            "num_attention_heads": heads,
            "attention_head_dim": dim // heads,
            "in_channels": config["in_dim"],
            "out_channels": config["out_dim"],
            "ffn_dim": config["ffn_dim"],
            "num_layers": config["num_layers"],
            **{key: config[key] for key in ("text_dim", "text_len", "freq_dim")},
        }
    except KeyError as error:
        raise InputError(
            f"The checkpoint or its configuration lacks {error}; is it one of AnyTalker's release?"
        ) from error
    except (TypeError, ZeroDivisionError) as error:
        raise InputError(f"The checkpoint's configuration holds values that can't be ({error}).") from error
    channels = int(config.get("audio_channels", 768))
    values |= {
        "cross_attn_norm": config.get("cross_attn_norm", True),
        "eps": config.get("eps", 1e-6),
        "image_dim": image_dim,
        "audio_window": _WINDOW,
        "audio_channels": channels,
        "audio_blocks": features[1] // (_WINDOW * channels),
        "audio_hidden_dim": features[0],
        "audio_tokens": audio_tokens,
        "audio_face_layout": layout,
    }
    return values | ({"audio_dim": audio_dim} if layout == "B" else {})
