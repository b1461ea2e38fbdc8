"""Convert Resemblyzer's speaker encoder (PyTorch, Apache-2.0) to the file that the package carries.

    pip download --no-deps resemblyzer==0.1.4
    unzip Resemblyzer-0.1.4-*.whl
    pip install librosa webrtcvad-wheels
    python tools/convert_voice_encoder.py resemblyzer src/anytalker/diarization/weights/ge2e.safetensors

The original's code, from the unpacked wheel, embeds the same sound: spectra must agree to 1e-4 of their largest value,
and so must the embeddings to 2e-3, as the file has half precision.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from safetensors.torch import save_file

from anytalker.diarization.voice_encoder import VoiceEncoder, _mel


def original(folder: Path) -> types.ModuleType:
    """The original package; it asks for a name that scipy no longer has, and never uses it here."""
    moved = types.ModuleType("scipy.ndimage.morphology")
    moved.binary_dilation = scipy.ndimage.binary_dilation  # type: ignore[attr-defined]
    sys.modules["scipy.ndimage.morphology"] = moved
    sys.path.insert(0, str(folder.resolve().parent))
    return importlib.import_module(folder.name)


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The weights of the encoder, without its optimizer and loss."""
    state = torch.load(file, map_location="cpu", weights_only=True)["model_state"]
    return {name: value.half().contiguous() for name, value in state.items() if not name.startswith("similarity_")}


def differences(folder: Path, network: VoiceEncoder) -> tuple[float, float]:
    """The largest differences of spectra, relative to the largest value, and of embeddings, on a sweep in noise."""
    package = original(folder)
    times = np.arange(160 * 160 - 1) / 16000
    rng = np.random.default_rng(0)
    sweeps = [np.sin(2 * np.pi * (start * times + 300 * times**2)) for start in (80, 150, 300, 1000)]
    sounds = np.stack([0.1 * sweep + 0.02 * rng.standard_normal(len(times)) for sweep in sweeps]).astype(np.float32)
    spectra = np.stack([package.audio.wav_to_mel_spectrogram(sound) for sound in sounds])
    with torch.no_grad():
        ours = _mel(torch.from_numpy(sounds)).numpy()
        expected = package.VoiceEncoder("cpu", verbose=False)(torch.from_numpy(spectra)).numpy()
        embeddings = network(torch.from_numpy(spectra)).numpy()
    return float(np.abs(ours - spectra).max() / spectra.max()), float(np.abs(embeddings - expected).max())


def main() -> None:
    """Convert, compare, write."""
    folder, target = Path(sys.argv[1]), sys.argv[2]
    weights = read_weights(folder / "pretrained.pt")
    network = VoiceEncoder()
    network.load_state_dict({name: value.float() for name, value in weights.items()})
    spectra, embeddings = differences(folder, network.eval())
    if spectra > 1e-4 or embeddings > 2e-3:
        sys.exit(f"The converted encoder differs: spectra by {spectra:g}, embeddings by {embeddings:g}.")
    save_file(weights, target)
    print(f"Wrote {target}; spectra differ by {spectra:.1e} at most, embeddings by {embeddings:.1e}.")


if __name__ == "__main__":
    main()
