"""Face masks against the release's."""

from __future__ import annotations

import pytest
import torch

from anytalker.conditioning.masks import condition_mask, expanded_mask, face_token_masks


def box_of(case: dict) -> tuple[int, int, int, int]:
    left, top, right, bottom = case["box_xyxy"]
    return left, top, right - left, bottom - top


@pytest.mark.parametrize("index", range(4))
def test_equal_the_release(index: int, preprocess_cases, preprocess_goldens, error) -> None:
    case = preprocess_cases["masks"][index]
    height, width, latent_frames = case["height"], case["width"], (case["frames"] - 1) // 4 + 1
    box = box_of(case)
    assert error(expanded_mask(box, height, width), preprocess_goldens[f"expanded_mask_{index}"]) <= 1e-6
    tokens = face_token_masks([box], height, width, latent_frames)
    assert tokens.shape[:2] == (1, latent_frames)
    for frame in range(latent_frames):
        assert error(tokens[0, frame], preprocess_goldens[f"token_mask_{index}"]) <= 1e-6
    assert error(condition_mask([box], height, width, latent_frames), preprocess_goldens[f"dit_mask_{index}"]) <= 1e-6


def test_people_add_up_in_the_condition_mask_and_stay_apart_in_the_tokens() -> None:
    boxes = [(8, 16, 32, 32), (72, 16, 32, 32)]
    together = condition_mask(boxes, 64, 128, 3)
    alone = sum(condition_mask([box], 64, 128, 3) for box in boxes)
    assert torch.equal(together[:, 1:], alone[:, 1:])
    tokens = face_token_masks(boxes, 64, 128, 3)
    assert (tokens[0] * tokens[1]).max() == 0


@pytest.mark.parametrize(("start", "length", "columns"), [(10, 40, (5, 54)), (10, 30, (6, 43)), (95, 25, (92, 120))])
def test_a_box_grows_by_a_pixel_more_than_a_fifth(start, length, columns) -> None:
    """As the release counts: both ends of the grown box belong to it."""
    wide = expanded_mask((start, 0, length, 20), 20, 120)[0].nonzero()
    assert (int(wide.min()), int(wide.max()) + 1) == columns


def test_a_face_at_the_edge_stays_inside() -> None:
    mask = expanded_mask((0, 0, 20, 20), 64, 64)
    assert mask[0, 0] == 1
    assert mask[:, 30:].max() == 0
