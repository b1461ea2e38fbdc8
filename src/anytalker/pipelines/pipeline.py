"""AnyTalkerPipeline: from one picture and one voice per person to a video in which everyone speaks their own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, UniPCMultistepScheduler
from PIL import Image

from anytalker.conditioning.audio_features import VoiceWindows, hear_voices
from anytalker.conditioning.faces import clip_pixels, crop_face
from anytalker.conditioning.masks import condition_mask, face_token_masks
from anytalker.conditioning.text import clean_prompt
from anytalker.conventions import PixelBox
from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.noise import Noise
from anytalker.denoising.windows import check_positions, window_remark, with_window
from anytalker.hardware.acceleration import compiling_pays
from anytalker.hardware.placement import Memory
from anytalker.loading.components import find_model, load_components, save_components
from anytalker.loading.quiet import quiet_bars
from anytalker.loading.separator import find_separator
from anytalker.media.destination import check_destination
from anytalker.media.pictures import resized_video_tensor, to_video_tensor
from anytalker.media.video import Stopwatch
from anytalker.models.latents import condition_latents
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.inputs import Inputs, fit_scene, input_files, read_scene, shared_settings
from anytalker.pipelines.limits import check_strengths
from anytalker.pipelines.options import GenerationOptions, SettledOptions, checked, record_of
from anytalker.pipelines.parts import INTERVAL
from anytalker.pipelines.prepared_video import PreparedVideo, Previews, Progress
from anytalker.pipelines.result import TalkingVideo, VideoFile
from anytalker.pipelines.separators import separate_voices


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
        self.separator_file: Path | None = None
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
            pipeline = cls(**load_components(model, **kwargs))
        pipeline.separator_file = find_separator(find_model(model), pipeline.settings.separator)
        return pipeline

    def save_pretrained(self, save_directory: str | Path) -> None:  # type: ignore[override]
        """Write all components and the settings to a folder that `from_pretrained` reads."""
        parts = dict(self.components)
        save_components(Path(save_directory), parts, self.settings)

    def __call__(
        self,
        image: Image.Image | str | Path,
        audio: Sequence[Any],
        faces: Sequence[Any] | None = None,
        prompt: str = "",
        generator: torch.Generator | None = None,
        on_progress: Progress | None = None,
        **options: Any,
    ) -> TalkingVideo:
        """Make a video in memory; for long ones see `generate_to`.

        Args:
            image, audio, faces, prompt, generator, on_progress, **options: see `prepare`.

        Returns:
            The video: `.frames` float32 (T, H, W, 3) in [0, 1], `.save(path)` writes it with the voices.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        video = self.prepare(image, audio, faces, prompt, generator, on_progress, **options)
        latents = list(video.denoise())
        frames = video.decode(latents)
        return video.collect(frames)

    def stream(self, image: Any, audio: Sequence[Any], **options: Any) -> Iterator[np.ndarray]:
        """Make a video chunk by chunk, in memory that doesn't grow with its length.

        Args:
            image, audio, **options: see `prepare`.

        Yields:
            Frames in order, float32 (t, H, W, 3) in [0, 1], as soon as they are ready; together those of a call.
        """
        video = self.prepare(image, audio, **options)
        latents = video.denoise()
        return video.decode(latents)

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
        `interval` leaves finished parts in the folder talk.parts until the video is complete. After an interruption or
        a crash the same call continues from there, and gives the same video.

        Args:
            path: the MP4 to write.
            image, audio, **options: see `prepare`.
            say: called with a sentence when an interrupted run continues, or its parts can't be used.
            interval: seconds between two savings of the parts; 0: after every step.
            fingerprint: of inputs and settings, for the record; the command line recognises the video by it.

        Raises:
            InputError: for anything that can't be used, naming it, if an input or an unrelated talk.json would be
                overwritten, and if another run is making the same video.
            AnyTalkerError: if disk or memory runs out; finished parts are kept.
            KeyboardInterrupt: its message says where the finished parts are.
        """
        check_destination(path, input_files(image, audio, options.get("faces")))
        video = self.prepare(image, audio, **options)
        return video.to_file(path, say, interval, fingerprint)

    def prepare(
        self,
        image: Image.Image | str | Path,
        audio: Sequence[Any],
        faces: Sequence[Any] | None = None,
        prompt: str = "",
        generator: torch.Generator | None = None,
        on_progress: Progress | None = None,
        at: float | None = None,
        **options: Any,
    ) -> PreparedVideo:
        """Read, check, resize and encode everything that a video is made of.

        Args:
            image: the picture, or its path.
            audio: one entry a person: a path, a 16 kHz mono array (samples,), a `Voice` that was
                loaded before, or None for a person who listens.
            faces: who speaks, the i-th for the i-th audio: face boxes (x, y, width, height) in pixels of the picture,
                points (x, y), numbers from the left, `FaceMask`s, or any of these as on the command line; None: the
                i-th person from the left. Everybody else who is found listens. Faces of a record beside the picture
                (see `conditioning.picture_record`) are not sought.
            prompt: what happens in the video.
            generator: source of the noise (on the CPU); None: a random one.
            on_progress: called as (stage, done, total) with stages "prepare", "denoise", in steps of windows, and
                "decode", in chunks.
            at: of a video as the picture, the second of the frame; None: the first that isn't black.
            **options: any other of `GenerationOptions`, such as `num_inference_steps` or `guidance_scale`.

        Returns:
            The video, ready to be denoised.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        chosen = checked(GenerationOptions, {"prompt": prompt} | options)
        settings = shared_settings(self.settings, self.transformer.split_rows.devices)
        scene = read_scene(image, audio, faces, at)
        inputs = fit_scene(scene, settings, chosen)
        return self.prepare_inputs(inputs, chosen, generator, on_progress)

    @torch.no_grad()
    def prepare_inputs(
        self,
        inputs: Inputs,
        options: GenerationOptions = GenerationOptions(),
        generator: torch.Generator | None = None,
        on_progress: Progress | None = None,
        previews: Previews | None = None,
    ) -> PreparedVideo:
        """Encode inputs that were read, checked and resized before.

        Args:
            inputs: from `fit_scene`.
            options: how the video is made.
            generator, on_progress: see `prepare`. What `on_progress` raises, which is called after every step, ends it.
            previews: pictures of the video while it is made, see `PreparedVideo`.

        Raises:
            InputError: if the model can't make a video of that length and size.
        """
        settings = with_window(self.settings, options.window)
        check_positions(inputs.frames, inputs.image.size, settings, self.transformer.config.rope_max_seq_len)
        strengths = check_strengths(options.voice_strengths, len(inputs.boxes))
        report = on_progress or (lambda stage, done, total: None)
        self.maybe_free_model_hooks()
        stopwatch = Stopwatch()
        with stopwatch.stage("prepare"):
            report("prepare", 0, 1)
            device = self._execution_device.type
            inputs, separation, missing = separate_voices(
                inputs, settings, self.separator_file, options.separate, device
            )
            conditioning = self.encode(inputs, options.prompt, options.negative_prompt)
            report("prepare", 1, 1)
        settled = options.settled(settings)
        denoiser = self.denoiser(settled, settings, strengths)
        if self.compile_where_it_pays:
            denoiser.compiled = self._compiling_pays(denoiser, conditioning)
        recorded = record_of(settled, settings, strengths)
        if separation is not None:
            recorded["separation"] = separation
        if denoiser.compiled:
            recorded["compiled"] = True
        remarks = [missing, window_remark(inputs.frames, settings) if options.window is None else None]
        return PreparedVideo(
            vae=self.vae,
            denoiser=denoiser,
            inputs=inputs,
            conditioning=conditioning,
            noise=self.noise_for(conditioning, generator),
            model=settings.name,
            choices=recorded | self.variant,
            modules=self.components,
            memory=self.memory,
            report=report,
            stopwatch=stopwatch,
            remark="\n".join(filter(None, remarks)),
            previews=previews,
        )

    def denoiser(
        self, options: SettledOptions, settings: PipelineSettings, strengths: tuple[float, ...] | None
    ) -> Denoiser:
        """Transformer and sampler, set up for one video; `strengths` are those of all its people."""
        guidance = Guidance(
            text_scale=options.guidance_scale,
            audio_scale=options.audio_guidance_scale,
            strengths=strengths,
            interval=options.guidance_interval,
            batched=options.batch_guidance,
        )
        return Denoiser(
            self.transformer,
            self.scheduler,
            options.num_inference_steps,
            guidance,
            settings.window,
            settings.window_overlap,
            keep_contexts=self.memory != "low",
        )

    def _compiling_pays(self, denoiser: Denoiser, conditioning: Conditioning) -> bool:
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
        picture, faces = self.seen(inputs)
        images = self.encode_images([picture, *(crop_face(picture, box) for box in faces)])
        pixels = to_video_tensor(picture) if picture is inputs.image else resized_video_tensor(picture, height, width)
        pixels = pixels.to(self._execution_device)
        latents = condition_latents(self.vae, pixels, latent_frames, self.settings.condition)
        mask = self.picture_mask(inputs, latents.shape[2]).to(latents)
        masks = face_token_masks(faces, height, width, 1, picture=picture.size)
        return Conditioning(
            condition=torch.cat([mask, latents], dim=1),
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=null_embeds,
            image_embeds=images[:1],
            face_embeds=images[None, 1:],
            audio_embeds=self.encode_voices(inputs).to(latents),
            face_masks=masks[None].to(latents).expand(-1, -1, latent_frames, -1, -1),
        )

    def seen(self, inputs: Inputs) -> tuple[Image.Image, list[PixelBox]]:
        """The picture that encoders and masks are made of, and the faces in it, see `PipelineSettings.prepared`."""
        if self.settings.prepared == "video" or inputs.picture is None or inputs.faces is None:
            return inputs.image, inputs.boxes
        return inputs.picture, inputs.faces

    def encode_voices(self, inputs: Inputs) -> VoiceWindows:
        """Audio features of all people."""
        voices = [voice.waveform if voice.vocals is None else voice.vocals for voice in inputs.voices]
        return hear_voices(self.audio_features, voices, inputs.frames, inputs.fps, inputs.mode)

    def picture_mask(self, inputs: Inputs, latent_frames: int) -> torch.Tensor:
        """The four mask channels (1, 4, f, h, w) in front of the condition latents."""
        width, height = inputs.image.size
        picture, faces = self.seen(inputs)
        return condition_mask(faces, height, width, latent_frames, picture=picture.size)[None]

    def encode_text(self, prompt: str) -> torch.Tensor:
        """Text embeddings (1, tokens, channels) of a prompt, cleaned, without padding."""
        text = clean_prompt(prompt)
        tokens = self.tokenizer(text, truncation=True, max_length=self.settings.text_len, return_tensors="pt")
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
