"""What bfloat16 costs at the released models' true depth and a small width, on a CPU.

    python benchmarks/precision.py

The relative error of the velocity, ‖bfloat16 − float32‖ / ‖float32‖, for both layouts and what may be kept in float32.
Weights and inputs are random, matrices scaled by 1/√(values that are summed), gains around 1, so that what runs through
the blocks neither vanishes nor blows up: its size after the first and the last block is printed, too.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Callable

import torch

from anytalker.models.precision import cast_transformer
from anytalker.models.transformer import AnyTalkerTransformer3DModel

TIMESTEPS = (950.0, 500.0, 50.0)
DEPTHS = {"A": 30, "B": 40}
Model = AnyTalkerTransformer3DModel


def random_model(layout: str) -> Model:
    """A model as deep as the released one of its layout."""
    model = Model(
        num_attention_heads=4, attention_head_dim=32, text_dim=32, text_len=16, ffn_dim=512, num_layers=DEPTHS[layout],
        image_dim=64, audio_blocks=2, audio_channels=32, audio_hidden_dim=64, audio_tokens=8, audio_dim=64,
        audio_face_layout=layout,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.data = 0.1 * drawn + (1 if name.endswith("weight") else 0)
        else:
            parameter.data = drawn / math.sqrt(parameter.shape[1:].numel())
    return model.eval().requires_grad_(False)


def random_inputs(people: int = 2, frames: int = 3, rows: int = 8, columns: int = 12) -> dict[str, torch.Tensor]:
    """Standard normal inputs, and a face a person."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    masks = torch.zeros(1, people, frames, rows, columns)
    for person in range(people):
        masks[:, person, :, 1:5, 1 + 6 * person : 5 + 6 * person] = 1
    return {
        "hidden_states": draw(1, 36, frames, 2 * rows, 2 * columns),
        "encoder_hidden_states": draw(1, 12, 32),
        "encoder_hidden_states_image": draw(1, 17, 64),
        "face_embeds": draw(1, people, 17, 64),
        "audio_embeds": draw(1, people, 4 * frames - 3, 5, 2, 32),
        "face_masks": masks,
    }


def velocities(model: Model, coarse_sum: bool = False) -> list[torch.Tensor]:
    """The velocity at each time step; `coarse_sum` rounds what runs through the blocks to bfloat16 after each."""
    hooks = []
    for block in model.blocks if coarse_sum else ():
        hooks.append(block.register_forward_pre_hook(lambda _, given: (given[0].bfloat16(), *given[1:])))
    with torch.no_grad():
        made = [model(**random_inputs(), timestep=torch.tensor([t]), return_dict=False)[0] for t in TIMESTEPS]
    for hook in hooks:
        hook.remove()
    return made


def all_half(model: Model) -> Model:
    """Every weight in bfloat16."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()
    return model


def positions_too(model: Model) -> Model:
    """Every weight and the tables of rotary positions in bfloat16."""
    model.rope.bfloat16()
    return all_half(model)


def sizes(model: Model) -> tuple[float, float]:
    """Root mean square of what leaves the first and the last block."""
    found: list[float] = []
    hooks = [
        model.blocks[index].register_forward_hook(lambda _, __, out: found.append(float(out.square().mean().sqrt())))
        for index in (0, -1)
    ]
    velocities(model)
    for hook in hooks:
        hook.remove()
    return found[0], found[1]


def main() -> None:
    """Measure."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)
    ways: dict[str, tuple[Callable[[Model], Model], bool]] = {
        "nothing, release folders before (positions rounded, too)": (positions_too, True),
        "nothing, before": (all_half, True),
        "time embedding, modulation, norms": (lambda model: cast_transformer(model, torch.bfloat16), True),
        "the sum alone": (all_half, False),
        "both, as it is": (lambda model: cast_transformer(model, torch.bfloat16), False),
    }
    sums = []
    print(
        "| layout, blocks | in float32 | weights in float32 | error at t = 950 | 500 | 50 |\n|---|---|---|---|---|---|"
    )
    for layout, depth in DEPTHS.items():
        exact = random_model(layout)
        expected = velocities(exact)
        for name, (cast, coarse) in ways.items():
            model = cast(copy.deepcopy(exact))
            whole = sum(parameter.dtype == torch.float32 for parameter in model.parameters())
            made = velocities(model, coarse)
            errors = [float((one - two).norm() / two.norm()) for one, two in zip(made, expected, strict=True)]
            count = f"{whole} of {len(list(model.parameters()))}"
            shares = " | ".join(f"{100 * error:.2f}%" for error in errors)
            print(f"| {layout}, {depth} | {name} | {count} | {shares} |", flush=True)
        first, last = sizes(exact)
        sums.append(f"Layout {layout}: {first:.1f} after the first block, {last:.1f} after the last.")
    print("", *sums, sep="\n")


if __name__ == "__main__":
    main()
