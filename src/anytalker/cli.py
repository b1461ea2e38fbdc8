"""The command line: `anytalker demo`, `generate` and friends. Heavy imports wait until a command needs them."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anytalker.errors import AnyTalkerError, InputError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from anytalker.pipelines.pipeline import AnyTalkerPipeline
    from anytalker.pipelines.result import TalkingVideo

app = typer.Typer(
    name="anytalker",
    help="Talking videos of any number of people: one picture, one voice each, and everyone speaks their own words.",
    epilog="Start with:  anytalker demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
miniature_app = typer.Typer(help="The drawn world of the built-in miniature.", no_args_is_help=True)
app.add_typer(miniature_app, name="miniature")


_STAGES = {"prepare": "Preparing", "denoise": "Making the video", "decode": "Decoding frames"}


class Mode(str, Enum):
    """How several audios relate in time."""

    pad = "pad"
    concat = "concat"


class Device(str, Enum):
    """Where the model runs."""

    cpu = "cpu"
    cuda = "cuda"


def _version(show: bool) -> None:
    if show:
        from anytalker import __version__

        typer.echo(f"anytalker {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:\n\n  anytalker demo\n\n  anytalker demo --persons 3 --seconds 6 --output three.mp4",
)
def demo(
    persons: Annotated[int, typer.Option(help="How many drawn people talk, 1 to 6.")] = 2,
    seconds: Annotated[float, typer.Option(help="Length of the video in seconds, 1 to 60.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Another seed, other people and other words.")] = 0,
    output: Annotated[Path, typer.Option(help="The video to write.")] = Path("demo.mp4"),
) -> None:
    """Make a video of drawn people who talk to each other. Needs no picture, no voice, no GPU and no download."""
    _check_output(output, ".mp4")
    _range("--persons", persons, 1, 6)
    _range("--seconds", seconds, 1, 60)
    _range("--seed", seed, 0, 2**31)
    from anytalker.miniature.demo import demo_scene

    pipeline = _load("tiny", Device.cpu)
    image, boxes, voices = demo_scene(persons, seconds, seed)
    frames = int(round(seconds * pipeline.settings.fps)) // 4 * 4 + 1
    video = _run(pipeline, seed, image=image, audio=voices, faces=boxes, max_frames=frames, prompt="people are talking")
    _finish(video, output, seed)


@app.command(
    epilog="Examples:\n\n"
    "  anytalker generate --image two.png --audio anna.wav --audio ben.wav\n\n"
    "  anytalker generate --image two.png --audio none --audio ben.wav --output listen.mp4\n\n"
    "  anytalker generate --image group.png --audio a.wav --face 120,80,90,90 --audio b.wav --face 300,70,95,95",
)
def generate(
    image: Annotated[Path, typer.Option(help="The picture.")],
    audio: Annotated[
        list[str],
        typer.Option(help="A person's voice, any audio or video file, once a person; 'none' for one who listens."),
    ],
    face: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="A face box in pixels of the picture; the i-th face gets the i-th audio. "
            "Left out: the faces are found, and taken from left to right.",
        ),
    ] = None,
    prompt: Annotated[str, typer.Option(help="What happens in the video.")] = "",
    negative_prompt: Annotated[str | None, typer.Option(help="What should not happen (used with guidance).")] = None,
    mode: Annotated[
        Mode, typer.Option(help="pad: the audios share a clock. concat: people speak one after another.")
    ] = Mode.pad,
    model: Annotated[str, typer.Option(help="tiny (comes with the package) or a model's folder.")] = "tiny",
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 1000; more is finer and slower.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Pull of prompt and voice, 0 to 100; 1 is none.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same video.")] = 0,
    fps: Annotated[float | None, typer.Option(help="Video frames a second, 1 to 120.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop after that many video frames.")] = None,
    device: Annotated[Device | None, typer.Option(help="cpu or cuda; left out: a GPU if there is one.")] = None,
    output: Annotated[Path, typer.Option(help="The video to write; OUT.json beside it says how it was made.")] = Path(
        "talk.mp4"
    ),
) -> None:
    """Make everyone in a picture speak their own words."""
    _check_output(output, ".mp4")
    _range("--seed", seed, 0, 2**63 - 1)
    from anytalker.conditioning.audio import load_audio
    from anytalker.conditioning.faces import parse_box
    from anytalker.conditioning.image import load_image
    from anytalker.pipelines.inputs import MAX_FPS, MAX_STEPS, check_number

    for name, value, low, high in (
        ("--steps", steps, 1, MAX_STEPS),
        ("--fps", fps, 1, MAX_FPS),
        ("--guidance-scale", guidance_scale, 0, 100),
        ("--max-frames", max_frames, 5, 10**9),
    ):
        if value is not None:
            check_number(name, value, low, high)
    boxes = [parse_box(text) for text in face] if face else None
    voices = [None if path == "none" else path for path in audio]
    load_image(image)
    for path in voices:
        if path is not None:
            load_audio(path)
    video = _run(
        _load(model, device),
        seed,
        image=image,
        audio=voices,
        faces=boxes,
        prompt=prompt,
        negative_prompt=negative_prompt,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        mode=mode.value,
        fps=fps,
        max_frames=max_frames,
    )
    _finish(video, output, seed)


@miniature_app.command(epilog="Example:  anytalker miniature picture --persons 3 --seed 1000007 --output three.png")
def picture(
    persons: Annotated[int, typer.Option(help="How many people, 1 to 20.")] = 2,
    seed: Annotated[int, typer.Option(help="Which people; seeds from 1,000,000 up were never trained on.")] = 1_000_000,
    output: Annotated[Path, typer.Option(help="The picture to write; its face boxes go to a .json beside it.")] = Path(
        "picture.png"
    ),
) -> None:
    """Draw people of the miniature's world, and say where their faces are."""
    _check_output(output, ".png")
    _range("--persons", persons, 1, 20)
    _range("--seed", seed, 0, 2**31)
    from anytalker.miniature.demo import write_picture

    write_picture(persons, seed, output)
    typer.echo(f"Wrote {output} and {output.with_suffix('.json')}.")


def _check_output(output: Path, suffix: str) -> None:
    from anytalker.files import check_writable_output

    check_writable_output(output, suffix)
    check_writable_output(output.with_suffix(".json"), ".json")


def _range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must be from {low} to {high}.")


def _load(model: str, device: Device | None) -> AnyTalkerPipeline:
    import logging

    from anytalker.pipelines.components import model_folder

    model_folder(model)
    import torch

    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError("--device is cuda, but no CUDA GPU can be used here; leave it out or give --device cpu.")
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    from anytalker.pipelines.pipeline import AnyTalkerPipeline

    chosen = device.value if device else ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    return pipeline.to(chosen)


def _run(pipeline: AnyTalkerPipeline, seed: int, **inputs: Any) -> TalkingVideo:
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<18}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(_STAGES.get(stage, stage), total=total)
                if not console.is_terminal:
                    typer.echo(f"{_STAGES.get(stage, stage)} …", err=True)
            progress.update(tasks[stage], completed=done, total=total)

        generator = torch.Generator().manual_seed(seed)
        return pipeline(generator=generator, on_progress=report, **inputs)


def _finish(video: TalkingVideo, output: Path, seed: int) -> None:
    from anytalker.files import write_json_atomic

    video.save(output)
    record = output.with_suffix(".json")
    write_json_atomic(record, video.record(seed).model_dump())
    frames, height, width = video.frames.shape[:3]
    seconds = sum(video.seconds.values())
    typer.echo(
        f"Wrote {output}: {frames / video.fps:.1f} s, {width}×{height}, {len(video.inputs.boxes)} "
        f"{'people' if len(video.inputs.boxes) > 1 else 'person'}, made in {seconds:.0f} s. How: {record}"
    )


def main() -> None:
    """Run the command line; exit with 0 done, 2 wrong input, 130 interrupted, 1 anything else."""
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
        if code == 130:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except InputError as error:
        _fail(str(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        _fail("Interrupted; nothing half-written was left.", 130)
    except MemoryError:
        _fail("Out of memory; give a smaller picture or fewer frames (--max-frames).", 1)
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):
            error.show()
            sys.exit(error.exit_code)
        _fail(str(error) if isinstance(error, AnyTalkerError) else f"{type(error).__name__}: {error}", 1)


def _fail(message: str, code: int) -> None:
    typer.echo(f"Error: {message}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
