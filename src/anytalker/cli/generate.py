"""`anytalker demo` and `anytalker generate`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anytalker.cli.console import (
    CacheMode,
    Device,
    MemoryMode,
    WeightsMode,
    check_range,
    check_video,
    finish,
    load_pipeline,
    make_video,
)
from anytalker.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from anytalker.conditioning.faces import Box
    from anytalker.pipelines.inputs import Voice

commands = typer.Typer()


class Mode(str, Enum):
    """How several audios relate in time."""

    pad = "pad"
    concat = "concat"


@commands.command(
    epilog="Examples:\n\n  anytalker demo\n\n  anytalker demo --persons 3 --seconds 6 --output three.mp4",
)
def demo(
    persons: Annotated[int, typer.Option(help="How many drawn people talk, 1 to 6.")] = 2,
    seconds: Annotated[float, typer.Option(help="Length of the video in seconds, 1 to 3600.")] = 4.0,
    seed: Annotated[int, typer.Option(help="Another seed, other people and other words.")] = 18,
    output: Annotated[Path, typer.Option(help="The video to write.")] = Path("demo.mp4"),
) -> None:
    """Make a video of drawn people who talk to each other. Needs no picture, no voice, no GPU and no download."""
    check_video(output)
    check_range("--persons", persons, 1, 6)
    check_range("--seconds", seconds, 1, 3600)
    check_range("--seed", seed, 0, 2**31)
    from anytalker.miniature.demo import demo_scene

    pipeline = load_pipeline("tiny", Device.cpu)
    image, boxes, voices = demo_scene(persons, seconds, seed)
    frames = int(round(seconds * pipeline.settings.fps)) // 4 * 4 + 1
    video = make_video(
        pipeline, seed, output, image=image, audio=voices, faces=boxes, max_frames=frames, prompt="people are talking"
    )
    finish(video)


@commands.command(
    epilog="Examples:\n\n"
    "  anytalker generate --image two.png --audio anna.wav --audio ben.wav\n\n"
    "  anytalker generate --image two.png --audio none --audio ben.wav --output listen.mp4\n\n"
    "  anytalker generate --image group.png --audio a.wav --face 3 --audio b.wav --face 1 --preview\n\n"
    "  anytalker generate --image group.png --audio a.wav --face 120,80,90,90 --audio b.wav --face 300,70,95,95",
)
def generate(
    image: Annotated[Path, typer.Option(help="The picture, or a video: its first frame that isn't black.")],
    audio: Annotated[
        list[str],
        typer.Option(
            help="A person's voice, any audio or video file, once a person; 'none' for one who listens. "
            "FILE:left, FILE:right and FILE:1 to FILE:N take one channel."
        ),
    ],
    face: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y,W,H",
            help="Whose voice it is, the i-th face for the i-th audio: a box X,Y,W,H or a point X,Y in pixels of the "
            "picture, a number from the left, or a picture of the same size, white where the person is. "
            "Left out: the most prominent faces, from left to right. Everybody else listens.",
        ),
    ] = None,
    at: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Of a video as the picture: the frame shown at that time.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="What happens in the video.")] = "",
    negative_prompt: Annotated[str | None, typer.Option(help="What should not happen (used with guidance).")] = None,
    mode: Annotated[
        Mode, typer.Option(help="pad: the audios share a clock. concat: people speak one after another.")
    ] = Mode.pad,
    model: Annotated[str, typer.Option(help="tiny (comes with the package), 1.3b, 14b, or a model's folder.")] = "tiny",
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 1000; more is finer and slower.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Pull of prompt and voice, 0 to 100; 1 is none.")] = None,
    audio_guidance_scale: Annotated[
        float | None, typer.Option(help="Pull of the voices alone; left out: that of the prompt.")
    ] = None,
    voice_strength: Annotated[
        list[float] | None,
        typer.Option(help="How much a voice moves its face, 0 to 10, once a person; left out: 1."),
    ] = None,
    batch_guidance: Annotated[
        bool, typer.Option("--batch-guidance", help="With guidance: both branches at once, faster where memory allows.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same video.")] = 0,
    fps: Annotated[float | None, typer.Option(help="Video frames a second, 1 to 120.")] = None,
    max_frames: Annotated[int | None, typer.Option(help="Stop after that many video frames.")] = None,
    device: Annotated[Device | None, typer.Option(help="cpu or cuda; left out: a GPU if there is one.")] = None,
    memory: Annotated[
        MemoryMode,
        typer.Option(
            help="What is on the GPU at a time: high, everything; balanced, one part of the model; low, one layer, "
            "slower. All give the same video."
        ),
    ] = MemoryMode.high,
    weights: Annotated[
        WeightsMode,
        typer.Option(help="Keep the transformer's weights as they are, or in 8 bits: less memory, slightly other."),
    ] = WeightsMode.full,
    lora: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE[:STRENGTH]",
            help="An adapter to merge in, such as one that makes 4 --steps enough; several times for several.",
        ),
    ] = None,
    cache: Annotated[
        CacheMode,
        typer.Option(
            help="Leave out what hardly changes from step to step: faster, slightly other. first-block with "
            "--cache-threshold; magcache, too, once `anytalker calibrate` knows the model; taylorseer extrapolates."
        ),
    ] = CacheMode.none,
    cache_threshold: Annotated[
        float, typer.Option(help="Of first-block and magcache, 0 to 1; more is faster and rougher.")
    ] = 0.08,
    attention: Annotated[
        str | None, typer.Option(help="Another attention kernel of diffusers, such as flash or sage, if installed.")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile first; pays off for many or long videos.")
    ] = False,
    guidance_interval: Annotated[
        str, typer.Option(metavar="FROM,TO", help="Shares of the steps between which there is guidance.")
    ] = "0,1",
    save_every: Annotated[
        float,
        typer.Option(
            help="Seconds between savings of an unfinished video to the folder OUT.parts, from where the same command "
            "goes on after an interruption."
        ),
    ] = 20.0,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only write a picture beside OUT that shows whose voice is whose.")
    ] = False,
    output: Annotated[Path, typer.Option(help="The video to write; OUT.json beside it says how it was made.")] = Path(
        "talk.mp4"
    ),
) -> None:
    """Make everyone in a picture speak their own words."""
    adapters = [_adapter(text) for text in lora or ()]
    from anytalker.conditioning.channels import split_channel

    recordings = [split_channel(path)[0] for path in audio if path != "none"]
    sources = [image, *recordings, *(face or ()), *(path for path, _ in adapters)]
    check_video(output, sources)
    check_range("--seed", seed, 0, 2**63 - 1)
    from anytalker.conditioning.binding import People, bind_faces, parse_face
    from anytalker.conditioning.image import load_image
    from anytalker.pipelines.acceleration import Acceleration
    from anytalker.pipelines.components import model_settings
    from anytalker.pipelines.destination import preview_path
    from anytalker.pipelines.guidance import check_strengths
    from anytalker.pipelines.inputs import MAX_FPS, MAX_STEPS, MIN_FRAMES, check_number, prepare_inputs

    for name, value, low, high in (
        ("--steps", steps, 1, MAX_STEPS),
        ("--fps", fps, 1, MAX_FPS),
        ("--guidance-scale", guidance_scale, 0, 100),
        ("--audio-guidance-scale", audio_guidance_scale, 0, 100),
        ("--max-frames", max_frames, MIN_FRAMES, 10**9),
        ("--save-every", save_every, 0, 86400),
        ("--cache-threshold", cache_threshold, 0, 1),
        *(("--voice-strength", strength, 0, 10) for strength in voice_strength or ()),
    ):
        if value is not None:
            check_number(name, value, low, high)
    interval = _interval(guidance_interval)
    faces = [parse_face(text) for text in face] if face else None
    picture = load_image(image, at)
    loaded = {path: _voice(path) for path in dict.fromkeys(audio) if path != "none"}
    voices = [loaded.get(path) for path in audio]
    people = People(bind_faces(picture, faces, len(voices), _remark))
    check_strengths(voice_strength, len(people))
    if preview:
        _preview(picture, people, voices, preview_path(output))
        return
    prepare_inputs(picture, voices, people, model_settings(model), mode.value, fps, max_frames)
    acceleration = Acceleration(cache.value, cache_threshold, attention, compiled)
    video = make_video(
        load_pipeline(model, device, memory, weights, acceleration, adapters),
        seed,
        output,
        image=picture,
        audio=voices,
        faces=people,
        prompt=prompt,
        negative_prompt=negative_prompt,
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        audio_guidance_scale=audio_guidance_scale,
        voice_strengths=voice_strength,
        batch_guidance=batch_guidance,
        guidance_interval=interval,
        mode=mode.value,
        fps=fps,
        max_frames=max_frames,
        interval=save_every,
    )
    for person in video.inputs.listeners:
        box = ",".join(map(str, video.inputs.boxes[person]))
        typer.echo(f"Person {person + 1} (at {box} in the video) has no voice and listens.", err=True)
    finish(video)


def _voice(path: str) -> Voice:
    from anytalker.conditioning.timeline import is_silent
    from anytalker.pipelines.inputs import load_voice

    voice = load_voice(path)
    if voice.remark:
        _remark(voice.remark)
    if is_silent(voice.waveform):
        _remark(f"{path} is silent throughout: whoever has it for a voice keeps their mouth shut.")
    return voice


def _remark(message: str) -> None:
    """Say once, however many processes make the video together, what is no mistake but may be one."""
    from anytalker.pipelines.processes import is_first

    if is_first():
        typer.echo(message, err=True)


def _adapter(text: str) -> tuple[Path, float]:
    path, colon, strength = text.rpartition(":")
    try:
        return (Path(path), float(strength)) if colon else (Path(text), 1.0)
    except ValueError:
        return Path(text), 1.0


def _interval(text: str) -> tuple[float, float]:
    try:
        start, end = map(float, text.split(","))
    except ValueError:
        start, end = -1.0, -1.0
    if not 0 <= start <= end <= 1:
        raise InputError(f"--guidance-interval is {text!r}; it must be two shares such as 0,0.5.")
    return start, end


def _preview(picture: Image.Image, boxes: Sequence[Box], voices: list[Voice | None], output: Path) -> None:
    from anytalker.files import atomic_path
    from anytalker.pipelines.preview import draw_preview

    names = [voice.name if voice else None for voice in voices] + [None] * (len(boxes) - len(voices))
    with atomic_path(output) as partial:
        draw_preview(picture, boxes, names).save(partial)
    typer.echo(f"Wrote {output}: who gets which voice. Without --preview the video is made.")
