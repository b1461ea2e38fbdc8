"""Captions by any model that transformers loads for pictures and text, such as BLIP or Qwen2.5-VL."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from anytalker.errors import InputError

_WORDS = 128
"""Tokens of a caption at most."""


def check_captioner(model: str) -> None:
    """Make sure, before any work, that a model can be asked for captions.

    Args:
        model: its folder, or its name on the Hugging Face hub.

    Raises:
        InputError: if it can't be loaded, or doesn't read pictures and write text.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(model)
        AutoModelForImageTextToText._model_mapping[type(config)]
        _processor(model)
    except KeyError as error:
        raise InputError(
            f"captions.model {model} doesn't write text about pictures. Choose one such as Qwen/Qwen2.5-VL-7B-Instruct."
        ) from error
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"captions.model {model} can't be loaded: {str(error).splitlines()[0]} Give a folder, or a name on the hub."
        ) from error


def caption_picture(picture: np.ndarray, model: str, prompt: str) -> str:
    """What a model says of a picture; always the same.

    Args:
        picture: uint8 RGB (H, W, 3).
        model: as in `check_captioner`.
        prompt: what it is asked, if it answers; for others, how the caption begins.

    Raises:
        InputError: if it says nothing.
    """
    import torch

    network, processor = _loaded(model)
    image = Image.fromarray(picture)
    if getattr(processor, "chat_template", None):
        asked = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}]
        inputs = processor.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    else:
        inputs = processor(images=image, text=prompt or None, return_tensors="pt")
    inputs = inputs.to(network.device)
    with torch.inference_mode():
        tokens = network.generate(**inputs, max_new_tokens=_WORDS, do_sample=False)[0]
    known = inputs.get("input_ids")
    begun = 0 if known is None else known.shape[1]
    if begun and torch.equal(tokens[:begun], known[0]):
        tokens = tokens[begun:]
    said = " ".join(processor.decode(tokens, skip_special_tokens=True).split())
    if not said:
        raise InputError(f"captions.model {model} said nothing of a clip. Choose another, or another captions.prompt.")
    return said


@lru_cache(maxsize=1)
def _loaded(model: str) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForImageTextToText

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = AutoModelForImageTextToText.from_pretrained(
        model, dtype=torch.bfloat16 if device == "cuda" else torch.float32, use_safetensors=True
    )
    return network.to(device).eval(), _processor(model)


def _processor(model: str) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(model)
