"""What differs between the miniature, the 1.3B and the 14B besides their weights: sizes and defaults, as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from anytalker.errors import InputError
from anytalker.files import write_json_atomic

SETTINGS_FILE = "anytalker.json"
MAX_POSITIONS = 1024
"""Latent frames, and token rows and columns, that Wan's rotary positions reach."""
NEGATIVE_PROMPT = (
    "This shot begins with a scene, then becomes a distorted scene with subtitles, captions, and words on the bottom,"
    " featuring an ugly, incomplete or unnatural-looking character or object with extra fingers, poorly drawn hands "
    "and face, deformed and disfigured limbs, fused fingers, three legs, deformed arms or legs, distorted body "
    "passing through objects, swapped left and right arms, swapped left and right legs, or a deformed face on the "
    "back. The mouth movements are unnatural and not synchronized with the speech; lip motion is delayed or "
    "mismatched with the voice, showing poor lip-sync accuracy, with visible imperfections or distortions in the "
    "teeth. The facial expressions are stiff, frozen, or flickering, with jittering eyes and inconsistent gaze "
    "direction. The characters' necks or heads appear twisted. The objects and background in the scene are crashed, "
    "broken, or deformed, unnaturally distorted, and changing their front and back orientation."
)
"""What guidance leads full-size videos away from (release, `sample_neg_prompt` of `wan/configs/shared_config.py`)."""
WAN: dict[str, Any] = {
    "window": 20,
    "window_overlap": 5,
    "trained_frames": 81,
    "negative_prompt": NEGATIVE_PROMPT,
    "separator": "Kim_Vocal_2",
}
"""Settings of all models made from Wan 2.1: what is longer than Wan's 81 frames takes windows of as many."""


@dataclass(frozen=True)
class PipelineSettings:
    """Sizes and defaults of a model; the defaults are the release's at 480p.

    Attributes:
        name: name of the model in run records.
        max_area: largest area of the video in pixels.
        size_multiple: both sides of the video are multiples of it.
        face_size: side of a face in pixels that the model was trained on; the picture is made smaller until its faces
            have about that size. None: only the area counts.
        fps: video frames a second.
        num_inference_steps: denoising steps.
        guidance_scale: classifier-free guidance; 1 means without.
        shift: shift of the sampler's noise levels.
        condition: what stands behind the picture in the condition latents: "zeros" (release) or "still", the picture
            itself (the miniature).
        window: latent frames denoised together, besides the picture in front of each window; None: all of them
            (release).
        window_overlap: latent frames that neighbouring windows share.
        trained_frames: video frames that the model was trained on; longer videos are made with a remark. None: without.
        image_size: side of the image encoder's input in pixels.
        text_len: tokens a prompt is cut to.
        negative_prompt: default prompt of the null branch.
        null_text: what the null branch reads: "prompt", the negative prompt (release), or "zeros", no text at all
            (paper) unless a negative prompt is given.
        magnitude_ratios: how much more the blocks add to the tokens at each step of the sampler than at the step
            before, for MagCache (Ma et al. 2025); `anytalker calibrate` measures them. Empty: not measured.
        prepared: what faces, masks and the image encoder's input are taken from: "picture", as it was given, which is
            then brought to the video's size without antialiasing (release); or "video", the picture at the video's
            size (the miniature).
        separator: the model that takes each voice out of its recording before the model hears it, see
            `anytalker.conditioning.separation`. None: recordings are heard as they are.
        trained_on: what the model's training showed: "photographs", or "drawn" people (the miniature).
        upscale: how many times as long as those of the decoded frames the video's sides are: 1, or 2 if the autoencoder
            enlarges them with the picture's detail (the miniature). Sizes above are those of the decoded frames.
    """

    name: str = "anytalker"
    max_area: int = 832 * 480
    size_multiple: int = 32
    face_size: int | None = None
    fps: float = 24.0
    num_inference_steps: int = 40
    guidance_scale: float = 4.5
    shift: float = 3.0
    condition: Literal["zeros", "still"] = "zeros"
    window: int | None = None
    window_overlap: int = 2
    trained_frames: int | None = None
    image_size: int = 224
    text_len: int = 512
    negative_prompt: str = ""
    null_text: Literal["prompt", "zeros"] = "prompt"
    magnitude_ratios: Sequence[float] = ()
    prepared: Literal["picture", "video"] = "picture"
    separator: str | None = None
    trained_on: Literal["photographs", "drawn"] = "photographs"
    upscale: Literal[1, 2] = 1

    def enlarged(self, factor: int) -> PipelineSettings:
        """The same with the sizes of videos whose sides are `factor` times as long as those of the decoded frames."""
        return replace(
            self,
            max_area=self.max_area * factor**2,
            size_multiple=self.size_multiple * factor,
            face_size=None if self.face_size is None else self.face_size * factor,
        )

    def save(self, folder: Path) -> None:
        """Write the settings into a model's folder."""
        write_json_atomic(folder / SETTINGS_FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> PipelineSettings:
        """Settings of a model's folder.

        Raises:
            InputError: for a key that is not a setting.
            OSError, ValueError: if the file can't be read, or is not JSON.
        """
        return cls.from_dict(json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8-sig")))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> PipelineSettings:
        """Settings from a mapping.

        Raises:
            InputError: for a key that is not a setting, or if there are no settings at all.
        """
        if not isinstance(values, dict):
            raise InputError(f"{SETTINGS_FILE} holds {json.dumps(values)[:40]} instead of settings. Get it anew.")
        unknown = set(values) - {known.name for known in fields(cls)}
        if unknown:
            raise InputError(
                f"{SETTINGS_FILE} has unknown settings {sorted(unknown)}; this model needs a newer anytalker."
            )
        ratios = tuple(values.get("magnitude_ratios", ()))
        return cls(**values | {"magnitude_ratios": ratios})
