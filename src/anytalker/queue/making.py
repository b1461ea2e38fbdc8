"""From a job's folder to its video: the way of `anytalker generate`, with progress, previews and an end at any step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from anytalker.media.pictures import load_image
from anytalker.pipelines.inputs import Scene, Voice, fit_scene, load_voice, read_scene
from anytalker.pipelines.loading_options import LoadingOptions
from anytalker.pipelines.pipeline import AnyTalkerPipeline
from anytalker.pipelines.prepared_video import Previews, Progress
from anytalker.pipelines.ready import load_for
from anytalker.pipelines.talk import cast_choices, cast_people, scene_of, strengths_of
from anytalker.queue.decoding import PICTURE, voice_name
from anytalker.queue.request import PersonRequest, VideoRequest
from anytalker.queue.video_queue import VIDEO, QueueSettings
from anytalker.timeline.model import Person, Timeline, same_name
from anytalker.timeline.script import parse_script
from anytalker.timeline.spoken import timeline_of_script
from anytalker.timeline.streams import streams

_SAVED = 5.0
"""Seconds from one saving of an unfinished video to the next: a service may be killed often."""


class MakerHere:
    """Makes videos in this process; see `anytalker.queue.worker.Maker`.

    Args:
        device: such as "cpu" or "cuda:0".
        loading: what models are loaded with.
    """

    def __init__(self, device: str = "cpu", loading: LoadingOptions = LoadingOptions()) -> None:
        self.device, self.loading = device, loading
        self.loaded: str | None = None
        self._pipeline: AnyTalkerPipeline | None = None

    def load(self, model: str) -> AnyTalkerPipeline:
        """The model, loaded; another one makes way for it."""
        if self._pipeline is None or self.loaded != model:
            self.loaded = self._pipeline = None
            if self.device == "cpu":
                torch.set_num_threads(1)  # the same sums in the same order, however many processes there are
            self._pipeline = load_for(model, self.device, self.loading)
            self._pipeline.set_progress_bar_config(disable=True)
            self.loaded = model
        return self._pipeline

    def make(
        self,
        request: VideoRequest,
        folder: Path,
        progress: Progress,
        show: Callable[[Image.Image], None],
        settings: QueueSettings,
    ) -> Path:
        """Make the video of a job in its folder, or go on with it."""
        previews = Previews(show, settings.preview_every)
        return make(self.load(request.model), request, folder, progress, previews, settings.label)


def make(
    pipeline: AnyTalkerPipeline,
    request: VideoRequest,
    folder: Path,
    on_progress: Progress,
    previews: Previews | None = None,
    label: str | None = None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Make a job's video in its folder, or go on with it.

    Args:
        pipeline: the job's model.
        request: what is asked for.
        folder: with the picture and the recordings.
        on_progress: called as (stage, done, total) after every step; what it raises ends the work.
        previews: pictures on the way.
        label: in the corner of every frame.
        say: told what the user should know.

    Raises:
        InputError: if the picture, the voices and the options don't go together.
        AnyTalkerError: if disk or memory gave out.
    """
    scene = scene_of_request(request, folder, say)
    options = request.options
    if scene.timeline is not None and options.voice_strengths is None:
        options = options.model_copy(update={"voice_strengths": strengths_of(scene.timeline)})
    inputs = fit_scene(scene, pipeline.settings, options)
    generator = torch.Generator().manual_seed(request.seed)
    prepared = pipeline.prepare_inputs(inputs, options, generator, on_progress, previews=previews)
    return replace(prepared, label=label).to_file(folder / VIDEO, say, _SAVED).path


def scene_of_request(request: VideoRequest, folder: Path, say: Callable[[str], None]) -> Scene:
    """The picture of a job, its people's faces and their voices.

    Raises:
        InputError: see `make`.
    """
    timeline = timeline_of_request(request)
    path = folder / PICTURE
    if timeline is not None:
        picture = load_image(path)
        people = cast_people(path, picture, timeline, None, say)
        return scene_of(picture, people, timeline, streams(timeline, folder, say=say))
    voices = [_voice(person, folder) for person in request.people]
    return read_scene(path, voices, _faces(path, request.people, say), say=say)


def timeline_of_request(request: VideoRequest) -> Timeline | None:
    """Who says what when in a job, its script in turns; None where everybody has a recording."""
    if request.script is None:
        return request.timeline
    script = parse_script(request.script)
    faces = {same_name(person.name or ""): person.face for person in request.people}
    known = [Person(name=name, face=faces[same_name(name)]) for name in script.people if same_name(name) in faces]
    return timeline_of_script(script, known)


def _voice(person: PersonRequest, folder: Path) -> Voice | None:
    if person.voice is None:
        return None
    voice = load_voice(folder / voice_name(person.voice))
    return replace(voice, name=person.name) if person.name else voice


def _faces(picture: Path, people: Sequence[PersonRequest], say: Callable[[str], None]) -> Sequence[Any] | None:
    """A choice of a face for everybody; None: from the left."""
    choices = [person.face for person in people]
    if all(choice is None for choice in choices):
        return None
    if None not in choices:
        return choices
    return cast_choices(picture, load_image(picture), choices, say)
