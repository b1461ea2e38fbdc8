"""SyncNet: judges of lip sync behind one interface, the authors' own network and the small one of this package.

Chung & Zisserman, "Out of time: automated lip sync in the wild", 2016. The original's weights, `syncnet_v2.model` of
the authors' `syncnet_python`, give the Sync-C and Sync-D that papers report; they are not part of this package.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

from anytalker.errors import InputError
from anytalker.evaluation.lip_sync.crops import FaceCrop
from anytalker.evaluation.lip_sync.mfcc import mfcc
from anytalker.evaluation.lip_sync.small_syncnet import SmallSyncModel, SmallSyncNet

_BATCH = 20


class SyncModel(Protocol):
    """Maps faces and voices to vectors that lie close together where they belong together.

    Attributes:
        name: what reports call it; scores of different models can't be compared.
        crop: what it sees of a face.
        window: video frames an embedding is of.
        zero_padding: whether beyond the sound there are vectors of zeros, else nothing.
    """

    name: str
    crop: FaceCrop
    window: int
    zero_padding: bool

    def frame_rate(self, fps: float) -> float:
        """Frames a second that it judges a video of `fps` at."""

    def embed_video(self, crops: np.ndarray, found: np.ndarray | None = None) -> np.ndarray:
        """Embed a track of crops.

        Args:
            crops: uint8 (T, *crop.shape) at a rate that `frame_rate` gave, T at least `window`.
            found: boolean (T,), frames that show the face; None: all.

        Returns:
            float32 (T - window + 1, channels), NaN where a window misses a face; row i is of `window` frames from i.
        """

    def embed_audio(self, waveform: np.ndarray, num_frames: int, fps: float) -> np.ndarray:
        """Embed a voice.

        Args:
            waveform: 16 kHz (samples,) in [-1, 1]; it is followed by silence.
            num_frames: frames T of the video.
            fps: its rate, as `frame_rate` gave it.

        Returns:
            float32 (T - window + 1, channels); row i is of the sound during `window` frames from i.
        """


def _block(conv: nn.Module, norm: nn.Module) -> list[nn.Module]:
    return [conv, norm, nn.ReLU(inplace=True)]


def _conv2d(channels_in: int, channels_out: int, kernel: int | tuple[int, int], padding: int = 1) -> list[nn.Module]:
    return _block(nn.Conv2d(channels_in, channels_out, kernel, padding=padding), nn.BatchNorm2d(channels_out))


def _conv3d(
    channels_in: int, channels_out: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    conv = nn.Conv3d(channels_in, channels_out, kernel, (1, stride, stride), (0, padding, padding))
    return _block(conv, nn.BatchNorm3d(channels_out))


def _head(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, channels))


class OriginalSyncNet(nn.Module):
    """The authors' network; module names and order are those of their weights.

    Args:
        channels: length of an embedding.
    """

    def __init__(self, channels: int = 1024) -> None:
        super().__init__()
        # Pooling layers hold no weights, but they count in the numbers of the layers after them.
        self.netcnnaud = nn.Sequential(
            *_conv2d(1, 64, 3),
            nn.Identity(),
            *_conv2d(64, 192, 3),
            nn.MaxPool2d(3, (1, 2)),
            *_conv2d(192, 384, 3),
            *_conv2d(384, 256, 3),
            *_conv2d(256, 256, 3),
            nn.MaxPool2d(3, 2),
            *_conv2d(256, 512, (5, 4), padding=0),
        )
        self.netfcaud = _head(channels)
        self.netcnnlip = nn.Sequential(
            *_conv3d(3, 96, (5, 7, 7), stride=2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(96, 256, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            *_conv3d(256, 256, (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv3d(256, 512, (1, 6, 6)),
        )
        self.netfclip = _head(channels)

    def embed_audio(self, cepstra: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, channels) of cepstra (B, 1, 13, 20), one column every 10 ms."""
        return self.netfcaud(self.netcnnaud(cepstra).flatten(1))

    def embed_lips(self, faces: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, channels) of faces (B, 3, 5, 224, 224), BGR from 0 to 255."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))


class OriginalSyncModel:
    """The original SyncNet as a `SyncModel`, with its own preprocessing: 25 fps, wide face crops, cepstra.

    The crop is that of the authors' pipeline around a detected face (box side × 1.4, moved down by a fifth, boxes
    smoothed by a median over 13 frames, grey 110 outside the picture); other detectors' boxes give slightly other
    scores. There is one window more than in the authors' code, which leaves out the last.
    """

    name = "syncnet_v2"
    crop = FaceCrop(size=224, side=1.4, shift=(0.0, 0.2), color="bgr", smoothing=13, filling=110)
    window = 5
    zero_padding = True

    def __init__(self, network: OriginalSyncNet, device: str | torch.device = "cpu") -> None:
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = torch.device(device)

    def frame_rate(self, fps: float) -> float:
        """Always 25."""
        return 25.0

    @torch.no_grad()
    def embed_video(self, crops: np.ndarray, found: np.ndarray | None = None) -> np.ndarray:
        """See `SyncModel`; crops are BGR (T, 224, 224, 3), embeddings (T-4, 1024)."""
        windows = np.lib.stride_tricks.sliding_window_view(crops, self.window, axis=0)
        parts = []
        for start in range(0, len(windows), _BATCH):
            faces = torch.tensor(windows[start : start + _BATCH]).permute(0, 3, 4, 1, 2)
            parts.append(self.network.embed_lips(faces.to(self.device, torch.float32)).cpu().numpy())
        embeddings = np.concatenate(parts)
        if found is None:
            return embeddings
        whole = np.lib.stride_tricks.sliding_window_view(found, self.window).all(axis=1, keepdims=True)
        return np.where(whole, embeddings, np.float32(np.nan))

    @torch.no_grad()
    def embed_audio(self, waveform: np.ndarray, num_frames: int, fps: float = 25.0) -> np.ndarray:
        """See `SyncModel`; embeddings (num_frames-4, 1024)."""
        samples = np.zeros(num_frames * 640 + 160)
        heard = np.clip(np.round(np.asarray(waveform, dtype=np.float64) * 32768), -32768, 32767)[: num_frames * 640]
        samples[: len(heard)] = heard
        cepstra = torch.from_numpy(mfcc(samples).T.astype(np.float32))
        windows = cepstra.unfold(1, 4 * self.window, 4)[:, : num_frames - self.window + 1].transpose(0, 1)[:, None]
        parts = [self.network.embed_audio(part.to(self.device)).cpu() for part in windows.split(_BATCH)]
        return torch.cat(parts).numpy()


def load_sync_model(source: str | Path | None = None, device: str | torch.device = "cpu") -> SyncModel:
    """A judge of lip sync.

    Args:
        source: None for the small SyncNet of the package, trained on the drawn world of the miniature and meant for it;
            or a file: the authors' `syncnet_v2.model` (a torch file, of which only tensors are read, never code), the
            same as safetensors, or a small SyncNet trained elsewhere.
        device: where it runs.

    Raises:
        InputError: if there is no such file, it is damaged, could run code, or holds other weights.
    """
    if source is None:
        return SmallSyncModel.from_pretrained(device=device)
    path = Path(source)
    state = _read_tensors(path)
    # Counts of batches were not kept by old versions of torch and matter to nobody.
    state = {name: tensor.float() for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    network: SmallSyncNet | OriginalSyncNet = SmallSyncNet() if "mouth.6.weight" in state else OriginalSyncNet()
    wanted = {name: value.shape for name, value in network.state_dict().items() if value.is_floating_point()}
    wrong = [name for name in sorted(wanted.keys() | state.keys()) if _shape(state, name) != wanted.get(name)]
    if wrong:
        raise InputError(
            f"{path} holds no weights of a SyncNet ({len(wrong)} tensors are missing, unknown or of another shape, "
            f"such as {wrong[0]}); give the authors' syncnet_v2.model, or none for the small one of the package."
        )
    network.load_state_dict(state, strict=False)
    if isinstance(network, SmallSyncNet):
        return SmallSyncModel(network, device)
    return OriginalSyncModel(network, device)


def _shape(state: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(f"There are no SyncNet weights {path}. Check the path.")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is no file of weights, or holds more than tensors and could run code when loaded; give a plain "
            "state dict or safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged or no file of weights; download it again.") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError(f"{path} holds something else than named tensors; give the authors' syncnet_v2.model.")
    return content
