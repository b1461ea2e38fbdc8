"""DNSMOS (https://arxiv.org/abs/2110.01763): how good people would find a sound, by the network of `speechmos`."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.media.recordings import SAMPLE_RATE

_LENGTH = 144160
"""Samples that the network hears at a time, 9.01 s; shorter sounds are repeated."""
_OVERALL = (-0.06766283, 1.11546468, 0.04602535)
"""The published polynomial from the network's third answer to an opinion."""


def sound_quality(samples: np.ndarray) -> float:
    """Overall quality of speech, from 1 (bad) to 5 (excellent).

    Args:
        samples: float (samples,) at 16 kHz in [-1, 1].

    Raises:
        ModuleNotFoundError: if the extra `quality` is not installed.
        ValueError: if there are no samples.
    """
    if not len(samples):
        raise ValueError("there is no sound")
    heard = np.clip(np.resize(samples, max(_LENGTH, len(samples))), -1, 1).astype(np.float32)
    network = _network()
    answers = [
        network.run(None, {"input_1": heard[None, start : start + _LENGTH]})[0][0][2]
        for start in range(0, len(heard) - _LENGTH + 1, SAMPLE_RATE)
    ]
    return float(np.mean(np.polyval(_OVERALL, answers)))


@lru_cache(maxsize=1)
def _network() -> Any:
    import onnxruntime

    package = find_spec("speechmos")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'speechmos'", name="speechmos")
    path = Path(package.submodule_search_locations[0]) / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
