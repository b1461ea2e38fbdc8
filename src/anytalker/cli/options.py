"""Command-line options made from pydantic models, so that each option is defined once, where it is checked."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from anytalker.pipelines.options import checked

RayAddress = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Use every device of a ray cluster instead: auto, host:port, or local to start one here.",
    ),
]
"""`--ray` of the commands that make videos."""


@dataclass(frozen=True)
class _Spelling:
    """How an option looks on the command line where its field doesn't say.

    Attributes:
        name: of the option.
        kind: what the command line makes of it before the model checks it.
        metavar: what its value looks like.
        help: what it does, if that reads otherwise there.
        on: what a switch stands for.
    """

    name: str | None = None
    kind: Any = None
    metavar: str | None = None
    help: str | None = None
    on: Any = True


_SPELLINGS = {
    "num_inference_steps": _Spelling("--steps"),
    "voice_strengths": _Spelling("--voice-strength", list[float] | None),
    "guidance_interval": _Spelling(kind=str | None, metavar="FROM,TO"),
    "window": _Spelling(kind=str | None, metavar="none|N"),
    "size": _Spelling(kind=str | None, metavar="WxH"),
    "rounding": _Spelling(
        "--release-length",
        bool,
        help="End up to 4 frames before the sound, as the authors' release does.",
        on="release",
    ),
    "upscale": _Spelling(
        "--no-upscale",
        bool,
        help="Leave the frames as they are decoded, half as large, in less time (tiny).",
        on=False,
    ),
    "separate": _Spelling(
        "--no-separate",
        bool,
        help="Let 1.3b and 14b hear the recordings as they are, music and noise included.",
        on=False,
    ),
    "lora": _Spelling(kind=list[str] | None, metavar="FILE[:STRENGTH]"),
}


def option_name(field: str) -> str:
    """What an option is called on the command line: "--max-frames" for "max_frames"."""
    spelling = _SPELLINGS.get(field)
    return (spelling and spelling.name) or f"--{field.replace('_', '-')}"


def takes(**models: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator that gives a command all fields of pydantic models as options; it receives an object of each model.

    Args:
        **models: parameter → model, such as `options=GenerationOptions`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        parameters: list[inspect.Parameter] = []
        for name, one in own.items():
            fields = models[name].model_fields if name in models else None
            added = [_parameter(*field) for field in fields.items()] if fields else [one]
            parameters += [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in added]

        @functools.wraps(command)
        def run(**values: Any) -> None:
            chosen = {
                name: options_from(model, {field: values.pop(field) for field in model.model_fields})
                for name, model in models.items()
            }
            command(**values, **chosen)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def options_from(model: type[BaseModel], given: Mapping[str, Any]) -> Any:
    """An object of a model from the command line's values of its fields; None or False: not given.

    Raises:
        InputError: for a value that can't be used, under its name on the command line.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for name in [name for name in values if name in _SPELLINGS and _SPELLINGS[name].kind is bool]:
        if values.pop(name):
            values[name] = _SPELLINGS[name].on
    return checked(model, values, option_name)


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    spelling = _SPELLINGS.get(name, _Spelling())
    words = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    kind = spelling.kind or (str if words else field.annotation)
    default = False if kind is bool else None if spelling.kind else field.default
    option = typer.Option(
        f"--{name}/--no-{name}" if kind == bool | None else option_name(name),
        help=spelling.help or field.description,
        metavar=spelling.metavar or ("|".join(words) or None),
        is_flag=True if kind is bool else None,
        show_default=kind is not bool and default not in (None, ""),
    )
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
