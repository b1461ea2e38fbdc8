"""What the API answers, and what it takes, for its OpenAPI page."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from anytalker.pipelines.options import RANGES
from anytalker.queue.record import QueuedJob, State
from anytalker.queue.request import LONGEST_SCRIPT, VideoRequest
from anytalker.service.settings import Limits

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
STATUSES: dict[State, Status] = {
    State.queued: "queued",
    State.running: "in_progress",
    State.succeeded: "completed",
    State.failed: "failed",
    State.cancelled: "cancelled",
}


class Problem(BaseModel):
    """What went wrong: `code` for programs, `message` for people."""

    code: str
    message: str


class Refusal(BaseModel):
    """A request that was refused."""

    error: Problem


class Steps(BaseModel):
    """How far a stage is."""

    stage: Literal["prepare", "denoise", "decode"]
    done: int
    total: int


class PersonView(BaseModel):
    """Somebody in a video; `audio` is the number of their recording, null for one who listens."""

    audio: int | None = None
    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None
    order: int | None = None
    name: str | None = None


class Video(BaseModel):
    """A video, made or to be made; times in seconds since 1970."""

    id: str
    object: Literal["video"] = "video"
    status: Status
    progress: int = Field(ge=0, le=100, description="Percent.")
    steps: Steps | None = Field(default=None, description="While it is made.")
    seconds_left: float | None = Field(default=None, description="Until it is finished, as far as can be told.")
    queue_position: int | None = Field(default=None, description="Videos that wait before it; null: it doesn't wait.")
    has_preview: bool = False
    model: str
    seed: int
    people: list[PersonView] = []
    created_at: int
    started_at: int | None = None
    completed_at: int | None = None
    expires_at: int | None = Field(default=None, description="When it is deleted.")
    error: Problem | None = None


class VideoList(BaseModel):
    """A page of videos, the newest first."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class Deleted(BaseModel):
    """What became of a video that was to be deleted: one that waits or is made is cancelled first, and stays known."""

    id: str
    object: Literal["video", "video.deleted"] = "video.deleted"
    deleted: bool
    status: Status


class Health(BaseModel):
    """That the service runs, how many workers it has, and what they do; `failing`: of them that end when they start."""

    status: Literal["ok"] = "ok"
    version: str
    workers: int
    failing: int
    queued: int
    in_progress: int


def video_of(job: QueuedJob) -> Video:
    """A job as the API shows it."""
    running = job.state is State.running and job.stage is not None
    people = [
        PersonView(audio=one.voice, **one.model_dump(include={"box", "point", "order", "name"}))
        for one in job.request.people
    ]
    return Video(
        id=job.id,
        status=STATUSES[job.state],
        progress=int(100 * job.progress) if job.state is not State.succeeded else 100,
        steps=Steps(stage=job.stage, done=job.done, total=job.total) if running else None,  # type: ignore[arg-type]
        seconds_left=None if job.seconds_left is None else round(job.seconds_left, 1),
        queue_position=job.position,
        has_preview=job.previews > 0,
        model=job.request.model,
        seed=job.request.seed,
        people=people,
        created_at=int(job.created),
        started_at=None if job.started is None else int(job.started),
        completed_at=None if job.finished is None else int(job.finished),
        expires_at=None if job.expires is None else int(job.expires),
        error=None if job.failure is None else Problem(code=job.failure.code, message=job.failure.message),
    )


def request_body() -> dict[str, Any]:
    """What `POST /v1/videos` takes, for OpenAPI."""
    options = VideoRequest.model_json_schema()["properties"]
    plain = {
        name: _within_limits(name, {key: value for key, value in options[name].items() if key in _SAID})
        | {"type": kind}
        for name, kind in _KINDS.items()
    }
    file = {"type": "string", "format": "binary"}
    properties = {
        "image": file | {"description": "The picture, or a video."},
        "audio": {
            "type": "array",
            "items": file,
            "maxItems": 50,
            "description": "A recording a person, in their order; the text 'none' for one who listens.",
        },
        "at": {"type": "number", "minimum": 0, "description": "Of a video as the picture: the second of the frame."},
        "people": {
            "type": "string",
            "description": 'JSON: [{"audio": 1, "box": [x, y, width, height], "name": "Anna"}, {"audio": "none", '
            '"order": 2}]. `audio` is the number of an audio part, from 1, or its file name; left out: the next one. '
            "One of `box`, `point` [x, y] and `order` (from the left, from 1) says whose face it is.",
        },
        "timeline": {"type": "string", "description": "JSON: who says what when; sounds are numbers of audio parts."},
        "script": {"type": "string", "maxLength": LONGEST_SCRIPT, "description": "Spoken: 'Anna: Hello!' a line."},
        "webhook_url": {"type": "string", "description": "Told when the video is over (Standard Webhooks)."},
        "webhook_secret": {"type": "string", "description": "whsec_…: signs what is told."},
        **plain,
    }
    schema = {"type": "object", "required": ["image"], "properties": properties, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _within_limits(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A field's schema with the smallest and the largest value that a service takes, also in its description."""
    if name not in RANGES:
        return schema
    low, most = RANGES[name]
    high = {"num_inference_steps": Limits.steps, "scale": Limits.scale}.get(name, most)
    said = schema["description"].replace(f" to {most:g}", f" to {high:g}")
    return schema | {"description": said, "minimum": low, "maximum": high}


_SAID = ("description", "default", "enum", "minimum", "exclusiveMaximum")
_KINDS = {
    "model": "string",
    "seed": "integer",
    "prompt": "string",
    "negative_prompt": "string",
    "num_inference_steps": "integer",
    "guidance_scale": "number",
    "audio_guidance_scale": "number",
    "voice_strengths": "string",
    "guidance_interval": "string",
    "batch_guidance": "boolean",
    "mode": "string",
    "fps": "number",
    "max_frames": "integer",
    "window": "string",
    "size": "string",
    "scale": "number",
    "rounding": "string",
    "upscale": "boolean",
    "separate": "boolean",
}
"""The options of a video and what they are in a form."""
OPTIONS = frozenset(_KINDS)
TEXTS = frozenset({"model", "prompt", "negative_prompt", "mode", "rounding"})
FIELDS = OPTIONS | {"people", "timeline", "script", "at", "webhook_url", "webhook_secret"}
