"""`anytalker demo` and `anytalker generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anytalker.cli.console import (
    CacheMode,
    DecoderMode,
    Device,
    MemoryMode,
    WeightsMode,
    check_range,
    finish,
    load_pipeline,
    make_video,
    remark,
    settle_output,
)
from anytalker.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from anytalker.conditioning.binding import FaceChoice, People
    from anytalker.denoising.windows import WindowChoice
    from anytalker.hardware.acceleration import Acceleration
    from anytalker.pipelines.inputs import Voice

commands = typer.Typer()
_DEMO = "demo"
"""Fingerprint of all demos: any of them may take another's place."""
_DEFAULT = "talk.mp4"


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
    output: Annotated[
        Path | None, typer.Option(show_default="demo.mp4", help="The video to write; an earlier demo is replaced.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a video that is no demo, too.")] = False,
) -> None:
    """Make a video of drawn people who talk to each other. Needs no picture, no voice, no GPU and no download."""
    started = time.monotonic()
    check_range("--persons", persons, 1, 6)
    check_range("--seconds", seconds, 1, 3600)
    check_range("--seed", seed, 0, 2**31)
    target = settle_output(output, "demo.mp4", _DEMO, force=force)
    from anytalker.miniature.demo import demo_scene

    pipeline = load_pipeline("tiny", Device.cpu)
    image, boxes, voices = demo_scene(persons, seconds, seed)
    frames = int(round(seconds * pipeline.settings.fps)) // 4 * 4 + 1
    video = make_video(
        pipeline,
        seed,
        target,
        fingerprint=_DEMO,
        image=image,
        audio=voices,
        faces=boxes,
        max_frames=frames,
        prompt="people are talking",
    )
    finish(video, started)


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
            "Left out: the i-th person from the left. Everybody else listens.",
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
    model: Annotated[
        str, typer.Option(help="tiny (comes with the package), 1.3b, 14b, a model's folder, or a published checkpoint.")
    ] = "tiny",
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
    window: Annotated[
        str | None,
        typer.Option(
            metavar="none|N",
            help="Latent frames (4 video frames each) denoised together; none: all at once, as the release; "
            "left out: the model's, 20 for 1.3b and 14b.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Size of the video, of the picture's shape; left out: what suits the model."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Make the sides that many times as long as what suits the model, 0.1 to 8.")
    ] = None,
    release_length: Annotated[
        bool,
        typer.Option("--release-length", help="End up to 4 frames before the sound, as the authors' release does."),
    ] = False,
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
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile first. [default: on a GPU, if the video is long]"),
    ] = None,
    decoder: Annotated[
        DecoderMode, typer.Option(help="Precision of the autoencoder's decoder; bfloat16 is faster, slightly other.")
    ] = DecoderMode.float32,
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
    output: Annotated[
        Path | None,
        typer.Option(
            show_default="talk.mp4, or the next name that is free",
            help="The video to write; OUT.json beside it says how it was made. A video of other inputs or settings "
            "is not replaced.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever video is there.")] = False,
) -> None:
    """Make everyone in a picture speak their own words."""
    started = time.monotonic()
    adapters = [_adapter(text) for text in lora or ()]
    _check_overwriting(image, audio, face, adapters, output)
    options: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "num_inference_steps": steps,
        "guidance_scale": guidance_scale,
        "audio_guidance_scale": audio_guidance_scale,
        "voice_strengths": voice_strength,
        "batch_guidance": batch_guidance,
        "guidance_interval": _interval(guidance_interval),
        "mode": mode.value,
        "fps": fps,
        "max_frames": max_frames,
        "window": _window(window),
        "size": _size(size, scale),
        "scale": scale,
        "rounding": "release" if release_length else "up",
    }
    _check_numbers(options, seed, save_every, cache_threshold)
    choices = _face_choices(face, audio, voice_strength)
    _check_files(image, audio, adapters, model)
    acceleration = _acceleration(cache, cache_threshold, attention, compiled, decoder)
    target, fingerprint = output or Path(_DEFAULT), ""
    if not preview:
        settings = [
            image.name,
            at,
            [Path(path).name for path in audio],
            face,
            seed,
            model,
            weights.value,
            acceleration,
            adapters,
            options,
        ]
        sources = _sources(image, audio, face, adapters)
        fingerprint = _fingerprint(sources, settings)
        target = settle_output(output, _DEFAULT, fingerprint, sources, force)
    picture, voices, people = _load_inputs(image, at, audio, choices)
    if preview:
        _preview(picture, people, voices, target)
        return
    _check_together(picture, voices, people, model, options)
    _say_what_to_expect(image, picture, model)
    video = make_video(
        load_pipeline(model, device, memory, weights, acceleration, adapters),
        seed,
        target,
        fingerprint=fingerprint,
        image=picture,
        audio=voices,
        faces=people,
        interval=save_every,
        **options,
    )
    finish(video, started)


def _sources(
    image: Path, audio: Sequence[str], face: Sequence[str] | None, adapters: Sequence[tuple[Path, float]]
) -> list[str | Path]:
    """All that is read, the model apart; boxes among the faces are no files."""
    from anytalker.media.channels import split_channel

    recordings = [split_channel(path)[0] for path in audio if path != "none"]
    return [image, *recordings, *(face or ()), *(path for path, _ in adapters)]


def _check_overwriting(
    image: Path,
    audio: Sequence[str],
    face: Sequence[str] | None,
    adapters: Sequence[tuple[Path, float]],
    output: Path | None,
) -> None:
    """Make sure that the video can be written where it is wanted, and that nothing that it needs lies there."""
    from anytalker.files import check_writable_output
    from anytalker.media.destination import check_inputs_kept

    check_writable_output(output or Path(_DEFAULT), ".mp4")
    check_inputs_kept(output or Path(_DEFAULT), _sources(image, audio, face, adapters))


def _check_numbers(options: dict[str, Any], seed: int, save_every: float, cache_threshold: float) -> None:
    from anytalker.pipelines.limits import MAX_FPS, MAX_STEPS, MIN_FRAMES, check_number

    check_range("--seed", seed, 0, 2**63 - 1)
    for name, value, low, high in (
        ("--steps", options["num_inference_steps"], 1, MAX_STEPS),
        ("--fps", options["fps"], 1, MAX_FPS),
        ("--guidance-scale", options["guidance_scale"], 0, 100),
        ("--audio-guidance-scale", options["audio_guidance_scale"], 0, 100),
        ("--max-frames", options["max_frames"], MIN_FRAMES, 10**9),
        ("--save-every", save_every, 0, 86400),
        ("--cache-threshold", cache_threshold, 0, 1),
        *(("--voice-strength", strength, 0, 10) for strength in options["voice_strengths"] or ()),
    ):
        if value is not None:
            check_number(name, value, low, high)


def _size(size: str | None, scale: float | None) -> tuple[int, int] | None:
    from anytalker.pipelines.limits import check_size, parse_size

    asked = None if size is None else parse_size(size)
    check_size(asked, scale)
    return asked


def _face_choices(
    face: Sequence[str] | None, audio: Sequence[str], strengths: Sequence[float] | None
) -> list[FaceChoice] | None:
    """The faces that were given, once their number is known to go with that of the voices and their strengths."""
    from anytalker.conditioning.binding import check_choices, parse_face
    from anytalker.pipelines.limits import check_strengths

    if all(path == "none" for path in audio):
        raise InputError("No audio was given; give at least one recording, for example --audio voice.wav.")
    choices = [parse_face(text) for text in face] if face else None
    check_choices(choices, len(audio))
    if choices is not None and all(isinstance(choice, tuple) and len(choice) == 4 for choice in choices):
        check_strengths(strengths, len(choices))
    return choices


def _check_files(image: Path, audio: Sequence[str], adapters: Sequence[tuple[Path, float]], model: str) -> None:
    """Make sure that everything that is named is there, before anything of it is read."""
    from anytalker.loading.locate import find_model
    from anytalker.media.channels import split_channel

    if not image.exists():
        raise InputError(f"There is no picture {image}. Check the path.")
    for path in audio:
        if path != "none" and not split_channel(path)[0].exists():
            raise InputError(f"There is no audio file {path}. Check the path.")
    for adapter, _ in adapters:
        if not adapter.exists():
            raise InputError(f"There is no adapter {adapter}. Check the path.")
    find_model(model)


def _acceleration(
    cache: CacheMode, threshold: float, attention: str | None, compiled: bool | None, decoder: DecoderMode
) -> Acceleration:
    from anytalker.hardware.acceleration import Acceleration, check_acceleration
    from anytalker.processes import processes_together

    acceleration = Acceleration(cache.value, threshold, attention, compiled, decoder.value)
    if attention is None:  # which ones there are, only diffusers knows; the model's ratios are checked with the model
        check_acceleration(acceleration, (1.0,), processes_together() > 1)
    return acceleration


def _fingerprint(sources: Sequence[str | Path], settings: Any) -> str:
    from anytalker.media.destination import fingerprint_of

    return fingerprint_of([path for path in sources if Path(path).is_file()], settings)


def _load_inputs(
    image: Path, at: float | None, audio: Sequence[str], choices: Sequence[FaceChoice] | None
) -> tuple[Image.Image, list[Voice | None], People]:
    """The picture, the voices, and everybody's face; says who speaks where that isn't plain."""
    from anytalker.conditioning.binding import People, bind_faces, describe_people, is_box
    from anytalker.conditioning.picture_record import recorded_faces
    from anytalker.media.pictures import load_image

    picture = load_image(image, at)
    loaded = {path: _voice(path) for path in dict.fromkeys(audio) if path != "none"}
    voices = [loaded.get(path) for path in audio]
    sought = choices is None or not all(is_box(choice) for choice in choices)
    known = recorded_faces(image, picture.size, remark) if sought else None
    people = People(bind_faces(picture, choices, len(voices), remark, known))
    if len(people) > 1:
        remark(describe_people(people, [voice.name if voice else None for voice in voices]))
    return picture, voices, people


def _check_together(
    picture: Image.Image, voices: Sequence[Voice | None], people: People, model: str, options: dict[str, Any]
) -> None:
    """Make sure, before the model is loaded, that all inputs go together."""
    from anytalker.denoising.windows import check_positions, with_window
    from anytalker.loading.components import model_settings
    from anytalker.pipelines.inputs import prepare_inputs
    from anytalker.pipelines.limits import check_strengths

    check_strengths(options["voice_strengths"], len(people))
    names = ("mode", "fps", "max_frames", "size", "scale", "rounding")
    settings = with_window(model_settings(model), options["window"])
    inputs = prepare_inputs(picture, voices, people, settings, **{name: options[name] for name in names})
    check_positions(inputs.frames, inputs.image.size, settings)


def _say_what_to_expect(image: Path, picture: Image.Image, model: str) -> None:
    """Say so if a model that has only seen drawn people is given a photograph."""
    from anytalker.conditioning.drawn import looks_photographed
    from anytalker.loading.components import model_settings

    if model_settings(model).trained_on == "drawn" and looks_photographed(picture):
        remark(
            f"{image} looks like a photograph, and {model} has only seen drawn faces: don't expect it to talk well. "
            "For photographs take --model 1.3b or 14b; `anytalker doctor` says which of them runs here."
        )


def _voice(path: str) -> Voice:
    from anytalker.conditioning.timeline import is_silent
    from anytalker.pipelines.inputs import load_voice

    voice = load_voice(path)
    if voice.remark:
        remark(voice.remark)
    if is_silent(voice.waveform):
        remark(f"{path} is silent throughout: whoever has it for a voice keeps their mouth shut.")
    return voice


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


def _window(text: str | None) -> WindowChoice:
    if text is None or text == "none":
        return "none" if text else None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--window is {text!r}; it must be none or a number of latent frames such as 20.") from None


def _preview(picture: Image.Image, boxes: People, voices: list[Voice | None], output: Path) -> None:
    from anytalker.files import atomic_path
    from anytalker.media.destination import preview_path
    from anytalker.pipelines.preview import draw_preview

    shown = preview_path(output)
    names = [voice.name if voice else None for voice in voices] + [None] * (len(boxes) - len(voices))
    with atomic_path(shown) as partial:
        draw_preview(picture, boxes, names).save(partial)
    typer.echo(f"Wrote {shown}: who gets which voice. Without --preview the video is made.")
