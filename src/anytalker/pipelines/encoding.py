"""The pipeline's encoders: from checked inputs to what the transformer is conditioned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from anytalker.conditioning.audio_features import VoiceWindows, hear_voices
from anytalker.conditioning.faces import clip_pixels, crop_face
from anytalker.conditioning.masks import condition_mask, face_token_masks
from anytalker.conditioning.text import clean_prompt
from anytalker.conventions import PixelBox
from anytalker.denoising.denoiser import Conditioning
from anytalker.media.pictures import resized_video_tensor, to_video_tensor
from anytalker.models.latents import condition_latents
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import Inputs


def shown_picture(inputs: Inputs) -> torch.Tensor | None:
    """The picture (1, 3, H, W) in [-1, 1] whose detail decoded frames are enlarged with; None: they aren't enlarged.

    Of a photograph (1, 6, H, W), with `Inputs.areas`.
    """
    if inputs.small is None:
        return None
    picture = to_video_tensor(inputs.image)[:, :, 0]
    return picture if inputs.areas is None else torch.cat([picture, torch.from_numpy(inputs.areas)[None]], dim=1)


class Encoders:
    """What `AnyTalkerPipeline` runs before the first denoising step; a part of that class."""

    if TYPE_CHECKING:
        vae: Any
        text_encoder: Any
        tokenizer: Any
        image_encoder: Any
        audio_features: Any
        settings: PipelineSettings
        _execution_device: torch.device

    def encode(
        self,
        inputs: Inputs,
        prompt: str | torch.Tensor,
        negative_prompt: str | torch.Tensor | None = None,
    ) -> Conditioning:
        """Run all encoders; see `Conditioning` for the shapes.

        Args:
            inputs: checked and sized.
            prompt: text, or its embeddings (1, tokens, channels).
            negative_prompt: the same for the null branch; None: the model's null text.
        """
        # In the order of `model_cpu_offload_seq`: each part sends away the one before it.
        prompt_embeds, null_embeds = self.encode_prompt(prompt, negative_prompt)
        seen = self.encode_scene(inputs)
        voices = self.encode_voices(inputs).to(seen["condition"])
        texts = {"prompt_embeds": prompt_embeds, "negative_prompt_embeds": null_embeds}
        found: dict[str, Any] = {**texts, **seen, "audio_embeds": voices}
        return Conditioning(**found)

    def encode_scene(self, inputs: Inputs) -> dict[str, torch.Tensor]:
        """What of a `Conditioning` comes from the picture and the faces, by its names."""
        latent_frames = (inputs.frames - 1) // 4 + 1
        shown = inputs.decoded.image
        width, height = shown.size
        picture, faces = self.seen(inputs)
        images = self.encode_images([picture, *(crop_face(picture, box) for box in faces)])
        pixels = to_video_tensor(picture) if picture is shown else resized_video_tensor(picture, height, width)
        pixels = pixels.to(self._execution_device)
        latents = condition_latents(self.vae, pixels, latent_frames, self.settings.condition)
        mask = self.picture_mask(inputs, latents.shape[2]).to(latents)
        masks = face_token_masks(faces, height, width, 1, picture=picture.size)
        return {
            "condition": torch.cat([mask, latents], dim=1),
            "image_embeds": images[:1],
            "face_embeds": images[None, 1:],
            "face_masks": masks[None].to(latents).expand(-1, -1, latent_frames, -1, -1),
        }

    def seen(self, inputs: Inputs) -> tuple[Image.Image, list[PixelBox]]:
        """The picture that encoders and masks are made of, and the faces in it, see `PipelineSettings.prepared`."""
        if self.settings.prepared == "video" or inputs.picture is None or inputs.faces is None:
            return inputs.decoded.image, inputs.decoded.boxes
        return inputs.picture, inputs.faces

    def encode_voices(self, inputs: Inputs) -> VoiceWindows:
        """Audio features of all people."""
        voices = [voice.waveform if voice.vocals is None else voice.vocals for voice in inputs.voices]
        return hear_voices(self.audio_features, voices, inputs.frames, inputs.fps, inputs.mode)

    def picture_mask(self, inputs: Inputs, latent_frames: int) -> torch.Tensor:
        """The four mask channels (1, 4, f, h, w) in front of the condition latents."""
        width, height = inputs.decoded.image.size
        picture, faces = self.seen(inputs)
        return condition_mask(faces, height, width, latent_frames, picture=picture.size)[None]

    @torch.no_grad()
    def encode_prompt(
        self, prompt: str | torch.Tensor = "", negative_prompt: str | torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Text embeddings (1, tokens, channels) of prompt and null branch, for `prompt_embeds` of later calls.

        Args:
            prompt: what happens in the video; embeddings are returned as they are.
            negative_prompt: the same for the null branch; None: the model's null text.
        """
        text = self._given(prompt) if isinstance(prompt, torch.Tensor) else self.encode_text(prompt)
        if isinstance(negative_prompt, torch.Tensor):
            return text, self._given(negative_prompt)
        return text, self.encode_null_text(negative_prompt)

    def _given(self, embeds: torch.Tensor) -> torch.Tensor:
        return embeds.to(self._execution_device, self.text_encoder.dtype)

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
