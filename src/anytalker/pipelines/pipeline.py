"""AnyTalkerPipeline: from one picture and one voice per person to a video in which everyone speaks their own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline, SchedulerMixin, UniPCMultistepScheduler
from diffusers.hooks.group_offloading import _is_group_offload_enabled
from PIL import Image

from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.noise import GivenNoise, Noise
from anytalker.denoising.windows import check_positions, with_window
from anytalker.errors import InputError
from anytalker.hardware.acceleration import compiling_pays
from anytalker.hardware.placement import Memory
from anytalker.media.destination import check_destination
from anytalker.media.video import Stopwatch
from anytalker.models.autoencoder import MiniatureAutoencoder
from anytalker.models.settings import PipelineSettings
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.adapters import Adapters
from anytalker.pipelines.callbacks import OnStepEnd, step_bar
from anytalker.pipelines.encoding import Encoders
from anytalker.pipelines.inputs import Inputs, fit_scene, input_files, read_scene, shared_settings
from anytalker.pipelines.limits import check_strengths
from anytalker.pipelines.options import GenerationOptions, SettledOptions, checked, record_of
from anytalker.pipelines.outputs import NoiseSources, OutputType, TalkingVideos, check_outputs, finish, shared_out
from anytalker.pipelines.parts import INTERVAL
from anytalker.pipelines.prepared_video import PreparedVideo, Previews, Progress
from anytalker.pipelines.prompts import each_prompt
from anytalker.pipelines.python_options import PythonOptions, split_options
from anytalker.pipelines.remarks import remarks_on
from anytalker.pipelines.result import TalkingVideo, VideoFile
from anytalker.pipelines.separators import separate_voices
from anytalker.pipelines.state import CallState
from anytalker.pipelines.storage import Stored


class AnyTalkerPipeline(Encoders, CallState, Adapters, Stored, DiffusionPipeline):
    """Talking video of any number of people (paper sections 3 and 4.1; sampler and preparation of the release).

    Args:
        transformer: the video diffusion transformer.
        vae: video autoencoder with Wan's 4×8×8 contract and latent statistics in its configuration.
        text_encoder: UMT5 encoder.
        tokenizer: its tokenizer.
        image_encoder: CLIP vision tower; its hidden states before the last layer are used.
        scheduler: UniPC with flow sigmas, or another flow-matching scheduler of diffusers.
        audio_features: features of the voices, see `anytalker.conditioning.audio_features`.
        settings: sizes and defaults.
    """

    model_cpu_offload_seq = "text_encoder->image_encoder->transformer->vae"

    def __init__(
        self,
        transformer: AnyTalkerTransformer3DModel,
        vae: AutoencoderKLWan | MiniatureAutoencoder,
        text_encoder: Any,
        tokenizer: Any,
        image_encoder: Any,
        scheduler: SchedulerMixin,
        audio_features: Any,
        settings: PipelineSettings | dict[str, Any] | None = None,
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
        self.settings = settings if isinstance(settings, PipelineSettings) else PipelineSettings(**settings or {})
        self.memory: Memory = "high"
        self.variant: dict[str, Any] = {}
        self.separator_file: Path | None = None
        self.compile_where_it_pays = False

    @property
    def settings(self) -> PipelineSettings:  # type: ignore[override]
        """Sizes and defaults; for `AnyTalkerPipeline(**pipe.components, **pipe.parameters)` among the parameters."""
        return self._settings

    @settings.setter
    def settings(self, settings: PipelineSettings) -> None:
        self._settings = settings
        self.register_to_config(settings=asdict(settings))

    @property
    def block_components(self) -> dict[str, Any]:
        """Components and settings for `update_components` of a pipeline of `anytalker.pipelines.blocks`."""
        return {**self.components, "settings": asdict(self.settings)}

    # Long because editors complete the options of a call from its signature.
    def __call__(
        self,
        image: Image.Image | str | Path,
        audio: Sequence[Any],
        faces: Sequence[Any] | None = None,
        prompt: str | Sequence[str] = "",
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        on_progress: Progress | None = None,
        *,
        negative_prompt: str | Sequence[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        audio_guidance_scale: float | None = None,
        voice_strengths: Sequence[float] | None = None,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        batch_guidance: bool = False,
        mode: Literal["pad", "concat"] = "pad",
        fps: float | None = None,
        max_frames: int | None = None,
        window: int | Literal["none"] | None = None,
        size: tuple[int, int] | None = None,
        scale: float | None = None,
        rounding: Literal["up", "release"] = "up",
        upscale: bool = True,
        separate: bool = True,
        at: float | None = None,
        num_videos_per_prompt: int = 1,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        attention_kwargs: Mapping[str, Any] | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: OnStepEnd | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
    ) -> TalkingVideo:
        """Make a video in memory; for long ones see `generate_to`.

        Without `on_progress` a bar shows the steps, see `set_progress_bar_config`.

        Args:
            image, audio, faces, on_progress, at: see `prepare`.
            prompt: what happens in the video; several: a video of the same picture and voices for each, one after
                another. Then `negative_prompt` may be one for all or as many, and so may the embeddings.
            generator: source of the noise; None: a random one. Several: one a video.
            negative_prompt, num_inference_steps, guidance_scale, audio_guidance_scale, voice_strengths,
                guidance_interval, batch_guidance, mode, fps, max_frames, window, size, scale, rounding, upscale,
                separate: see `GenerationOptions`.
            num_videos_per_prompt: videos, made one after another from other noise; of the first prompt first.
            latents, prompt_embeds, negative_prompt_embeds, attention_kwargs, callback_on_step_end,
                callback_on_step_end_tensor_inputs: see `PythonOptions`; `latents` may hold noise for each video.
            output_type: what `.frames` are: "np" float32 (T, H, W, 3) in [0, 1]; "pil" a list of pictures; "pt" a
                tensor (T, 3, H, W) in [0, 1]; "latent" the latents (1, 16, f, h, w), which are not decoded. Of several
                videos: one array or tensor with another dimension in front, or a list of lists.
            return_dict: False gives a tuple with the frames.

        Returns:
            The video: `.save(path)` writes it with the voices. An interrupted one (`pipe._interrupt = True` in a
            callback) is what there was then. Of several videos `.videos` has each.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        given = locals()
        options = {name: given[name] for name in (*GenerationOptions.model_fields, *PythonOptions.names(), "at")}
        check_outputs(output_type, num_videos_per_prompt)
        prompts = each_prompt(prompt, negative_prompt, prompt_embeds, negative_prompt_embeds)
        noises = shared_out(generator, latents, len(prompts) * num_videos_per_prompt)
        others = [(one, one.embeds(self)) for one in prompts[1:]]
        options |= prompts[0].options | {"generator": noises[0][0], "latents": noises[0][1]}
        video = self.prepare(image, audio, faces, on_progress=on_progress or step_bar(self), **options)
        videos = [video, *(one.told(video, embeds) for one, embeds in others)]
        videos = [one for one in videos for _ in range(num_videos_per_prompt)]
        made = [finish(one, output_type) for one in self._each(videos, noises)]
        whole = made[0] if len(videos) == 1 else TalkingVideos.of(made)
        return whole if return_dict else whole.to_tuple()  # type: ignore[return-value]

    def _each(self, videos: Sequence[PreparedVideo], noises: Sequence[NoiseSources]) -> Iterator[PreparedVideo]:
        """The videos with each noise; a callback may change the guidance of one, which the next forgets."""
        scale = self._guidance_scale
        denoisers = [replace(video.denoiser) for video in videos]
        for number, (video, denoiser, source) in enumerate(zip(videos, denoisers, noises, strict=True)):
            if self._interrupt and number:
                return
            self._guidance_scale = scale
            noise = self.noise_for(video.conditioning, *source) if number else video.noise
            yield replace(video, denoiser=denoiser, noise=noise, stopwatch=video.stopwatch.copy())

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
        keep_latents: bool = False,
        edit_of: str | Path | None = None,
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
            keep_latents: also write talk.latents.safetensors, with which the video can be edited; its pictures are
                encoded in groups that can be copied.
            edit_of: an earlier video of the same picture, model, seed and options, whose latents were kept. Only the
                windows in which a voice changed are made again, and only their pictures are decoded and encoded. Its
                frames stay as they are in all others, so a changed voice is a little less free at their borders than
                in a video that is made as a whole.

        Raises:
            InputError: for anything that can't be used, naming it, if an input or an unrelated talk.json would be
                overwritten, and if another run is making the same video.
            AnyTalkerError: if disk or memory runs out; finished parts are kept.
            KeyboardInterrupt: its message says where the finished parts are.
        """
        check_destination(path, input_files(image, audio, options.get("faces")))
        video = self.prepare(image, audio, **options)
        return video.to_file(path, say, interval, fingerprint, keep_latents, edit_of)

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
            **options: any other of `GenerationOptions`, such as `num_inference_steps` or `guidance_scale`, or of
                `PythonOptions`, such as `callback_on_step_end`.

        Returns:
            The video, ready to be denoised.

        Raises:
            InputError: for anything that can't be used, naming it.
        """
        own, rest = split_options(options)
        chosen = checked(GenerationOptions, {"prompt": prompt} | rest)
        settings = shared_settings(self.settings, self.transformer.split_rows.devices)
        scene = read_scene(image, audio, faces, at)
        inputs = fit_scene(scene, settings, chosen)
        return self.prepare_inputs(inputs, chosen, generator, on_progress, own)

    @torch.no_grad()
    def prepare_inputs(
        self,
        inputs: Inputs,
        options: GenerationOptions = GenerationOptions(),
        generator: torch.Generator | None = None,
        on_progress: Progress | None = None,
        own: PythonOptions | None = None,
        previews: Previews | None = None,
    ) -> PreparedVideo:
        """Encode inputs that were read, checked and resized before.

        Args:
            inputs: from `fit_scene`.
            options: how the video is made.
            generator, on_progress: see `prepare`. What `on_progress` raises, which is called after every step, ends it.
            own: tensors and functions in place of the usual.
            previews: pictures of the video while it is made, see `PreparedVideo`.

        Raises:
            InputError: if the model can't make a video of that length and size.
        """
        self._interrupt, own = False, own or PythonOptions()
        settings = with_window(self.settings, options.window)
        own.check_texts(options.prompt, options.negative_prompt, settings.text_len, self.text_encoder.config.d_model)
        check_positions(inputs.frames, inputs.decoded.image.size, settings, self.transformer.config.rope_max_seq_len)
        strengths = check_strengths(options.voice_strengths, len(inputs.boxes))
        report = on_progress or (lambda stage, done, total: None)
        self.maybe_free_model_hooks()
        stopwatch = Stopwatch()
        with stopwatch.stage("prepare"):
            report("prepare", 0, 1)
            inputs, separation, missing = separate_voices(
                inputs, settings, self.separator_file, options.separate, self._execution_device.type
            )
            conditioning = self.encode(inputs, *own.texts(options.prompt, options.negative_prompt))
            report("prepare", 1, 1)
        settled = options.settled(settings)
        denoiser = replace(self.denoiser(settled, settings, strengths), adapter_scale=own.scale)
        if self.compile_where_it_pays:
            denoiser.compiled = self._compiling_pays(denoiser, conditioning)
        self.begin_call(settled.guidance_scale, settled.num_inference_steps, own.attention_kwargs)
        unusual = self._recorded(separation, denoiser.compiled)
        return PreparedVideo(
            vae=self.vae,
            denoiser=denoiser,
            inputs=inputs,
            conditioning=conditioning,
            noise=self.noise_for(conditioning, generator, own.latents),
            model=settings.name,
            choices=record_of(settled, settings, strengths) | own.recorded | unusual,
            modules=self.components,
            memory=self.memory,
            report=report,
            stopwatch=stopwatch,
            remark=remarks_on(inputs, conditioning.face_masks, settings, options.window, missing),
            on_step_end=own.step_callback(self),
            interrupted=lambda: self._interrupt,
            previews=previews,
        )

    def _recorded(self, separation: Any, compiled: bool | None) -> dict[str, Any]:
        """What else is written into a video's record, where it is not as usual."""
        sampler = type(self.scheduler).__name__
        usual = sampler == UniPCMultistepScheduler.__name__
        found = {"separation": separation, "compiled": compiled or None, "scheduler": None if usual else sampler}
        unusual = {name: value for name, value in found.items() if value is not None}
        return unusual | self.recorded_adapters | self.variant

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
            keep_contexts=self.memory != "low" and not _is_group_offload_enabled(self.transformer),
        )

    def _compiling_pays(self, denoiser: Denoiser, conditioning: Conditioning) -> bool:
        """Whether compiling saves time with one video; where guidance changes a batch's size there are two shapes."""
        if denoiser.guidance.batched and denoiser.guidance.interval != (0.0, 1.0):
            return False
        return compiling_pays(self.transformer, denoiser.passes(conditioning), self._execution_device)

    def noise_for(
        self, conditioning: Conditioning, generator: torch.Generator | None, latents: torch.Tensor | None = None
    ) -> Noise | GivenNoise:
        """The noise that a video starts from, drawn as it is needed, or `latents`.

        Raises:
            InputError: if these have another shape than the video's.
        """
        condition, channels = conditioning.condition, self.transformer.config.out_channels
        height, width = condition.shape[3:]
        if latents is None:
            return Noise(channels, height, width, condition, generator)
        expected = (1, channels, conditioning.latent_frames, height, width)
        if latents.shape != expected:
            raise InputError(f"latents are {tuple(latents.shape)}; for this video they must be {expected}.")
        return GivenNoise(latents, condition)
