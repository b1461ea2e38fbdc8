"""A prepared video, of any length: denoised window by window, decoded chunk by chunk, written while it is decoded."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import empty_device_cache
from PIL import Image

from anytalker.denoising.denoiser import Conditioning, Denoiser, DenoisingRun
from anytalker.denoising.noise import GivenNoise, Noise
from anytalker.denoising.segments import STATE_FORMAT, KeptWindows
from anytalker.errors import AnyTalkerError, InputError, first_line
from anytalker.failures import is_out_of_memory
from anytalker.files import write_json_atomic
from anytalker.hardware.placement import Memory
from anytalker.media.destination import check_record, making, parts_folder, record_path
from anytalker.media.picture_groups import EarlierPictures, KeptFrames
from anytalker.media.recordings import SAMPLE_RATE
from anytalker.media.video import Stopwatch, write_video
from anytalker.models.latents import CHUNK, decode_chunks, decode_frames, enlarged
from anytalker.pipelines.encoding import shown_picture
from anytalker.pipelines.inputs import Inputs
from anytalker.pipelines.kept import Editable, read_earlier
from anytalker.pipelines.parts import INTERVAL, VIDEO, Parts, identity_of
from anytalker.pipelines.result import TalkingVideo, VideoFile
from anytalker.pipelines.subtitles import burned, labelled
from anytalker.processes import is_first

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Previews:
    """Pictures of a video in the making.

    Attributes:
        show: called with a picture at the video's size.
        every: steps from one to the next.
    """

    show: Callable[[Image.Image], None]
    every: int = 1


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class PreparedVideo:
    """A video whose inputs are encoded, ready to be denoised, decoded and collected or written.

    Attributes:
        vae: the autoencoder.
        denoiser: the transformer and the sampler.
        inputs: checked.
        conditioning: the inputs, encoded.
        noise: that denoising starts from.
        model: name of the model.
        choices: settings for the record.
        modules: all models, for the identity of the video.
        memory: what is on the device at a time.
        report: called as (stage, done, total).
        stopwatch: seconds by stage.
        remark: what the user should know before the video is made, in lines.
        on_step_end: called after each step of a window.
        interrupted: asked after each step whether to end there, and while a file is written.
        label: text in the corner of every frame that is written, such as "AI-generated"; None: none.
        previews: shown by `to_file` while it denoises, where the autoencoder is on the device anyway; None: none.
    """

    vae: Any
    denoiser: Denoiser
    inputs: Inputs
    conditioning: Conditioning
    noise: Noise | GivenNoise
    model: str
    choices: Mapping[str, Any]
    modules: Mapping[str, Any]
    memory: Memory = "high"
    report: Progress = lambda stage, done, total: None
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    remark: str = ""
    on_step_end: Callable[[DenoisingRun], None] | None = None
    interrupted: Callable[[], bool] = lambda: False
    previews: Previews | None = None
    label: str | None = None

    def denoise(self) -> Iterator[torch.Tensor]:
        """Final latents (1, 16, n, h, w) in order, as soon as they are ready; interrupted, the others as they are."""
        run = self.denoiser.begin(self.noise, self.conditioning)
        while run.done < run.total:
            self._advance(run)
            yield from run.finished()
            if self.interrupted():
                yield from run.unfinished()
                return

    def decode(self, latents: Iterable[torch.Tensor], eight_bit: bool = False) -> Iterator[np.ndarray]:
        """Video frames, float32 chunks (t, H, W, 3) in [0, 1], in order, as soon as they are ready.

        Args:
            latents: of `denoise`; where they are computed on the way, that is timed and reported as denoising.
            eight_bit: return uint8 instead, as files have them, rounded on the device: a quarter of the bytes leave it.

        Raises:
            InputError: if a frame that is to be rounded holds values that are not numbers.
        """
        total = 4 * self.conditioning.latent_frames - 3
        chunks = decode_chunks(self.vae, latents, shown_picture(self.inputs))
        yield from self._pixels(chunks, 0, total, eight_bit)

    def _pixels(self, chunks: Iterator[torch.Tensor], done: int, total: int, eight_bit: bool) -> Iterator[np.ndarray]:
        """See `decode`; `done` of `total` frames are decoded already."""
        size = 4 * CHUNK
        self.report("decode", -(-done // size), -(-total // size))
        while True:
            with self.stopwatch.stage("decode", besides="denoise"):
                pixels = next(chunks, None)
            if pixels is None:
                return
            done += pixels.shape[2]
            self.report("decode", -(-done // size), -(-total // size))
            yield _on_cpu(pixels[0].float().add_(1).div_(2).permute(1, 2, 3, 0), eight_bit)
            del pixels

    def collect(self, chunks: Iterable[np.ndarray]) -> TalkingVideo:
        """The video with all its frames in memory, from the chunks of `decode`; interrupted, those there are."""
        width, height = self.inputs.image.size
        frames = np.empty((self.inputs.frames, height, width, 3), dtype=np.float32)
        done = 0
        for chunk in chunks:
            frames[done : done + len(chunk)] = chunk
            done += len(chunk)
        return self.result(frames[:done])

    def result(self, frames: Any) -> TalkingVideo:
        """The finished video, with frames in any form."""
        return TalkingVideo(self.inputs, self.model, self.choices, self.stopwatch.seconds, frames, self.noise.seed)

    def to_file(
        self,
        path: str | Path,
        say: Callable[[str], None] = lambda message: None,
        interval: float = INTERVAL,
        fingerprint: str | None = None,
        keep: bool = False,
        edit_of: str | Path | None = None,
    ) -> VideoFile:
        """Denoise, decode and write the video and its record; see `AnyTalkerPipeline.generate_to`."""
        check_record(path)
        if self.remark and is_first():
            say(self.remark)
        if self.denoiser.transformer.split_rows.devices > 1:
            if keep or edit_of:
                raise InputError("Latents are neither kept nor used where several devices make one video.")
            return self._together(Path(path), fingerprint)
        identity = self.identity()
        windows = self.denoiser.windows(self.conditioning.latent_frames)
        earlier = None if edit_of is None else read_earlier(edit_of)
        kept = None if earlier is None else earlier.unchanged(identity, windows, self.inputs)
        if kept is not None:
            say(f"{len(windows) - len(kept.numbers)} of {len(windows)} windows are made again.")
            parts = Parts(parts_folder(path), identity | {"edit_of": str(edit_of)}, math.inf, fingerprint=fingerprint)
        else:
            parts = Parts(parts_folder(path), identity, interval, fingerprint=fingerprint)
        try:
            with making(path):
                unsaved = self._denoise(parts, say, kept)
                if not keep and earlier is None:
                    return self._write(Path(path), parts, unsaved)
                drawn = None if self.inputs.subtitles == "burn" else self.label or ""
                editable = Editable(identity, windows, self.inputs, drawn, earlier)
                return self._write_editable(Path(path), parts, unsaved, editable)
        except KeyboardInterrupt:
            if not parts.exist:
                raise
            raise KeyboardInterrupt(f"Interrupted. {_kept(parts)}") from None
        except Exception as error:
            reason = _shortage(error, Path(path), self._advice())
            if reason is None:
                raise
            raise AnyTalkerError(f"{reason} {_kept(parts)}".rstrip()) from error

    def identity(self) -> dict[str, str]:
        """What the video is made of; the same identity, the same video."""
        from anytalker import __version__

        inputs, denoiser = self.inputs, self.denoiser
        values = {
            "anytalker": f"{__version__}, state {STATE_FORMAT}",
            "image": np.asarray(inputs.image),
            "faces": inputs.boxes,
            "upscaled": "photograph" if inputs.areas is not None else inputs.small is not None,
            "picture": None if inputs.picture is None else np.asarray(inputs.picture),
            "voices": [voice.waveform.recording for voice in inputs.voices],
            "frames": inputs.frames,
            "fps": inputs.fps,
            "seed": self.noise.state(),
            # What was left out, diffusers lists there in the order of a set.
            "sampler": {name: one for name, one in denoiser.scheduler.config.items() if name != "_use_default_values"},
            **self.choices,
        }
        return identity_of(values, dict(self.modules))

    def _advice(self) -> str:
        """The next setting that takes less memory."""
        if self.denoiser.window is None and self.conditioning.latent_frames > 21:
            return "add --window 20, with which the length doesn't matter"
        if self.denoiser.guidance.batched:
            return "leave --batch-guidance out"
        smaller = {"high": "balanced", "balanced": "low"}.get(self.memory)
        if smaller and self.conditioning.condition.device.type != "cpu":
            return f"add --memory {smaller}"
        return "give a smaller picture or a smaller model"

    def _advance(self, run: DenoisingRun) -> None:
        with self.stopwatch.stage("denoise"):
            run.advance()
        if run.done == run.total:  # what the allocator keeps of the steps is in pieces too small for decoding
            empty_device_cache(self.conditioning.condition.device.type)
        self.report("denoise", run.done, run.total)
        if self.on_step_end is not None:
            self.on_step_end(run)

    def _stop_if_interrupted(self) -> None:
        if self.interrupted():
            raise KeyboardInterrupt("Interrupted.")

    def _preview(self, run: DenoisingRun) -> None:
        """Show what the video will look like, if it is time."""
        if self.previews is None or self.memory != "high" or run.done % self.previews.every or run.done == run.total:
            return
        latents = run.estimate()
        if latents is None:
            return
        with self.stopwatch.stage("preview"):
            last = next(decode_chunks(self.vae, [latents]))[:, :, -1:]
            pixels = enlarged(self.vae, last, shown_picture(self.inputs))[0].float().add_(1).div_(2).permute(1, 2, 3, 0)
            if bool(torch.isfinite(pixels).all()):
                self.previews.show(Image.fromarray(_on_cpu(pixels, True)[0]))

    def _denoise(self, parts: Parts, say: Callable[[str], None], kept: KeptWindows | None = None) -> list[torch.Tensor]:
        """Take all steps, from where the parts are on; returns the final latents that are not saved among them."""
        state, message = parts.load()
        if message is not None:
            say(message)
        run = self.denoiser.begin(self.noise, self.conditioning, kept)
        if state is not None:
            self.noise.restore(state.pop("noise"))
            run.restore(state)
            say(f"Going on at {run.done / run.total:.0%} with the parts in {parts.folder}.")
        self.report("denoise", run.done, run.total)
        unsaved: list[torch.Tensor] = []
        while run.done < run.total:
            self._stop_if_interrupted()
            self._advance(run)
            self._preview(run)
            unsaved += run.finished()
            if parts.due or (run.done == run.total and parts.exist):
                parts.save(unsaved, run.state() | {"noise": self.noise.state()})
                unsaved = []
        return unsaved

    def _frames(self, decoded: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What is written: uint8 chunks (t, H, W, 3), with subtitles and a label if they are wanted."""
        frames = self._unless_interrupted(decoded)
        if self.inputs.timeline is not None and self.inputs.subtitles == "burn":
            frames = burned(frames, self.inputs.timeline, self.inputs.fps)
        return frames if self.label is None else labelled(frames, self.label)

    def _edited(
        self, latents: torch.Tensor, stretches: list[tuple[bool, KeptFrames]]
    ) -> Iterator[np.ndarray | KeptFrames]:
        """What is written of an edited video: chunks as `_frames` gives them, or the frames that are copied."""
        done, total = 0, sum(span.stop - span.start for same, span in stretches if not same)
        device = self.conditioning.condition.device
        for same, span in stretches:
            self._stop_if_interrupted()
            if same:
                yield span
                continue
            chunks = decode_frames(self.vae, latents, span.start, span.stop, device, shown_picture(self.inputs))
            yield from self._frames(self._pixels(chunks, done, total, eight_bit=True))
            done += span.stop - span.start

    def _unless_interrupted(self, chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for chunk in chunks:
            self._stop_if_interrupted()
            yield chunk

    def _together(self, path: Path, fingerprint: str | None) -> VideoFile:
        """Make the video with other processes; the first one writes it, at once and without parts."""
        with making(path) if is_first() else nullcontext():
            latents = list(self.denoise())
            video = VideoFile(self.inputs, self.model, self.choices, self.stopwatch.seconds, path)
            if is_first():
                write_video(
                    path,
                    self._frames(self.decode(latents, eight_bit=True)),
                    video.fps,
                    video.mixture,
                    SAMPLE_RATE,
                    chapters=video.chapters,
                    settings=video.inside(self.noise.seed),
                )
                write_json_atomic(
                    record_path(path), video.record(self.noise.seed, fingerprint, path.parent).model_dump()
                )
            return video

    def _write(self, path: Path, parts: Parts, unsaved: list[torch.Tensor]) -> VideoFile:
        """Decode and write the video and its record, then remove the parts."""
        device = self.conditioning.condition.device
        latents = (part.to(device) for part in chain(parts.read(), unsaved))
        return self._finish(path, parts, self._frames(self.decode(latents, eight_bit=True)))

    def _write_editable(self, path: Path, parts: Parts, unsaved: list[torch.Tensor], editable: Editable) -> VideoFile:
        """As `_write`, with what an edited video can take of the earlier one, and with the latents."""
        latents = torch.cat([part.cpu() for part in chain(parts.read(), unsaved)], dim=2)
        pictures, stretches = editable.plan(self.vae, latents)
        frames = self._edited(latents, stretches)
        return self._finish(path, parts, frames, pictures, lambda written: editable.keep(path, written, latents))

    def _finish(
        self,
        path: Path,
        parts: Parts,
        frames: Iterator[np.ndarray | KeptFrames],
        pictures: EarlierPictures | None = None,
        keep: Callable[[Path], None] | None = None,
    ) -> VideoFile:
        """Write the video and its record, then remove the parts; `keep` is called with where the MP4 is till then."""
        video = VideoFile(self.inputs, self.model, self.choices, self.stopwatch.seconds, path)
        # Half-written videos belong to the parts: a run that is killed leaves nothing else behind.
        target = parts.folder / VIDEO if parts.exist else path
        write_video(
            target,
            frames,
            video.fps,
            video.mixture,
            SAMPLE_RATE,
            chapters=video.chapters,
            settings=video.inside(self.noise.seed),
            groups=keep is not None,
            earlier=pictures,
        )
        if keep is not None:
            keep(target)
        write_json_atomic(record_path(path), video.record(self.noise.seed, parts.fingerprint, path.parent).model_dump())
        if target != path:
            target.replace(path)
        parts.remove()
        return video


def _on_cpu(frames: torch.Tensor, eight_bit: bool) -> np.ndarray:
    """Frames (t, H, W, 3) in [0, 1]; as uint8 the bytes that `write_video` would make of them."""
    if not eight_bit:
        return frames.cpu().numpy()
    if not bool(torch.isfinite(frames).all()):
        raise InputError("A frame holds values that are not numbers.")
    return frames.mul_(255).round_().to(torch.uint8).contiguous().cpu().numpy()


def _kept(parts: Parts) -> str:
    if not parts.exist:
        return ""
    return f"The same command goes on where it stopped: finished parts are kept in {parts.folder}."


def _shortage(error: BaseException, path: Path, advice: str) -> str | None:
    """What to say if disk, memory or the GPU gave out; None if an exception means something else."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, OSError) and known.errno in _FULL:
            return (
                f"The disk is full: {path} and its parts can't be written. Free some space in {path.absolute().parent}."
            )
        text = str(known)
        if is_out_of_memory(known):
            return f"Out of memory. Close other programs, or {advice}."
        # cuBLAS's errors have no class of their own, nor had any others before PyTorch 2.8.
        lost = isinstance(known, getattr(torch, "AcceleratorError", ()))
        if lost or (isinstance(known, RuntimeError) and "CUDA error" in text):
            return (
                f"The GPU stopped working ({first_line(known)}). Close other programs that use it, or give "
                "--device cpu."
            )
        known = known.__cause__
    return None
