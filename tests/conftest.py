"""Shared by all tests: no network, few threads, fixed seeds, and the goldens."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # a thread a worker, also in the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

from anytalker.models.upscaler import PictureUpscaler
from tests.quick_upscaling import ENLARGE

gc.disable()  # until all tests are imported: what is imported stays, so looking through it is for nothing
torch.set_num_threads(min(2, torch.get_num_threads()))

GOLDENS = Path(__file__).parent / "goldens"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores, since tests of browsers, clusters and workers wait a lot."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests begin, then the longest, so that no process is left alone with one at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    length = {path: path.stat().st_size for path in {item.path for item in items}}
    items.sort(key=lambda item: (-slow[item.path], -length[item.path], item.path))


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def real_upscaler() -> Iterator[None]:
    """The miniature's upscaler as users have it, which other tests do without."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PictureUpscaler, "enlarge", ENLARGE)
        yield


@pytest.fixture(scope="session")
def recipe() -> ModuleType:
    """The recipe that makes the weights and inputs of the goldens from their names."""
    spec = importlib.util.spec_from_file_location("golden_recipe", GOLDENS / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def preprocess_cases() -> dict:
    """Descriptions of the golden cases of preparation and sampling."""
    return json.loads((GOLDENS / "preprocess.json").read_text())


@pytest.fixture(scope="session")
def preprocess_goldens() -> dict[str, torch.Tensor]:
    """Their expected tensors."""
    from safetensors.torch import load_file

    return load_file(GOLDENS / "preprocess.safetensors")


def relative_error(value: torch.Tensor, golden: torch.Tensor) -> float:
    """‖value − golden‖ / ‖golden‖."""
    return float((value.double() - golden.double()).norm() / golden.double().norm())


@pytest.fixture(scope="session")
def error():
    """The relative error of a tensor against its golden."""
    return relative_error


@pytest.fixture
def write_wave(tmp_path: Path):
    """Writes a 16-bit WAV file and returns its path."""
    import wave

    def write(samples: np.ndarray, name: str = "voice.wav", rate: int = 16000, channels: int = 1) -> Path:
        path = tmp_path / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return path

    return write


@pytest.fixture
def tone() -> np.ndarray:
    """One second of sound, float32 at 16 kHz."""
    time = np.arange(16000) / 16000
    return (0.4 * np.sin(2 * np.pi * 180 * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


@pytest.fixture
def quick_diarization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less training on a recording's voices, where it doesn't matter how exactly turns begin and end."""
    from anytalker.diarization import resegmentation

    monkeypatch.setattr(resegmentation, "_STEPS", 10)


@pytest.fixture
def wav2vec2():
    """Features of a wav2vec2 of a few thousand parameters, untrained."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    from anytalker.conditioning.audio_features import Wav2Vec2Features

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    convolutions = {"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
    return Wav2Vec2Features(Wav2Vec2Model(Wav2Vec2Config(vocab_size=8, **sizes, **convolutions)))
