"""`--script`, `--recording` and `--timeline` of `generate` and `timeline`: from what was given to a timeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from anytalker.errors import InputError

if TYPE_CHECKING:
    from anytalker.pipelines.inputs import Scene
    from anytalker.pipelines.result import VideoFile
    from anytalker.speech.engine import SpeechEngine
    from anytalker.timeline.model import Person, Timeline


class ConversationOptions(BaseModel):
    """A conversation instead of one recording a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    script: Path | None = Field(
        default=None, description="A script, 'Anna: Hello!' a line (plain text, Markdown, .fountain): it is spoken."
    )
    recording: Path | None = Field(
        default=None, description="One recording of everybody; who speaks when is found out."
    )
    timeline: Path | None = Field(
        default=None,
        description="Who says what when: .json (or a video's record), .srt, .vtt or .rttm; --recording gives it sound.",
    )
    voice: list[str] | None = Field(
        default=None,
        description="NAME=VOICE: how somebody sounds where text is spoken, such as Anna=en-us+f2 or Ben=de.",
    )
    voice_of: list[str] | None = Field(
        default=None,
        description="NAME=FILE, for --recording: a sample of somebody's voice; the i-th is the i-th face.",
    )
    takes: Path | None = Field(
        default=None, description="A folder of recorded turns, named by number and speaker: 001_anna.wav."
    )
    speech: str | None = Field(
        default=None, description="https://… of a speech endpoint (OpenAI's way) that speaks instead of espeak-ng."
    )
    speakers: int | None = Field(default=None, description="Voices in --recording, if not as many as faces.")

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return any((self.script, self.recording, self.timeline))

    def files(self) -> list[Path]:
        """All files that it is made from.

        Raises:
            InputError: if the timeline, or the folder of takes, can't be read.
        """
        from anytalker.media.channels import split_channel

        recording = [split_channel(self.recording)[0]] if self.recording else []
        samples = [Path(text.partition("=")[2]) for text in self.voice_of or ()]
        takes = _files_in(self.takes) if self.takes else []
        named = [file for file in (self.script, *recording, self.timeline, *samples, *takes) if file is not None]
        if self.timeline is not None:
            from anytalker.timeline.streams import sound_files

            named += sound_files(_read_timeline(self.timeline))
        return named

    def check(self, audio: Sequence[str]) -> None:
        """Make sure that the options go together.

        Raises:
            InputError: naming those that don't.
        """
        chosen = {
            "--audio": bool(audio),
            "--script": self.script is not None,
            "--recording": self.recording is not None,
            "--timeline": self.timeline is not None,
        }
        names = [name for name, there in chosen.items() if there]
        if not names:
            raise InputError("Nobody has a voice: give --audio once a person, or --script, --recording or --timeline.")
        if len(names) > 1 and names != ["--recording", "--timeline"]:
            raise InputError(f"{' and '.join(names)} can't go together. Choose one.")
        for option, value, needed in (
            ("--voice", self.voice, ("--script", "--timeline")),
            ("--takes", self.takes, ("--script",)),
            ("--speech", self.speech, ("--script", "--timeline")),
            ("--voice-of", self.voice_of, ("--recording",)),
            ("--speakers", self.speakers, ("--recording",)),
        ):
            if value is not None and (names[0] not in needed or len(names) > 1):
                raise InputError(f"{option} goes with {' or '.join(needed)} alone.")
        if self.speakers is not None and self.speakers < 1:
            raise InputError(f"--speakers is {self.speakers}; it must be at least 1.")
        for option, file in (("script", self.script), ("recording", self.recording), ("timeline", self.timeline)):
            if file is not None and not _exists(file):
                raise InputError(f"There is no {option} {file}. Check the path.")


class Subtitles(str, Enum):
    """How texts are shown."""

    srt = "srt"
    burn = "burn"


@dataclass(frozen=True)
class Talk:
    """A conversation, ready to be seen.

    Attributes:
        timeline: its sound files are named from the working folder.
        scene: the picture, everybody's face and voice; None without a picture.
        streams: one recording a person.
    """

    timeline: Timeline
    scene: Scene | None
    streams: list[Any]


def read_talk(
    options: ConversationOptions,
    output: Path,
    image: Path | None = None,
    at: float | None = None,
    faces: Sequence[Any] | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Talk:
    """Make the timeline, find everybody's face, and let everybody speak.

    Args:
        options: what was given.
        output: beside which speech that can't be made again the same is kept, in OUTPUT.takes.
        image: the picture.
        at: of a video, see `load_image`.
        faces: a choice for each of the first people.
        say: told what the user should know.

    Raises:
        InputError: for anything that can't be used.
    """
    from anytalker.media.pictures import load_image
    from anytalker.pipelines.talk import cast_people, everybody, scene_of
    from anytalker.timeline.streams import streams

    picture = load_image(image, at) if image is not None else None
    count = None
    if picture is not None and image is not None and options.recording and not options.timeline:
        count = len(faces) if faces else len(everybody(image, picture))
    engine = _engine(options, output)
    timeline = _timeline(options, count, engine, say)
    people = cast_people(image, picture, timeline, faces, say) if image is not None and picture is not None else None
    heard = streams(timeline, ".", engine, say=say)
    if picture is None or people is None:
        return Talk(timeline, None, heard)
    scene = scene_of(picture, people, timeline, heard)
    return Talk(scene.timeline or timeline, scene, heard)


def with_subtitles(scene: Scene, subtitles: Subtitles | None, output: Path, force: bool) -> Scene:
    """The scene with its texts to be drawn, if that is wanted; checks that subtitles can be made and written.

    Raises:
        InputError: if there is nothing to be read, or the file would replace one of something else.
    """
    if subtitles is None:
        return scene
    from anytalker.pipelines.subtitles import check_subtitles

    check_subtitles(scene.timeline, subtitles is Subtitles.burn)
    titles = output.with_suffix(".srt")
    if subtitles is Subtitles.srt and titles.exists() and not output.exists() and not force:
        raise InputError(f"{titles} is there already. Give another --output, or --force to replace it.")
    return replace(scene, subtitles=subtitles.value)


def write_subtitles(video: VideoFile) -> None:
    """Write the texts of a video beside it: talk.srt for talk.mp4."""
    from anytalker.timeline.formats import write_timeline

    timeline = video.inputs.timeline
    timeline = timeline and timeline.until(video.inputs.frames / video.fps)
    turns = tuple(turn for turn in timeline.turns if turn.text) if timeline else ()
    if timeline and turns:
        write_timeline(timeline.model_copy(update={"turns": turns}), video.path.with_suffix(".srt"))


def _exists(path: Path) -> bool:
    from anytalker.media.channels import split_channel

    try:
        return split_channel(path)[0].is_file()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from error


def _files_in(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}.") from error


def _read_timeline(path: Path) -> Timeline:
    from anytalker.timeline.formats import read_timeline

    return read_timeline(path).relocated(path.parent, ".")


def _engine(options: ConversationOptions, output: Path) -> SpeechEngine:
    from anytalker.speech.engine import EspeakEngine

    engine: SpeechEngine = EspeakEngine()
    if options.speech is not None:
        from anytalker.speech.endpoint import EndpointEngine
        from anytalker.speech.takes import Kept

        engine = Kept(EndpointEngine(options.speech), output.with_suffix(".takes"))
    if options.takes is not None:
        from anytalker.speech.takes import Takes

        engine = Takes(options.takes, engine)
    return engine


def _timeline(
    options: ConversationOptions, faces: int | None, engine: SpeechEngine, say: Callable[[str], None]
) -> Timeline:
    if options.script is not None:
        from anytalker.timeline.script import read_script
        from anytalker.timeline.spoken import timeline_of_script

        script = read_script(options.script)
        return timeline_of_script(script, _people(options.voice), engine)
    if options.timeline is not None:
        timeline = _with_voices(_read_timeline(options.timeline), _people(options.voice))
        if options.recording is not None:
            from anytalker.timeline.recording import with_sound_of

            timeline = with_sound_of(timeline, options.recording)
        return timeline
    assert options.recording is not None
    from anytalker.timeline.recording import timeline_of_recording

    references = dict(_pair("--voice-of", text) for text in options.voice_of or ())
    timeline = timeline_of_recording(options.recording, faces, options.speakers, references)
    say(
        f"{options.recording}: {len(timeline.people)} {'voices' if len(timeline.people) > 1 else 'voice'}, "
        f"{len(timeline.turns)} turns."
    )
    return timeline


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        example = "Anna=en-us+f2" if option == "--voice" else "Anna=anna.wav"
        raise InputError(f"{option} is {text!r}; it must be a name and a value, such as {option} {example}.")
    return name.strip(), value.strip()


def _people(voices: Sequence[str] | None) -> list[Person]:
    from anytalker.timeline.model import Person, SpokenVoice

    pairs = [_pair("--voice", text) for text in voices or ()]
    try:
        return [Person(name=name, voice=SpokenVoice(name=voice)) for name, voice in pairs]
    except ValueError as error:
        raise InputError(f"--voice names somebody who can't be: {', '.join(name for name, _ in pairs)}.") from error


def _with_voices(timeline: Timeline, people: Sequence[Person]) -> Timeline:
    """The timeline with other voices for some people."""
    chosen = {timeline.person(person.name).name: person.voice for person in people}
    changed = [
        person.model_copy(update={"voice": chosen[person.name]}) if person.name in chosen else person
        for person in timeline.people
    ]
    return timeline.model_copy(update={"people": tuple(changed)})
