"""Several prompts of one call: the same picture, people and voices, a video for every prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from anytalker.errors import InputError
from anytalker.pipelines.python_options import PythonOptions

if TYPE_CHECKING:
    import torch

    from anytalker.pipelines.prepared_video import PreparedVideo


@dataclass(frozen=True)
class Prompt:
    """What one video is told: texts, or embeddings (1, tokens, channels) in their places."""

    prompt: str
    negative_prompt: str | None
    prompt_embeds: torch.Tensor | None
    negative_prompt_embeds: torch.Tensor | None

    @property
    def options(self) -> dict[str, Any]:
        """By the names of the pipeline's options."""
        return dict(vars(self))

    @property
    def own(self) -> PythonOptions:
        """The embeddings alone."""
        return PythonOptions(prompt_embeds=self.prompt_embeds, negative_prompt_embeds=self.negative_prompt_embeds)

    def embeds(self, pipeline: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of prompt and null branch; made first of all, so that the text encoder can leave the device."""
        channels = pipeline.text_encoder.config.d_model
        self.own.check_texts(self.prompt, self.negative_prompt, pipeline.settings.text_len, channels)
        return pipeline.encode_prompt(*self.own.texts(self.prompt, self.negative_prompt))

    def told(self, video: PreparedVideo, embeds: tuple[torch.Tensor, torch.Tensor]) -> PreparedVideo:
        """A video that was prepared with another prompt, with this one.

        Args:
            video: the other.
            embeds: of prompt and null branch, as `encode_prompt` returns them.
        """
        others = {name for name in ("prompt_embeds", "negative_prompt_embeds") if name in video.choices}
        choices = {name: value for name, value in video.choices.items() if name not in others}
        said = {"prompt": self.prompt, "negative_prompt": self.negative_prompt}
        choices |= {name: value for name, value in said.items() if value is not None} | self.own.recorded
        conditioning = replace(video.conditioning, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1])
        return replace(video, conditioning=conditioning, choices=choices)


def each_prompt(
    prompt: str | Sequence[str],
    negative_prompt: str | Sequence[str] | None,
    prompt_embeds: torch.Tensor | None,
    negative_prompt_embeds: torch.Tensor | None,
) -> list[Prompt]:
    """The prompts of a call, one a video; whatever there is once holds for all.

    Args:
        prompt, negative_prompt: one text, or several.
        prompt_embeds, negative_prompt_embeds: (1, tokens, channels), or (videos, tokens, channels).

    Raises:
        InputError: if there is none, something else than texts, or more of one than of the other.
    """
    given: dict[str, list[Any]] = {
        "prompt": _texts("prompt", prompt),
        "negative_prompt": _texts("negative_prompt", negative_prompt),
        "prompt_embeds": _rows(prompt_embeds),
        "negative_prompt_embeds": _rows(negative_prompt_embeds),
    }
    counts = {name: len(values) for name, values in given.items() if len(values) > 1}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"There are {told}; give one, or as many of each.")
    count = max(counts.values(), default=1)
    return [
        Prompt(**{name: values[place if len(values) > 1 else 0] for name, values in given.items()})
        for place in range(count)
    ]


def _texts(name: str, given: Any) -> list[Any]:
    if given is None or isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence) or not given or not all(isinstance(text, str) for text in given):
        raise InputError(f"{name} is {given!r}; it must be a text, or a list of texts, one a video.")
    return list(given)


def _rows(embeds: torch.Tensor | None) -> list[Any]:
    return [None] if embeds is None else list(embeds.split(1))
