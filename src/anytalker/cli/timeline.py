"""`anytalker timeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytalker.cli.console import remark
from anytalker.cli.conversation import ConversationOptions, read_talk
from anytalker.cli.options import takes
from anytalker.errors import InputError

commands = typer.Typer()


@commands.command(
    epilog="Examples:\n\n"
    "  anytalker timeline --script talk.txt --output dialogue.json\n\n"
    "  anytalker timeline --recording podcast.mp3 --image two.png --output podcast.json\n\n"
    "  anytalker timeline --timeline podcast.json --output podcast.srt",
)
@takes(conversation=ConversationOptions)
def timeline(
    *,
    conversation: ConversationOptions,
    image: Annotated[
        Path | None, typer.Option(help="The picture: its faces are written into the timeline, and say how many speak.")
    ] = None,
    face: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,W,H", help="Whose face it is, as for `anytalker generate`.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The timeline to write: .json, .srt, .vtt or .rttm.")] = Path(
        "timeline.json"
    ),
    force: Annotated[bool, typer.Option("--force", help="Replace a timeline that is there.")] = False,
) -> None:
    """Make who says what when from a script, a recording or another timeline, to look at, correct and generate from."""
    from anytalker.conditioning.binding import parse_face
    from anytalker.files import check_writable_output
    from anytalker.timeline.formats import KINDS, write_timeline

    conversation.check(())
    kind = output.suffix.lower()
    if kind not in KINDS:
        raise InputError(f"The output {output} must end in {', '.join(KINDS[:-1])} or {KINDS[-1]}.")
    if face and image is None:
        raise InputError("--face goes with --image.")
    check_writable_output(output, kind)
    if output.exists() and not force:
        raise InputError(f"{output} is there already, and may have been edited. Give another --output, or --force.")
    voices = output.with_suffix(".voices") if conversation.recording is not None and kind == ".json" else None
    if voices is not None and voices.exists() and not voices.is_dir():
        raise InputError(f"{voices} is a file, and samples of the voices go there. Give another --output.")
    conversation.files()
    faces = [parse_face(text) for text in face] if face else None
    talk = read_talk(conversation, output, image, None, faces, remark)
    written = talk.timeline.relocated(".", output.parent)
    write_timeline(written, output)
    typer.echo(
        f"Wrote {output}: {len(written.people)} {'people' if len(written.people) > 1 else 'person'}, "
        f"{len(written.turns)} turns, {written.seconds:.1f} s."
    )
    if voices is not None:
        _write_samples(talk.timeline, talk.streams, voices)


def _write_samples(timeline, streams, folder: Path) -> None:  # type: ignore[no-untyped-def]
    from anytalker.media.recordings import write_wave
    from anytalker.timeline.recording import voice_samples

    folder.mkdir(exist_ok=True)
    for name, samples in voice_samples(timeline, streams).items():
        write_wave(folder / f"{name}.wav", samples)
    typer.echo(
        f"Short samples of the voices are in {folder}: listen to them, and edit names and faces in the timeline."
    )
