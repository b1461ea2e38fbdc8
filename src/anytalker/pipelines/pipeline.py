"""AnyTalkerPipeline: one picture, one voice a person, out comes a video in which everyone speaks their own words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from PIL import Image

from anytalker.conditioning.audio_features import audio_rows
from anytalker.conditioning.binding import FaceMask
from anytalker.conditioning.faces import clip_pixels, crop_face
from anytalker.conditioning.log_mel import windows
from anytalker.conditioning.masks import condition_mask, face_token_masks
from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.noise import Noise
from anytalker.denoising.windows import WindowChoice, check_positions, window_remark, with_window
from anytalker.hardware.acceleration import compiling_pays
from anytalker.hardware.placement import Memory
from anytalker.loading.components import load_components, save_components
from anytalker.loading.quiet import quiet_bars
from anytalker.media.channels import split_channel
from anytalker.media.destination import check_destination
from anytalker.media.pictures import to_video_tensor
from anytalker.media.video import Stopwatch
from anytalker.models.latents import condition_latents
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.inputs import Inputs, Rounding, prepare_inputs
from anytalker.pipelines.limits import MAX_STEPS, check_number, check_strengths
from anytalker.pipelines.long_video import Production, Progress
from anytalker.pipelines.parts import INTERVAL
from anytalker.pipelines.result import TalkingVideo, VideoFile


class AnyTalkerPipeline(DiffusionPipeline):
    """Talking video of any number of people (paper sections 3 and 4.1; sampler and preparation of the release).

    Args:
        transformer: the video diffusion transformer.
        vae: video autoencoder with Wan's 4×8×8 contract and latent statistics in its configuration.
        text_encoder: UMT5 encoder.
        tokenizer: its tokenizer.
        image_encoder: CLIP vision tower; its hidden states before the last layer are used.
        scheduler: UniPC with flow sigmas.
        audio_features: features of the voices, see `anytalker.conditioning.audio_features`.
        settings: sizes and defaults.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"

    def __init__(
        self,
        transformer: AnyTalkerTransformer3DModel,
        vae: Any,
        text_encoder: Any,
        tokenizer: Any,
        image_encoder: Any,
        scheduler: UniPCMultistepScheduler,
        audio_features: Any,
        settings: PipelineSettings | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            transformer=transformer,
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            scheduler=scheduler,
            audio_features=audio_features,
        )
        self.settings = settings or PipelineSettings()
        self.memory: Memory = "high"
        self.variant: dict[str, Any] = {}
        self.compile_where_it_pays = False

    @classmethod
    def from_pretrained(cls, model: str | Path = "tiny", **kwargs: Any) -> AnyTalkerPipeline:
        """Load a model by its name ("tiny" comes with the package) or from a folder.

        Args:
            model: "tiny", or a folder written by `save_pretrained`.
            **kwargs: `torch_dtype`, the floating point type of the large parts (default float32).

        Raises:
            InputError: if there is no such model, or its folder lacks something.
        """
        with quiet_bars():
            return cls(**load_components(model, **kwargs))

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write all components and the settings to a folder that `from_pretrained` reads."""
        parts = dict(self.components)
        save_components(Path(save_directory), parts, self.settings)

    def __call__(
        self,
        image: Image.Image | str | Path,
        audio: Sequence[Any],
        faces: Sequence[Any] | None = None,
        prompt: str = "",
        **options: Any,
    ) -> TalkingVideo:
        """Make a video in memory; for long ones see `generate_to`.

        Args:
            image, audio, faces, prompt, **options: see `prepare`.

        Returns:
            The video: `.frames` float32 (T, H, W, 3) in [0, 1], `.save(path)` writes it with the voices.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        return self.prepare(image, audio, faces, prompt, **options).in_memory()

    def stream(self, image: Any, audio: Sequence[Any], **options: Any) -> Iterator[np.ndarray]:
        """Make a video chunk by chunk, in memory that doesn't grow with its length.

        Args:
            image, audio, **options: see `prepare`.

        Yields:
            Frames in order, float32 (t, H, W, 3) in [0, 1], as soon as they are ready; together those of a call.
        """
        return self.prepare(image, audio, **options).frames()

    def generate_to(
        self,
        path: str | Path,
        image: Any,
        audio: Sequence[Any],
        say: Callable[[str], None] = lambda message: None,
        interval: float = INTERVAL,
        fingerprint: str | None = None,
        **options: Any,
    ) -> VideoFile:
        """Make a video of any length and write it, in memory that doesn't grow with its length.

        Writes an MP4, and beside it the record of the run, talk.json for talk.mp4. Whatever takes longer than
        `interval` leaves finished parts in the folder talk.parts until the video is complete. The same call goes on
        from there, after an interruption or a crash, and comes to the same video.

        Args:
            path: the MP4 to write.
            image, audio, **options: see `prepare`.
            say: told, in a sentence, when work is taken up again or parts can't be used.
            interval: seconds between two savings of the parts; 0: after every step.
            fingerprint: goes into the record, so that the command line knows the video again.

        Raises:
            InputError: for anything that can't be used, naming it, if an input or an unrelated talk.json would be
                overwritten, and if another run is making the same video.
            AnyTalkerError: if disk or memory runs out; finished parts are kept.
            KeyboardInterrupt: its message says where the finished parts are.
        """
        faces = options.get("faces")
        masks = [] if faces is None else [face.name for face in faces if isinstance(face, FaceMask)]
        recordings = [split_channel(one)[0] for one in audio if isinstance(one, (str, Path))]
        check_destination(path, [*recordings, *([image] if isinstance(image, (str, Path)) else []), *masks])
        return self.prepare(image, audio, **options).to_file(path, say, interval, fingerprint)

    @torch.no_grad()
    def prepare(
        self,
        image: Image.Image | str | Path,
        audio: Sequence[Any],
        faces: Sequence[Any] | None = None,
        prompt: str = "",
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        audio_guidance_scale: float | None = None,
        voice_strengths: Sequence[float] | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        batch_guidance: bool = False,
        mode: str = "pad",
        fps: float | None = None,
        max_frames: int | None = None,
        window: WindowChoice = None,
        size: tuple[int, int] | None = None,
        scale: float | None = None,
        rounding: Rounding = "up",
        on_progress: Progress | None = None,
    ) -> Production:
        """Check and encode everything that a video is made of.

        Args:
            image: the picture, or its path.
            audio: one entry a person: a path, a 16 kHz mono array (samples,), a `Voice` that was
                loaded before, or None for a person who listens.
            faces: who speaks, the i-th for the i-th audio: face boxes (x, y, width, height) in pixels of the picture,
                points (x, y), numbers from the left, or `FaceMask`s; None: the i-th person from the left.
                Everybody else who is found listens. Faces of a record beside the picture (see
                `conditioning.picture_record`) are not sought.
            prompt: what happens in the video.
            negative_prompt: prompt of the null branch of guidance; None: the model's.
            num_inference_steps: 1 to 1000; None: the model's default.
            guidance_scale: 0 to 100, 1 for none; None: the model's default.
            generator: source of the noise (on the CPU); None: a random one.
            audio_guidance_scale: 0 to 100; None: the same as `guidance_scale`, as in the release.
            voice_strengths: one factor a person, 0 to 10, on how much the voice moves the face; None: 1 for all.
            guidance_interval: shares of the steps between which there is guidance; the release's is (0, 1).
            batch_guidance: compute all branches of guidance in one batch: faster on a GPU that has room for it.
            mode: "pad" if the audios share a clock, "concat" if they follow each other.
            fps: video frames a second; None: the model's default.
            max_frames: cut the video to at most that many frames.
            window: latent frames denoised together, see docs/long_video.md; "none": all at once, as the release does;
                None: the model's default.
            size: (width, height) of the video in pixels, of the picture's shape; None: what suits the model.
            scale: make the sides of the video that many times what suits the model, 0.1 to 8.
            rounding: "up": no sound is cut, and the video lasts under 4 frames longer; "release": up to 4 frames less.
            on_progress: called as (stage, done, total) with stages "prepare", "denoise", in steps of windows, and
                "decode", in chunks.

        Returns:
            The video to be made: in memory, to a file, or as a stream of frames.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        settings = with_window(self.settings, window)
        steps = settings.num_inference_steps if num_inference_steps is None else num_inference_steps
        steps = int(check_number("num_inference_steps (--steps)", steps, 1, MAX_STEPS))
        text_scale = settings.guidance_scale if guidance_scale is None else guidance_scale
        text_scale = check_number("guidance_scale", text_scale, 0, 100)
        audio_scale = text_scale if audio_guidance_scale is None else audio_guidance_scale
        audio_scale = check_number("audio_guidance_scale", audio_scale, 0, 100)
        start = check_number("guidance_interval's start", guidance_interval[0], 0, 1)
        interval = (start, check_number("guidance_interval's end", guidance_interval[1], start, 1))
        report = on_progress or (lambda stage, done, total: None)
        self.maybe_free_model_hooks()
        stopwatch = Stopwatch()
        with stopwatch.stage("prepare"):
            report("prepare", 0, 1)
            # Devices that share a video take the same number of token rows each.
            multiple = math.lcm(settings.size_multiple, 16 * self.transformer.split_rows.devices)
            settings = replace(settings, size_multiple=multiple)
            inputs = prepare_inputs(image, audio, faces, settings, mode, fps, max_frames, size, scale, rounding)
            check_positions(inputs.frames, inputs.image.size, settings, self.transformer.config.rope_max_seq_len)
            strengths = check_strengths(voice_strengths, len(inputs.boxes))
            conditioning = self.encode(inputs, prompt, negative_prompt)
            report("prepare", 1, 1)
        guidance = Guidance(text_scale, audio_scale, strengths, interval, batch_guidance)
        denoiser = Denoiser(
            self.transformer,
            self.scheduler,
            steps,
            guidance,
            settings.window,
            settings.window_overlap,
            keep_contexts=self.memory != "low",
        )
        if self.compile_where_it_pays:
            denoiser.compiled = self._pays(denoiser, conditioning)
        choices = {
            "prompt": prompt,
            "negative_prompt": settings.negative_prompt if negative_prompt is None else negative_prompt,
            "num_inference_steps": steps,
            "guidance_scale": text_scale,
            "audio_guidance_scale": audio_scale,
            "voice_strengths": strengths,
            "guidance_interval": interval,
            "mode": mode,
            "window": settings.window,
            "window_overlap": settings.window_overlap,
            **({"rounding": rounding} if rounding != "up" else {}),
            **({"compiled": True} if denoiser.compiled else {}),
            **self.variant,
        }
        return Production(
            vae=self.vae,
            denoiser=denoiser,
            inputs=inputs,
            conditioning=conditioning,
            noise=self.noise_for(conditioning, generator),
            model=settings.name,
            choices=choices,
            modules=self.components,
            memory=self.memory,
            report=report,
            stopwatch=stopwatch,
            remark=window_remark(inputs.frames, settings) if window is None else None,
        )

    def _pays(self, denoiser: Denoiser, conditioning: Conditioning) -> bool:
        """Whether compiling saves time with one video; where guidance changes a batch's size there are two shapes."""
        if denoiser.guidance.batched and denoiser.guidance.interval != (0.0, 1.0):
            return False
        return compiling_pays(self.transformer, denoiser.passes(conditioning), self._execution_device)

    def encode(self, inputs: Inputs, prompt: str, negative_prompt: str | None = None) -> Conditioning:
        """Run all encoders; see `Conditioning` for the shapes. `negative_prompt` None: the model's null text."""
        latent_frames = (inputs.frames - 1) // 4 + 1
        width, height = inputs.image.size
        # In the order of `model_cpu_offload_seq`: each part sends away the one before it.
        prompt_embeds, null_embeds = self.encode_text(prompt), self.encode_null_text(negative_prompt)
        crops = [crop_face(inputs.image, box) for box in inputs.boxes]
        images = self.encode_images([inputs.image, *crops])
        picture = to_video_tensor(inputs.image).to(self._execution_device)
        latents = condition_latents(self.vae, picture, latent_frames, self.settings.condition)
        mask = self.picture_mask(inputs, latents.shape[2]).to(latents)
        masks = face_token_masks(inputs.boxes, height, width, 1)
        return Conditioning(
            condition=torch.cat([mask, latents], dim=1),
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=null_embeds,
            image_embeds=images[:1],
            face_embeds=images[None, 1:],
            audio_embeds=self.encode_voices(inputs).to(latents)[None],
            face_masks=masks[None].to(latents).expand(-1, -1, latent_frames, -1, -1),
        )

    def encode_voices(self, inputs: Inputs) -> torch.Tensor:
        """Audio features (N, frames, window, blocks, channels) of all people, a view of their frames alone."""
        rows = [
            audio_rows(self.audio_features, np.asarray(voice.waveform), inputs.frames, inputs.fps).clone()
            for voice in inputs.voices
        ]
        return windows(torch.stack(rows, dim=1), self.audio_features.window).transpose(0, 2).transpose(1, 2)

    def picture_mask(self, inputs: Inputs, latent_frames: int) -> torch.Tensor:
        """The four mask channels (1, 4, f, h, w) in front of the condition latents."""
        width, height = inputs.image.size
        return condition_mask(inputs.boxes, height, width, latent_frames)[None]

    def encode_text(self, prompt: str) -> torch.Tensor:
        """Text embeddings (1, tokens, channels) of a prompt, without padding."""
        tokens = self.tokenizer(prompt, truncation=True, max_length=self.settings.text_len, return_tensors="pt")
        return self.text_encoder(**tokens.to(self._execution_device)).last_hidden_state

    def encode_null_text(self, negative_prompt: str | None) -> torch.Tensor:
        """Text embeddings (1, tokens, channels) of the null branch; None: the model's default."""
        if negative_prompt is None and self.settings.null_text == "zeros":
            return torch.zeros_like(self.encode_text("")[:, :1])
        return self.encode_text(self.settings.negative_prompt if negative_prompt is None else negative_prompt)

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """CLIP's hidden states (n, tokens, channels) before the last layer, for pictures of any size."""
        pixels = clip_pixels(images, self.settings.image_size).to(self._execution_device, self.image_encoder.dtype)
        return self.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]

    def noise_for(self, conditioning: Conditioning, generator: torch.Generator | None) -> Noise:
        """The noise that a video starts from, drawn as it is needed."""
        condition = conditioning.condition
        height, width = condition.shape[3:]
        return Noise(self.transformer.config.out_channels, height, width, condition, generator)

    def prepare_noise(self, conditioning: Conditioning, generator: torch.Generator | None) -> torch.Tensor:
        """All of it at once, standard normal (1, 16, f, h, w)."""
        return self.noise_for(conditioning, generator)(0, conditioning.latent_frames)
