"""The nodes: from Comfy's IMAGE and AUDIO to voices and faces, latents, and IMAGE and AUDIO again.

Comfy's forms: an IMAGE is float (frames, height, width, 3) in [0, 1], an AUDIO {"waveform": float (1, channels,
samples), "sample_rate": Hz}. What only these nodes exchange has types that begin with ANYTALKER.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from . import host

MODEL, FACES, VOICES, LATENTS = "ANYTALKER_MODEL", "ANYTALKER_FACES", "ANYTALKER_VOICES", "ANYTALKER_LATENTS"
CATEGORY = "AnyTalker"
MEMORY = ["high", "balanced", "low"]


class LoadAnyTalker:
    """Loads a model by its name or folder, with adapters merged in."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = (MODEL,), ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """A name or path, and what it is loaded with."""
        return {
            "required": {
                "model": ("STRING", {"default": "tiny", "tooltip": "tiny, 1.3b, 14b, or a model's folder or file."}),
                "memory": (MEMORY, {"default": "high", "tooltip": "What is on the GPU at a time."}),
            },
            "optional": {
                "lora": ("STRING", {"default": "", "tooltip": "Files of adapters, one a line, FILE or FILE:STRENGTH.",
                                    "multiline": True}),
            },
        }  # fmt: skip

    def load(self, model: str, memory: str, lora: str = "") -> tuple[Any]:
        """The pipeline on Comfy's device."""
        from anytalker.pipelines.loading_options import LoadingOptions
        from anytalker.pipelines.ready import load_for

        adapters = [line.strip() for line in lora.splitlines() if line.strip()]
        return (load_for(model.strip(), host.device(), LoadingOptions(memory=memory, lora=adapters)),)


class FindFaces:
    """Finds the faces of a picture, from left to right, and draws them."""

    CATEGORY, FUNCTION = CATEGORY, "find"
    RETURN_TYPES, RETURN_NAMES = (FACES, "IMAGE", "STRING"), ("faces", "preview", "boxes")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """A picture, and optionally which faces in which order."""
        return {
            "required": {"image": ("IMAGE",)},
            "optional": {
                "choices": ("STRING", {"default": "", "multiline": True, "tooltip": "One a line, first those of the "
                                       "voices: a number from the left, X,Y, or X,Y,WIDTH,HEIGHT. Empty: all."}),
            },
        }  # fmt: skip

    def find(self, image: Any, choices: str = "") -> tuple[list[Any], Any, str]:
        """Boxes in pixels, the picture with them, and the boxes as text."""
        import torch

        from anytalker.conditioning.binding import bind_faces, parse_face
        from anytalker.conditioning.faces import detect_faces
        from anytalker.pipelines.preview import draw_preview

        picture = to_picture(image)
        wanted = [parse_face(line.strip()) for line in choices.splitlines() if line.strip()]
        boxes = bind_faces(picture, wanted, len(wanted)) if wanted else detect_faces(picture)
        drawn = np.asarray(draw_preview(picture, boxes, [f"face {number}" for number in range(1, len(boxes) + 1)]))
        shown = torch.from_numpy(drawn.astype(np.float32) / 255)[None]
        return boxes, shown, "\n".join(",".join(map(str, box)) for box in boxes)


class Voice:
    """Adds a person's voice to those before; without AUDIO the person listens."""

    CATEGORY, FUNCTION = CATEGORY, "add"
    RETURN_TYPES, RETURN_NAMES = (VOICES,), ("voices",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The voices before, and this one."""
        return {"required": {}, "optional": {"voices": (VOICES,), "audio": ("AUDIO",)}}

    def add(self, voices: list[Any] | None = None, audio: dict[str, Any] | None = None) -> tuple[list[Any]]:
        """All voices, one a person, in the faces' order."""
        return ([*(voices or []), None if audio is None else to_samples(audio)],)


class Timeline:
    """Speaks a script, and gives each of its people a voice, in the order in which they first speak."""

    CATEGORY, FUNCTION = CATEGORY, "speak"
    RETURN_TYPES, RETURN_NAMES = (VOICES, "STRING"), ("voices", "timeline")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The script."""
        default = "Anna: Did you see the game?\nBen: I did!"
        return {"required": {"script": ("STRING", {"default": default, "multiline": True})}}

    def speak(self, script: str) -> tuple[list[Any], str]:
        """Voices on one clock, and who says what when as JSON."""
        import json

        from anytalker.timeline.script import parse_script
        from anytalker.timeline.spoken import timeline_of_script
        from anytalker.timeline.streams import streams

        timeline = timeline_of_script(parse_script(script))
        return [np.asarray(voice) for voice in streams(timeline)], json.dumps(timeline.as_json(), indent=1)


class Sampler:
    """Makes the video's latents, with Comfy's progress bar and stop button."""

    CATEGORY, FUNCTION = CATEGORY, "sample"
    RETURN_TYPES, RETURN_NAMES = (LATENTS,), ("latents",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Model, picture, voices and how; 0 is the model's own number."""
        return {
            "required": {
                "model": (MODEL,),
                "image": ("IMAGE",),
                "voices": (VOICES,),
                "prompt": ("STRING", {"default": "", "multiline": True}),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**63 - 1}),
                "steps": ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's."}),
                "guidance_scale": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1}),
                "max_frames": ("INT", {"default": 0, "min": 0, "max": 10**6, "tooltip": "0: as long as the voices."}),
            },
            "optional": {
                "faces": (FACES,),
                "negative_prompt": ("STRING", {"default": "", "multiline": True, "tooltip": "Empty: the model's."}),
            },
        }

    def sample(
        self,
        model: Any,
        image: Any,
        voices: list[Any],
        prompt: str,
        seed: int,
        steps: int,
        guidance_scale: float,
        max_frames: int,
        faces: list[Any] | None = None,
        negative_prompt: str = "",
    ) -> tuple[dict[str, Any]]:
        """The latents (1, 16, f, h, w), and what decoding needs."""
        import torch

        options = {"num_inference_steps": steps, "guidance_scale": guidance_scale, "max_frames": max_frames}
        prepared = model.prepare(
            to_picture(image),
            voices,
            faces=None if faces is None else list(faces),
            prompt=prompt,
            negative_prompt=negative_prompt or None,
            generator=torch.Generator().manual_seed(seed),
            on_progress=host.progress(),
            **{name: value or None for name, value in options.items()},
        )
        return ({"samples": torch.cat(list(prepared.denoise()), dim=2), "video": prepared},)


class Decode:
    """Decodes latents to Comfy's IMAGE and AUDIO."""

    CATEGORY, FUNCTION = CATEGORY, "decode"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "AUDIO", "FLOAT"), ("images", "audio", "fps")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The latents."""
        return {"required": {"latents": (LATENTS,)}}

    def decode(self, latents: dict[str, Any]) -> tuple[Any, dict[str, Any], float]:
        """Frames, everybody's voice together, and frames a second."""
        import torch

        from anytalker.conventions import SAMPLE_RATE

        prepared = latents["video"]
        video = prepared.collect(prepared.decode([latents["samples"]]))
        waveform = torch.from_numpy(np.ascontiguousarray(video.voices))[None, None]
        return torch.from_numpy(video.frames), {"waveform": waveform, "sample_rate": SAMPLE_RATE}, float(video.fps)


def to_picture(image: Any) -> Image.Image:
    """The first picture of an IMAGE, exactly as it was before Comfy divided it by 255."""
    pixels = image[0, ..., :3].cpu().numpy()
    return Image.fromarray((pixels * 255).round().clip(0, 255).astype(np.uint8))


def to_samples(audio: dict[str, Any]) -> np.ndarray:
    """The first recording of an AUDIO as AnyTalker hears it: float32 (samples,), mono, 16 kHz."""
    from anytalker.conditioning.separation import resampled
    from anytalker.conventions import SAMPLE_RATE
    from anytalker.media.recordings import audio_array

    samples = audio_array(audio["waveform"][0].float().cpu().numpy())
    rate = int(audio["sample_rate"])
    return samples if rate == SAMPLE_RATE else np.concatenate(list(resampled([samples], rate, SAMPLE_RATE)))


NODE_CLASS_MAPPINGS = {
    "AnyTalkerLoad": LoadAnyTalker,
    "AnyTalkerFindFaces": FindFaces,
    "AnyTalkerVoice": Voice,
    "AnyTalkerTimeline": Timeline,
    "AnyTalkerSampler": Sampler,
    "AnyTalkerDecode": Decode,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "AnyTalkerLoad": "Load AnyTalker",
    "AnyTalkerFindFaces": "AnyTalker: find faces",
    "AnyTalkerVoice": "AnyTalker: voice",
    "AnyTalkerTimeline": "AnyTalker: timeline from a script",
    "AnyTalkerSampler": "AnyTalker: sampler",
    "AnyTalkerDecode": "AnyTalker: decode",
}
