"""`anytalker demo` and `anytalker generate`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anytalker.cli.console import Device, check_range, finish, load_pipeline, make_video, remark, settle_output
from anytalker.cli.conversation import ConversationOptions, Subtitles, with_subtitles, write_subtitles
from anytalker.cli.options import takes
from anytalker.errors import InputError
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.options import GenerationOptions

if TYPE_CHECKING:
    from anytalker.conditioning.binding import FaceChoice
    from anytalker.pipelines.inputs import Inputs, Scene

commands = typer.Typer()
_DEMO = "demo"
"""Fingerprint of all demos: any of them may take another's place."""
_DEFAULT = "talk.mp4"


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
    from anytalker.pipelines.inputs import fit_scene, read_scene

    pipeline = load_pipeline("tiny", Device.cpu)
    frames = int(round(seconds * pipeline.settings.fps)) // 4 * 4 + 1
    options = GenerationOptions(prompt="people are talking", max_frames=frames)
    image, boxes, voices = demo_scene(persons, seconds, seed)
    inputs = fit_scene(read_scene(image, voices, boxes), pipeline.settings, options)
    finish(make_video(pipeline, inputs, options, seed, target, _DEMO), started)


@dataclass(frozen=True)
class _Sources:
    """What a video is made from, as it was named on the command line."""

    image: Path
    at: float | None
    audio: Sequence[str]
    face: Sequence[str] | None
    others: Sequence[Path]
    conversation: ConversationOptions

    @cached_property
    def files(self) -> list[str | Path]:
        """All that is read, the model apart; boxes among the faces are no files."""
        from anytalker.media.channels import split_channel

        recordings = [split_channel(path)[0] for path in self.audio if path != "none"]
        return [self.image, *recordings, *(self.face or ()), *self.others, *self.conversation.files()]

    @property
    def names(self) -> list[Any]:
        """Their names, which count beside their contents."""
        names = [self.image.name, self.at, [Path(path).name for path in self.audio], self.face]
        return [*names, self.conversation.model_dump(mode="json")] if self.conversation.given else names


@commands.command(
    epilog="Examples:\n\n"
    "  anytalker generate --image two.png --audio anna.wav --audio ben.wav\n\n"
    "  anytalker generate --image two.png --audio none --audio ben.wav --output listen.mp4\n\n"
    "  anytalker generate --image two.png --script talk.txt\n\n"
    "  anytalker generate --image two.png --recording podcast.mp3\n\n"
    "  anytalker generate --image two.png --timeline edited.json --edit-of talk.mp4 --output talk-2.mp4\n\n"
    "  anytalker generate --image group.png --audio a.wav --face 3 --audio b.wav --face 1 --preview\n\n"
    "  anytalker generate --image group.png --audio a.wav --face 120,80,90,90 --audio b.wav --face 300,70,95,95",
)
@takes(options=GenerationOptions, loading=LoadingOptions, conversation=ConversationOptions)
# Long because its options are parameters with their help.
def generate(
    *,
    image: Annotated[Path, typer.Option(help="The picture, or a video: its first frame that isn't black.")],
    audio: Annotated[
        list[str] | None,
        typer.Option(
            help="A person's voice, any audio or video file, once a person; 'none' for one who listens. "
            "FILE:left, FILE:right and FILE:1 to FILE:N take one channel."
        ),
    ] = None,
    conversation: ConversationOptions,
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
    options: GenerationOptions,
    model: Annotated[
        str, typer.Option(help="tiny (comes with the package), 1.3b, 14b, a model's folder, or a published checkpoint.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="The same seed gives the same video.")] = 0,
    device: Annotated[Device | None, typer.Option(help="cpu or cuda; left out: a GPU if there is one.")] = None,
    loading: LoadingOptions,
    save_every: Annotated[
        float,
        typer.Option(
            help="Seconds between savings of an unfinished video to the folder OUT.parts, from where the same command "
            "goes on after an interruption."
        ),
    ] = 20.0,
    subtitles: Annotated[
        Subtitles | None,
        typer.Option(help="Texts of a script or timeline: srt writes OUT.srt beside the video, burn draws them."),
    ] = None,
    keep_latents: Annotated[
        bool, typer.Option("--keep-latents", help="Also write OUT.latents.safetensors, for --edit-of.")
    ] = False,
    edit_of: Annotated[
        Path | None,
        typer.Option(
            metavar="VIDEO",
            help="An earlier video with kept latents: only what its changed voices touch is made again. Its picture, "
            "model, seed and options must be the same.",
        ),
    ] = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview", help="Only write a picture beside OUT that shows whose voice is whose, and who speaks when."
        ),
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
    check_range("--seed", seed, 0, 2**63 - 1)
    check_range("--save-every", save_every, 0, 86400)
    conversation.check(audio or ())
    kept = _latents_of(edit_of)
    read = [*(path for path, _ in loading.lora), *kept]
    sources = _Sources(image, at, audio or (), face, read, conversation)
    _check_overwriting(sources, output)
    faces = _face_choices(sources, options)
    _check_files(sources, model, loading)
    if preview:
        _preview(_read(sources, faces, output or Path(_DEFAULT)), options, output or Path(_DEFAULT))
        return
    chosen = [seed, model, loading.changes, options.model_dump(mode="json"), *([subtitles] if subtitles else [])]
    chosen += ["keep latents"] if keep_latents else []
    fingerprint = _fingerprint(sources, chosen)
    target = settle_output(output, _DEFAULT, fingerprint, sources.files, force)
    scene = _read(sources, faces, target)
    options = _with_strengths(options, scene)
    scene = with_subtitles(scene, subtitles, target, force)
    inputs = _fit(scene, model, options)
    _warn_of_photograph(image, scene, model)
    pipeline = load_pipeline(model, device, loading)
    video = make_video(pipeline, inputs, options, seed, target, fingerprint, save_every, keep_latents, edit_of)
    if subtitles is Subtitles.srt:
        write_subtitles(video)
    finish(video, started)


def _latents_of(video: Path | None) -> list[Path]:
    """The latents of the video that is edited, which are read.

    Raises:
        InputError: if there are none.
    """
    if video is None:
        return []
    from anytalker.pipelines.kept import read_earlier

    return [read_earlier(video).path]


def _check_overwriting(sources: _Sources, output: Path | None) -> None:
    """Make sure that the video can be written where it is wanted, and that nothing that it needs lies there."""
    from anytalker.files import check_writable_output
    from anytalker.media.destination import check_inputs_kept

    check_writable_output(output or Path(_DEFAULT), ".mp4")
    if output is not None or sources.conversation.timeline is None:  # talk.json makes way for itself: talk-2.mp4
        check_inputs_kept(output or Path(_DEFAULT), sources.files)


def _face_choices(sources: _Sources, options: GenerationOptions) -> list[FaceChoice] | None:
    """The faces that were given; checks that there are as many as voices, and not fewer than strengths."""
    from anytalker.conditioning.binding import check_choices, parse_face
    from anytalker.pipelines.limits import check_strengths

    if sources.conversation.given:
        return [parse_face(text) for text in sources.face] if sources.face else None
    if all(path == "none" for path in sources.audio):
        raise InputError("No audio was given; give at least one recording, for example --audio voice.wav.")
    choices = [parse_face(text) for text in sources.face] if sources.face else None
    check_choices(choices, len(sources.audio))
    if choices is not None and all(isinstance(choice, tuple) and len(choice) == 4 for choice in choices):
        check_strengths(options.voice_strengths, len(choices))
    return choices


def _check_files(sources: _Sources, model: str, loading: LoadingOptions) -> None:
    """Make sure that all files exist and that the options go together, before anything is read."""
    from anytalker.loading.locate import find_model
    from anytalker.media.channels import split_channel

    if not sources.image.exists():
        raise InputError(f"There is no picture {sources.image}. Check the path.")
    for path in sources.audio:
        if path != "none" and not split_channel(path)[0].exists():
            raise InputError(f"There is no audio file {path}. Check the path.")
    find_model(model)
    from anytalker.pipelines.ready import check_loading
    from anytalker.processes import processes_together

    check_loading(loading, processes_together() > 1)


def _fingerprint(sources: _Sources, settings: list[Any]) -> str:
    """What the video is made from, so that a video of other inputs or settings is not replaced."""
    from anytalker.media.destination import fingerprint_of

    return fingerprint_of([path for path in sources.files if Path(path).is_file()], [*sources.names, *settings])


def _read(sources: _Sources, faces: Sequence[FaceChoice] | None, output: Path) -> Scene:
    """The picture, the voices, and everybody's face; says who speaks where there are several people."""
    if sources.conversation.given:
        return _read_talk(sources, faces, output)
    from anytalker.pipelines.inputs import read_scene
    from anytalker.pipelines.remarks import silent_voices, who_speaks

    audio = [None if path == "none" else path for path in sources.audio]
    scene = read_scene(sources.image, audio, faces, sources.at, remark)
    for message in (*silent_voices(scene, sources.audio), *who_speaks(scene)):
        remark(message)
    return scene


def _read_talk(sources: _Sources, faces: Sequence[FaceChoice] | None, output: Path) -> Scene:
    from anytalker.cli.conversation import read_talk
    from anytalker.pipelines.remarks import who_speaks

    scene = read_talk(sources.conversation, output, sources.image, sources.at, faces, remark).scene
    assert scene is not None
    for message in who_speaks(scene):
        remark(message)
    return scene


def _with_strengths(options: GenerationOptions, scene: Scene) -> GenerationOptions:
    """The options with the strengths of the timeline's turns, where none were given."""
    from anytalker.pipelines.talk import strengths_of

    if scene.timeline is None or options.voice_strengths is not None:
        return options
    return options.model_copy(update={"voice_strengths": strengths_of(scene.timeline)})


def _fit(scene: Scene, model: str, options: GenerationOptions) -> Inputs:
    """The inputs at the video's size and length; they are checked before the model is loaded, which takes longer."""
    from anytalker.loading.components import model_settings
    from anytalker.pipelines.inputs import fit_scene, shared_settings
    from anytalker.processes import processes_together

    return fit_scene(scene, shared_settings(model_settings(model), processes_together()), options)


def _warn_of_photograph(image: Path, scene: Scene, model: str) -> None:
    """Warn if a model that has only seen drawn people is given a photograph."""
    from anytalker.loading.components import model_settings
    from anytalker.pipelines.inputs import photograph_of_drawn

    if photograph_of_drawn(scene, model_settings(model)):
        remark(
            f"{image} looks like a photograph, and {model} has only seen drawn faces: don't expect it to talk well. "
            "For photographs take --model 1.3b or 14b; `anytalker doctor` says which of them runs here."
        )


def _preview(scene: Scene, options: GenerationOptions, output: Path) -> None:
    from anytalker.files import atomic_path
    from anytalker.media.destination import preview_path
    from anytalker.pipelines.preview import draw_lanes, draw_preview, stacked
    from anytalker.pipelines.talk import lanes_of

    shown = preview_path(output)
    listeners = len(scene.people) - len(scene.voices)
    names = [voice.name if voice else None for voice in scene.voices] + [None] * listeners
    with atomic_path(shown) as partial:
        lanes = draw_lanes(scene.picture.width, *lanes_of(scene, options.mode))
        stacked(draw_preview(scene.picture, scene.people, names), lanes).save(partial)
    typer.echo(f"Wrote {shown}: who gets which voice, and when. Without --preview the video is made.")
