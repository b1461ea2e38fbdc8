"""The pipeline as diffusers' modular blocks, so that others can put steps of their own between ours, or ours elsewhere.

pipe = AnyTalkerBlocks().init_pipeline()
pipe.update_components(**AnyTalkerPipeline.from_pretrained("tiny").block_components)
pipe.update_components(guider=TextAndVoiceGuidance(audio_guidance_scale=3.0))  # or one of diffusers; may be left out
frames = pipe(image="two.png", audio=["anna.wav", "ben.wav"], output="frames")
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.configuration_utils import FrozenDict
from diffusers.modular_pipelines import ModularPipelineBlocks, SequentialPipelineBlocks
from diffusers.modular_pipelines.modular_pipeline_utils import ComponentSpec, ConfigSpec, InputParam, OutputParam

from anytalker.denoising.denoiser import Conditioning, Denoiser
from anytalker.denoising.guiders import GuiderSteps, TextAndVoiceGuidance
from anytalker.denoising.noise import Noise
from anytalker.denoising.windows import check_positions, with_window
from anytalker.errors import InputError
from anytalker.models.latents import decode_chunks
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.encoding import Encoders, shown_picture
from anytalker.pipelines.inputs import fit_scene, read_scene
from anytalker.pipelines.limits import check_strengths
from anytalker.pipelines.options import GenerationOptions, checked
from anytalker.pipelines.separators import separate_voices

_SHAPING = ("mode", "fps", "max_frames", "size", "scale", "rounding", "upscale", "window", "voice_strengths")
_SEEN = ("condition", "image_embeds", "face_embeds", "face_masks")
_GUIDANCE = ("guidance_scale", "audio_guidance_scale", "guidance_interval", "batch_guidance", "voice_strengths")


class _Parts(Encoders):
    """The encoders' methods on the components of a modular pipeline."""

    def __init__(self, components: Any) -> None:
        self._components = components
        self.settings = settings_of(components)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._components, name)


def settings_of(components: Any) -> PipelineSettings:
    """Sizes and defaults of a modular pipeline's model."""
    return PipelineSettings.from_dict(dict(components.config.settings))


class Step(ModularPipelineBlocks):
    """A step that reads, needs and writes values by their names, and uses parts of the model."""

    model_name = "anytalker"
    parts: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()

    @property
    def description(self) -> str:
        """The first line of the docstring."""
        return (type(self).__doc__ or "").splitlines()[0]

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """Components that the step uses."""
        return [ComponentSpec(name, object) for name in self.parts]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        """The model's settings."""
        return [ConfigSpec("settings", asdict(PipelineSettings()))]

    @property
    def inputs(self) -> list[InputParam]:
        """What the step reads, and what it can't do without."""
        return [*(InputParam(name, required=True) for name in self.needs), *(InputParam(name) for name in self.reads)]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """What the step leaves for later ones."""
        return [OutputParam(name) for name in self.writes]

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """The step itself: what it writes, by name."""
        raise NotImplementedError

    @torch.no_grad()
    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run the step on the pipeline's state."""
        block_state = self.get_block_state(state)
        for name, value in self.run(components, block_state).items():
            setattr(block_state, name, value)
        self.set_block_state(state, block_state)
        return components, state


def _options(state: Any, *names: str) -> GenerationOptions:
    values = {name: getattr(state, name, None) for name in names}
    return checked(GenerationOptions, {name: value for name, value in values.items() if value is not None})


class SceneStep(Step):
    """Reads the picture and the voices, finds the faces, and settles size and length."""

    needs, reads, writes = ("image", "audio"), ("faces", "at", *_SHAPING), ("scene",)

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """`scene`: the checked `Inputs`."""
        settings, options = settings_of(components), _options(state, *_SHAPING)
        scene = read_scene(state.image, state.audio, state.faces, state.at)
        return {"scene": fit_scene(scene, settings, options)}


class TextStep(Step):
    """Encodes prompt and negative prompt."""

    parts, reads = ("text_encoder", "tokenizer"), ("prompt", "negative_prompt")
    writes = ("prompt_embeds", "negative_prompt_embeds")

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """Embeddings (1, tokens, channels)."""
        embeds = _Parts(components).encode_prompt(state.prompt or "", state.negative_prompt)
        return dict(zip(self.writes, embeds, strict=True))


class ImageStep(Step):
    """Encodes the picture and the faces."""

    parts, needs, writes = ("image_encoder", "vae"), ("scene",), _SEEN

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """Condition latents, embeddings and masks, see `Conditioning`."""
        return dict(_Parts(components).encode_scene(state.scene))


class VoicesStep(Step):
    """Encodes everybody's voice, taken out of its recording first where the model wants that."""

    parts, needs, reads = ("audio_features",), ("scene", "condition"), ("separator_file", "separate")
    writes = ("audio_embeds",)

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """Features of the voices, see `Conditioning`."""
        parts, device = _Parts(components), state.condition.device.type
        separate = True if state.separate is None else state.separate
        heard = separate_voices(state.scene, parts.settings, state.separator_file, separate, device)[0]
        return {"audio_embeds": parts.encode_voices(heard).to(state.condition)}


class DenoiseStep(Step):
    """From noise to latents, in windows, with guidance of text and voices or another guider."""

    parts = ("transformer", "scheduler")
    needs = ("scene", "prompt_embeds", "negative_prompt_embeds", "audio_embeds", *_SEEN)
    reads: ClassVar[tuple[str, ...]] = ("num_inference_steps", *_GUIDANCE, "window", "generator")
    writes = ("latents",)

    @property
    def expected_components(self) -> list[ComponentSpec]:
        """Transformer and sampler, and a guider that is there by itself."""
        guider = ComponentSpec(
            "guider", TextAndVoiceGuidance, config=FrozenDict({}), default_creation_method="from_config"
        )
        return [guider, *super().expected_components]

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """`latents` (1, 16, f, h, w)."""
        options = _options(state, *(name for name in self.reads if name != "generator"))
        settings = with_window(settings_of(components), options.window)
        transformer, size = components.transformer, state.scene.decoded.image.size
        check_positions(state.scene.frames, size, settings, transformer.config.rope_max_seq_len)
        names = ("prompt_embeds", "negative_prompt_embeds", "audio_embeds", *_SEEN)
        conditioning = Conditioning(**{name: getattr(state, name) for name in names})
        denoiser = Denoiser(
            transformer,
            components.scheduler,
            options.settled(settings).num_inference_steps,
            window=settings.window,
            window_overlap=settings.window_overlap,
            guider=GuiderSteps(_guider(components.guider, options, settings, len(state.scene.boxes))),
        )
        condition = state.condition
        height, width = condition.shape[3:]
        noise = Noise(transformer.config.out_channels, height, width, condition, state.generator)
        run, latents = denoiser.begin(noise, conditioning), []
        while run.done < run.total:
            run.advance()
            latents += run.finished()
        return {"latents": torch.cat(latents, dim=2)}


def _guider(guider: Any, options: GenerationOptions, settings: PipelineSettings, people: int) -> Any:
    """The pipeline's guider with a call's own scales, of so many people.

    Raises:
        InputError: for an option that this guider hasn't, or a value that it can't have.
    """
    given = {name: getattr(options, name) for name in _GUIDANCE if name in options.model_fields_set}
    if "guidance_interval" in given:
        given["start"], given["stop"] = given.pop("guidance_interval")
    unknown = [name for name in given if name not in guider.config]
    if unknown:
        raise InputError(f"{type(guider).__name__} has no {unknown[0]}; leave it out, or use TextAndVoiceGuidance.")
    if isinstance(guider, TextAndVoiceGuidance):
        scale = given.get("guidance_scale", guider.guidance_scale)
        given["guidance_scale"] = settings.guidance_scale if scale is None else scale
        given["voice_strengths"] = check_strengths(given.get("voice_strengths", guider.voice_strengths), people)
    try:
        return guider.new(**given) if given else guider
    except ValueError as error:
        raise InputError(f"{type(guider).__name__} can't be used so: {error}") from error


class DecodeStep(Step):
    """Decodes latents to frames."""

    parts, needs, writes = ("vae",), ("latents", "scene"), ("frames",)

    def run(self, components: Any, state: Any) -> dict[str, Any]:
        """`frames` float32 (T, H, W, 3) in [0, 1]."""
        chunks = decode_chunks(components.vae, [state.latents], shown_picture(state.scene))
        pixels = [chunk[0].float().add(1).div(2).permute(1, 2, 3, 0).cpu().numpy() for chunk in chunks]
        return {"frames": np.concatenate(pixels)}


class AnyTalkerBlocks(SequentialPipelineBlocks):
    """All steps of a video in order."""

    model_name = "anytalker"
    block_classes: ClassVar[list[Any]] = [SceneStep, TextStep, ImageStep, VoicesStep, DenoiseStep, DecodeStep]
    block_names: ClassVar[list[str]] = ["scene", "text", "image", "voices", "denoise", "decode"]

    @property
    def description(self) -> str:
        """What the blocks do together."""
        return "From a picture and a voice a person to a video in which everyone speaks."
