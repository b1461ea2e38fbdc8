"""SyncNet's two kinds of weights behind one interface, and the original's preprocessing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from anytalker.errors import InputError
from anytalker.evaluation.lip_sync.mfcc import mel_filters, mfcc
from anytalker.evaluation.lip_sync.small_syncnet import WEIGHTS, SmallSyncModel, SmallSyncNet, normalize_tracks
from anytalker.evaluation.lip_sync.syncnet import OriginalSyncModel, OriginalSyncNet, load_sync_model

ORIGINAL_CONVOLUTIONS = {
    "netcnnaud": {
        0: (64, 1, 3, 3),
        4: (192, 64, 3, 3),
        8: (384, 192, 3, 3),
        11: (256, 384, 3, 3),
        14: (256, 256, 3, 3),
        18: (512, 256, 5, 4),
    },
    "netcnnlip": {
        0: (96, 3, 5, 7, 7),
        4: (256, 96, 1, 5, 5),
        8: (256, 256, 1, 3, 3),
        11: (256, 256, 1, 3, 3),
        14: (256, 256, 1, 3, 3),
        18: (512, 256, 1, 6, 6),
    },
}


def original_state() -> dict[str, torch.Tensor]:
    """A state dict as the authors' file holds it, with random weights."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(prefix: str, width: int) -> None:
        shapes.update({f"{prefix}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")})

    for tower, layers in ORIGINAL_CONVOLUTIONS.items():
        for index, shape in layers.items():
            shapes |= {f"{tower}.{index}.weight": shape, f"{tower}.{index}.bias": shape[:1]}
            norm(f"{tower}.{index + 1}", shape[0])
    for head in ("netfcaud", "netfclip"):
        shapes |= {f"{head}.0.weight": (512, 512), f"{head}.0.bias": (512,)}
        norm(f"{head}.1", 512)
        shapes |= {f"{head}.3.weight": (1024, 512), f"{head}.3.bias": (1024,)}

    def value(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) > 1:
            return torch.randn(shape) * (2 / np.prod(shape[1:])) ** 0.5
        return torch.rand(shape) + 0.5 if name.endswith(("running_var", "weight")) else 0.05 * torch.randn(shape)

    return {name: value(name, shape) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def original() -> OriginalSyncModel:
    torch.manual_seed(0)
    network = OriginalSyncNet()
    network.load_state_dict(original_state(), strict=False)
    return OriginalSyncModel(network)


@pytest.mark.parametrize("suffix", [".model", ".safetensors"])
def test_the_original_state_dict_loads(tmp_path: Path, suffix: str) -> None:
    state, path = original_state(), tmp_path / f"syncnet_v2{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    model = load_sync_model(path)
    assert isinstance(model, OriginalSyncModel)
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    assert not model.network.training


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    state = original_state()
    wrong = {
        "missing.model": {name: value for name, value in state.items() if name != "netfclip.3.bias"},
        "unknown.model": state | {"more.weight": torch.zeros(1)},
        "shape.model": state | {"netfcaud.0.weight": torch.zeros(512, 100)},
        "list.model": [1, 2],
    }
    for name, content in wrong.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "code.model").write_bytes(pickle.dumps(Path("x"), protocol=2))
    (tmp_path / "text.model").write_text("no weights")
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    torch.save(state, tmp_path / "whole.model")
    (tmp_path / "half.model").write_bytes((tmp_path / "whole.model").read_bytes()[:100_000])
    for name in [*wrong, "code.model", "text.model", "cut.safetensors", "half.model", "none.model"]:
        with pytest.raises(InputError, match=name):
            load_sync_model(tmp_path / name)


def test_the_original_embeds_faces_window_by_window(original: OriginalSyncModel) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (7, 224, 224, 3), dtype=np.uint8)
    found = np.array([True] * 6 + [False])
    embeddings = original.embed_video(crops, found)
    assert embeddings.shape == (3, 1024)
    assert np.isfinite(embeddings).all(axis=1).tolist() == [True, True, False]
    alone = torch.from_numpy(crops[1:6].astype(np.float32)).permute(3, 0, 1, 2)[None]
    np.testing.assert_allclose(embeddings[1], original.network.embed_lips(alone)[0], rtol=1e-3, atol=1e-2)
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1


def test_the_original_hears_each_window_alone(original: OriginalSyncModel) -> None:
    rng = np.random.default_rng(0)
    voice = rng.uniform(-0.5, 0.5, 30 * 640)
    embeddings = original.embed_audio(voice, 30, 25.0)
    assert embeddings.shape == (26, 1024)
    # Row i hears 20 spectra from sample 640·i on, the last of which reaches 240 samples beyond 5 frames.
    changed = voice.copy()
    changed[640 * 15 + 240 :] = rng.uniform(-0.5, 0.5, len(voice) - 640 * 15 - 240)
    same = np.isclose(original.embed_audio(changed, 30, 25.0), embeddings, atol=1e-5).all(axis=1)
    assert same.tolist() == [True] * 11 + [False] * 15
    cepstra = torch.from_numpy(mfcc(np.round(voice * 32768))[4 * 3 : 4 * 3 + 20].T.astype(np.float32))
    np.testing.assert_allclose(
        embeddings[3], original.network.embed_audio(cepstra[None, None])[0], rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(("samples", "rows"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_cepstra_come_every_10_ms(samples: int, rows: int) -> None:
    assert mfcc(np.ones(samples)).shape == (rows, 13)


def test_louder_speech_changes_only_the_energy() -> None:
    noise = np.random.default_rng(0).normal(0, 1000, 4000)
    quiet, loud = mfcc(noise), mfcc(8 * noise)
    np.testing.assert_allclose(loud[:, 0] - quiet[:, 0], 2 * np.log(8))
    np.testing.assert_allclose(loud[:, 1:], quiet[:, 1:], atol=1e-9)


def test_silence_is_flat() -> None:
    cepstra = mfcc(np.zeros(800))
    np.testing.assert_allclose(cepstra[:, 0], np.log(np.finfo(float).eps))
    np.testing.assert_allclose(cepstra[:, 1:], 0, atol=1e-9)


def test_the_energy_of_an_impulse() -> None:
    impulse = np.zeros(400)
    impulse[0] = 3.0
    # Parseval over the half spectrum: |X(0)|² and |X(π)|² are counted once, the rest twice.
    whole = 9 * (1 + 0.97**2)
    edges = 9 * ((1 - 0.97) ** 2 + (1 + 0.97) ** 2) / 512
    np.testing.assert_allclose(np.exp(mfcc(impulse)[0, 0]), whole / 2 + edges / 2)


def test_filters_are_triangles_that_share_their_corners() -> None:
    filters = mel_filters()
    assert filters.shape == (26, 257)
    assert (filters.max(axis=1) == 1).all()
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    # Between the first and the last peak, neighbours add up to 1.
    np.testing.assert_allclose(filters[:, peaks[0] : peaks[-1]].sum(axis=0), 1)


def test_tracks_look_alike_in_any_light() -> None:
    crops = 255 * torch.rand(2, 6, 8, 8)
    brighter = 0.5 * crops + 60
    torch.testing.assert_close(normalize_tracks(brighter), normalize_tracks(crops), atol=0.1, rtol=0)
    still = crops[:, :1].expand(-1, 6, -1, -1)
    assert normalize_tracks(still)[:, :, 1].abs().max() < 1e-4
    found = torch.tensor([[True] * 3 + [False] * 3] * 2)
    torch.testing.assert_close(normalize_tracks(crops, found)[:, :3], normalize_tracks(crops[:, :3]))


def test_the_small_network_sees_and_hears_its_window_alone() -> None:
    network = SmallSyncNet()
    for module in network.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d)):
            module.running_mean.normal_()
    model = SmallSyncModel(network)
    rng = np.random.default_rng(0)
    found = np.arange(12) != 9
    crops = rng.integers(0, 256, (12, 48, 48), dtype=np.uint8)
    embeddings = model.embed_video(crops, found)
    assert embeddings.shape == (8, 128)
    assert np.isfinite(embeddings).all(axis=1).tolist() == [True] * 5 + [False] * 3
    np.testing.assert_allclose(np.linalg.norm(embeddings[:5], axis=1), 1, rtol=1e-5)
    spectra = torch.rand(1, 12, 160)
    heard = network.embed_voices(spectra)
    changed = spectra.clone()
    changed[:, 9:] = 0
    same = torch.isclose(network.embed_voices(changed), heard, atol=1e-6).all(dim=2)[0]
    # The first layer looks a quarter of a frame ahead.
    assert same.tolist() == [True] * 4 + [False] * 4


def test_frame_rates() -> None:
    rates = {23.976: 23.976, 24: 24, 25: 25, 30: 25, 12: 25, 48: 24, 50: 25, 60: 25}
    for fps, wanted in rates.items():
        assert load_sync_model().frame_rate(fps) == wanted


def test_the_package_brings_small_weights() -> None:
    assert WEIGHTS.stat().st_size < 1.5e6
    model = load_sync_model()
    again = load_sync_model(WEIGHTS)
    assert isinstance(again, SmallSyncModel)
    voice = np.random.default_rng(0).uniform(-0.1, 0.1, 16000)
    np.testing.assert_array_equal(model.embed_audio(voice, 24, 24.0), again.embed_audio(voice, 24, 24.0))
