"""Published results to stand beside one's own; every row says where it is from."""

from __future__ import annotations

from dataclasses import dataclass, field

PAPER = "AnyTalker, arXiv 2511.23475"


@dataclass(frozen=True)
class ReferenceRow:
    """One published row: the table it is from, the method, and its scores by metric."""

    source: str
    method: str
    scores: dict[str, float] = field(default_factory=dict)


def _rows(table: str, metrics: tuple[str, ...], values: dict[str, tuple[float, ...]]) -> list[ReferenceRow]:
    return [
        ReferenceRow(f"{PAPER}, {table}", method, dict(zip(metrics, row, strict=True)))
        for method, row in values.items()
    ]


INTERACTIVE_EYES = _rows(
    "Table 2 (InteractiveEyes)",
    ("interactivity", "sync_c_star", "fvd"),
    {
        "real video": (0.77, 6.01, 0.0),
        "Bind-Your-Avatar": (0.45, 3.03, 696.0),
        "MultiTalk": (0.49, 6.88, 500.0),
        "AnyTalker-1.3B": (0.97, 4.56, 468.0),
        "AnyTalker-14B": (1.01, 6.99, 424.0),
    },
)
DATA_ABLATION = _rows(
    "Table 4 (1.3B; kinds of training data)",
    ("interactivity", "sync_c_star", "fvd"),
    {
        "joined pairs": (0.55, 3.21, 672.0),
        "real single": (0.47, 4.13, 475.0),
        "real single, joined pairs": (0.58, 4.89, 394.0),
        "real single, real pairs": (0.71, 3.63, 512.0),
        "real single, joined pairs, real pairs": (0.97, 4.56, 468.0),
    },
)
ATTENTION_ABLATION = _rows(
    "Table 3 (stage 1, HDTF)",
    ("sync_c",),
    {
        "plain audio attention": (5.42,),
        "without AFCA": (6.71,),
        "without mask": (5.84,),
        "without joined data": (6.21,),
        "all": (6.97,),
    },
)
ALL = [*INTERACTIVE_EYES, *ATTENTION_ABLATION, *DATA_ABLATION]

PUBLISHED = {"all": ALL, "InteractiveEyes": INTERACTIVE_EYES}
"""Rows by the name under which a report asks for them."""
