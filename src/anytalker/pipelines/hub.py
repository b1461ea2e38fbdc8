"""A model's way to the hub: its folder, and a card written from the settings and from the record of a video."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from anytalker.errors import InputError, first_line
from anytalker.media.video import RunRecord
from anytalker.models.settings import PipelineSettings

CARD = "README.md"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_SHOWN = ("max_area", "fps", "num_inference_steps", "guidance_scale", "shift", "window", "trained_on")


def downloaded(model: str | Path, **options: Any) -> str | Path:
    """The folder of a repository of the hub, "owner/name"; anything else, and folders of that name, as they are.

    Raises:
        InputError: if it can't be downloaded.
    """
    if not isinstance(model, str) or not _REPOSITORY.fullmatch(model) or Path(model).exists():
        return model
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return snapshot_download(model, **options)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"There is no folder {model}, and as a repository of the hub it can't be downloaded: {first_line(error)}"
        ) from error


def read_record(record: RunRecord | Mapping[str, Any] | str | Path) -> RunRecord:
    """A run's record, from its file if it is a path.

    Raises:
        InputError: if it is none.
    """
    if isinstance(record, RunRecord):
        return record
    try:
        values = record if isinstance(record, Mapping) else json.loads(Path(record).read_text(encoding="utf-8"))
        return RunRecord.model_validate(values)
    except (OSError, ValueError) as error:
        raise InputError(f"{record} is no record of a video: {first_line(error)}") from error


def model_card(repo_id: str, settings: PipelineSettings, record: RunRecord | None = None) -> str:
    """The text of a model's card.

    Args:
        repo_id: what the example loads.
        settings: of the model.
        record: of a video that it has made; None: the card shows none.
    """
    from anytalker import __version__

    kept = asdict(settings)
    lines = [
        "---",
        "library_name: anytalker",
        "pipeline_tag: image-to-video",
        "tags: [anytalker, diffusers, talking-head, audio-driven, lip-sync]",
        "---",
        "",
        f"# {repo_id.rpartition('/')[2]}",
        "",
        f"An AnyTalker model ({settings.name}), saved by anytalker {__version__}: from one picture and one voice",
        "a person to a video in which everyone speaks. Its videos are marked as synthetic.",
        "",
        "```python",
        "from anytalker import AnyTalkerPipeline",
        "",
        f'pipeline = AnyTalkerPipeline.from_pretrained("{repo_id}")',
        'pipeline("two.png", ["anna.wav", "ben.wav"]).save("talk.mp4")',
        "```",
        "",
        *_table("setting", {name: kept[name] for name in _SHOWN}),
    ]
    if record is not None:
        lines += ["", "## A video of this model", "", *_table("of the run", _facts(record))]
    return "\n".join(lines) + "\n"


def push(pipeline: Any, repo_id: str, record: RunRecord | None, **options: Any) -> str:
    """Write a pipeline's folder and its card to a repository of the hub; the address of the commit is returned.

    Args:
        pipeline: with `save_pretrained` and settings.
        repo_id: "owner/name".
        record: for the card.
        options: `private`, `token`, `commit_message`, `create_pr`.

    Raises:
        InputError: if the hub refuses it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=options.get("token"))
    message = options.get("commit_message") or "Upload AnyTalkerPipeline"
    try:
        repository = api.create_repo(repo_id, private=options.get("private"), exist_ok=True).repo_id
        with TemporaryDirectory() as folder:
            pipeline.save_pretrained(folder)
            card = model_card(repository, pipeline.settings, record)
            (Path(folder) / CARD).write_text(card, encoding="utf-8")
            return str(
                api.upload_folder(
                    repo_id=repository,
                    folder_path=folder,
                    commit_message=message,
                    create_pr=bool(options.get("create_pr")),
                )
            )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"{repo_id} can't be written to the hub: {first_line(error)}") from error


def _facts(record: RunRecord) -> dict[str, Any]:
    """What a record says besides the people's own data: no names of files, no words."""
    settings = {name: value for name, value in record.settings.items() if not name.endswith("prompt")}
    speaking = sum(end - start for person in record.persons for start, end in person.speaking)
    return {
        "anytalker": record.version,
        "size": f"{record.width}×{record.height}",
        "frames": f"{record.frames} at {record.fps:g} a second",
        "people": len(record.persons),
        "seconds of speech": round(speaking, 2),
        "seed": record.seed,
        **{f"seconds to {stage}": seconds for stage, seconds in record.seconds.items()},
        **settings,
    }


def _table(head: str, values: Mapping[str, Any]) -> list[str]:
    rows = [f"| {name} | {value} |" for name, value in values.items() if value is not None]
    return [f"| {head} | |", "|---|---|", *rows]
