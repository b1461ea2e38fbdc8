"""The command line: `anytalker demo`, `generate` and friends. Heavy imports wait until a command needs them."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

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


class _TrainGroup(typer.core.TyperGroup):
    """`anytalker train CONFIG` beside `anytalker train prepare`: whatever is no command is a configuration."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


train_app = typer.Typer(
    cls=_TrainGroup,
    help="Train a model:  anytalker train CONFIG [--set key=value]",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(train_app, name="train")
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


@miniature_app.command("prepare", epilog="Example:  anytalker miniature prepare runs/miniature")
def prepare_miniature(
    folder: Annotated[Path, typer.Argument(help="Where everything goes; run again, and it goes on.")],
    autoencoder_steps: Annotated[int, typer.Option(help="Steps of the autoencoder's training.")] = 4000,
    clips: Annotated[int | None, typer.Option(help="Single clips; left out: as for the shipped weights.")] = None,
) -> None:
    """Train the miniature's autoencoder, make its untrained model, render its clips: all that its training needs."""
    _range("--autoencoder-steps", autoencoder_steps, 1, 10**6)
    from dataclasses import replace

    from anytalker.miniature import recipe
    from anytalker.training.autoencoder import AutoencoderTraining

    corpora = dict(recipe.CORPORA)
    if clips is not None:
        _range("--clips", clips, 1, 10**6)
        corpora["single"] = replace(corpora["single"], clips=clips)
    training = AutoencoderTraining(autoencoder_steps, learning_rate=1.5e-3)
    recipe.prepare_miniature(folder, training, corpora=corpora, log=typer.echo)


@train_app.command(
    "run",
    hidden=True,
    epilog="Examples:\n\n  anytalker train configs/miniature-stage1.yaml\n\n"
    "  anytalker train run.yaml --set optimizer.learning_rate=1e-5 --set lora.rank=16\n\n"
    "  accelerate launch -m anytalker train run.yaml",
)
def train_run(
    config: Annotated[Path, typer.Argument(help="The run's YAML file, see configs/.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value.")] = None,
) -> None:
    """Train a model, or go on with an interrupted run."""
    from anytalker.training.config import load_config

    run = load_config(config, set_ or ())
    typer.echo(run.model_dump_json(indent=2))
    _quiet_libraries()
    from anytalker.training.trainer import Trainer

    trainer = Trainer(run, typer.echo)
    trainer.run()
    typer.echo(f"Done. The model: {run.output / 'model'}")


@train_app.command(
    "ablation",
    epilog="Example:  anytalker train ablation configs/miniature-stage1.yaml runs/miniature/shards/duo runs/ablation "
    "--set steps=1200",
)
def train_ablation(
    config: Annotated[Path, typer.Argument(help="A stage 1 configuration; its steps are each row's whole budget.")],
    multi: Annotated[Path, typer.Argument(help="Shards of real clips of several people, for the rows that have them.")],
    output: Annotated[Path, typer.Argument(help="Folder for runs, table.md and plot.png; run again, and it goes on.")],
    scenes: Annotated[int, typer.Option(help="Held-out conversations to measure each row on.")] = 40,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value.")] = None,
) -> None:
    """The paper's Table 4 on the miniature's world: five mixes of data at the same budget, a table and a plot."""
    _range("--scenes", scenes, 1, 10_000)
    from anytalker.training.config import load_config

    base = load_config(config, set_ or ())
    _quiet_libraries()
    from anytalker.data.shards import read_index
    from anytalker.miniature.ablation import run_ablation

    read_index(multi)
    run_ablation(base, [multi], output, scenes, typer.echo)
    typer.echo((output / "table.md").read_text(encoding="utf-8"))


@train_app.command(
    "prepare",
    epilog="Example:  anytalker train prepare clips.jsonl shards --model 1.3b --width 832 --height 480",
)
def train_prepare(
    records: Annotated[Path, typer.Argument(help="JSON lines, one record a clip; see docs/training.md.")],
    output: Annotated[Path, typer.Argument(help="Folder for the shards: whole/ and windows/.")],
    model: Annotated[str, typer.Option(help="The model that will be trained on them.")] = "tiny",
    width: Annotated[int, typer.Option(help="Width of a whole frame in pixels, a multiple of 32.")] = 832,
    height: Annotated[int, typer.Option(help="Height in pixels, a multiple of 32.")] = 480,
    windows: Annotated[int, typer.Option(help="Face-centred windows of each single-person clip.")] = 1,
) -> None:
    """Encode footage into shards: latents, audio features, text embeddings, face boxes and crops."""
    for name, value in (("--width", width), ("--height", height)):
        _range(name, value, 32, 4096)
        if value % 32:
            raise InputError(f"{name} is {value}; it must be a multiple of 32.")
    _range("--windows", windows, 0, 100)
    from anytalker.data.records import read_records

    clips = list(read_records(records))
    pipeline = _load(model, None)
    from anytalker.data.encoding import ClipEncoder
    from anytalker.data.prepare import PrepareSettings, prepare

    settings = pipeline.settings
    encoder = ClipEncoder(pipeline.vae, pipeline.audio_features, settings.condition, settings.image_size)
    report = prepare(
        clips,
        encoder,
        lambda caption: pipeline.encode_text(caption)[0].cpu(),
        output,
        PrepareSettings(width, height, windows),
        lambda done, total: typer.echo(f"{done} of {total} clips", err=True),
    )
    for reason in report.left_out:
        typer.echo(f"Left out: {reason}", err=True)
    typer.echo(f"Wrote {report.samples} samples to {output}; {len(report.left_out)} clips left out.")


def _check_output(output: Path, suffix: str) -> None:
    from anytalker.files import check_writable_output

    check_writable_output(output, suffix)
    check_writable_output(output.with_suffix(".json"), ".json")


def _range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; it must be from {low} to {high}.")


def _load(model: str, device: Device | None) -> AnyTalkerPipeline:
    from anytalker.pipelines.components import model_folder

    model_folder(model)
    import torch

    _quiet_libraries()
    if device is Device.cuda and not torch.cuda.is_available():
        raise InputError("--device is cuda, but no CUDA GPU can be used here; leave it out or give --device cpu.")
    from anytalker.pipelines.pipeline import AnyTalkerPipeline

    chosen = device.value if device else ("cuda" if torch.cuda.is_available() else "cpu")
    pipeline = AnyTalkerPipeline.from_pretrained(model)
    return pipeline.to(chosen)


def _quiet_libraries() -> None:
    import logging

    for library in ("diffusers", "transformers"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


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
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is missing. Install what this command needs:  pip install 'anytalker[train]'", 1)
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
