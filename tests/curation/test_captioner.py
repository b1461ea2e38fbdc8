"""Captions by a model that transformers loads: here a tiny BLIP with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from anytalker.curation.captioner import caption_picture, check_captioner
from anytalker.curation.captions import describe
from anytalker.curation.config import CurationConfig
from anytalker.curation.export import export_clip
from anytalker.curation.footage import Footage
from anytalker.curation.piece import Face, Piece
from anytalker.curation.work import _captioner
from anytalker.errors import InputError
from tests.curation.test_footage import write_footage

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "two", "people", "talk", "in", "a", "room", "laugh"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("captioner")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizerFast(str(folder / "vocab.txt"))
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, tokenizer).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {"bos_token_id": 5, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config={**small, **special, "vocab_size": len(WORDS), "encoder_hidden_size": 16, "is_decoder": True},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def test_a_model_says_the_same_of_the_same_picture(model) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    said = caption_picture(picture, model, "two people")
    assert said == caption_picture(picture, model, "two people")
    assert set(said.split()) <= set(WORDS)


def test_a_clip_carries_what_the_model_says(model, tmp_path) -> None:
    footage = Footage(write_footage(tmp_path / "talk.mkv", [number / 25 for number in range(10)], sound_from=0.0))
    boxes = np.tile(np.array([8, 8, 40, 40], np.float32), (10, 1))
    piece = Piece(footage, 0, 10, np.zeros(6400, np.float32), faces=(Face(boxes),))
    config = CurationConfig.model_validate({"captions": {"model": model, "prompt": ""}})
    clip = export_clip(piece, "talk", tmp_path, caption=_captioner(config))
    assert clip.caption
    assert describe(clip) == clip.caption
    assert describe(clip, "{people} talking") == "1 talking"
    assert _captioner(CurationConfig()) is None


def test_a_model_is_checked_first(model, tmp_path) -> None:
    check_captioner(model)
    with pytest.raises(InputError, match=r"captions\.model .* can't be loaded"):
        check_captioner(str(tmp_path / "missing"))
    other = Path(tmp_path / "other")
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="doesn't write text about pictures"):
        check_captioner(str(other))
