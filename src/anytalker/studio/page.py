"""The page: what is on it, and what happens at a click. Jobs go to the queue; gradio only shows them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from anytalker.errors import AnyTalkerError, InputError
from anytalker.failures import explain
from anytalker.pipelines.limits import MAX_STEPS
from anytalker.studio import fill, shown, words
from anytalker.studio.again import again_of_file
from anytalker.studio.cast import Cast, Desk
from anytalker.studio.estimate import estimate
from anytalker.studio.lanes import Waveforms, lanes
from anytalker.studio.rows import Choices, Row, models_here, submit
from anytalker.studio.videos import Videos

_ROWS = 12
"""People that the page has room for; hidden rows cost little."""
_LONGEST = 60
_PER_PERSON = 4
"""Components of a row: name, voice, listens, starts."""
_TO_VIDEO = (
    "() => document.querySelector('#problem p') || document.querySelector('#video').scrollIntoView({block: 'nearest'})"
)
log = logging.getLogger("anytalker.studio")


def page(desk: Desk) -> gr.Blocks:
    """The page on a queue.

    Args:
        desk: where files of the page lie, and the queue.
    """
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 7 * 86400)) as made:
        Page(desk, made)
    return made.queue(default_concurrency_limit=4, api_open=False)


# Long because what is on the page and what happens there is read together.
class Page:
    """The components of the page and their handlers, inside of `gr.Blocks`.

    Args:
        desk: see `page`.
        made: the blocks.
    """

    def __init__(self, desk: Desk, made: gr.Blocks) -> None:
        self.desk, self.waveforms = desk, Waveforms(desk.queue)
        self.cast, self.corner, self.job = gr.State(None), gr.State(None), gr.State(None)
        gr.Markdown(f"# {words.TITLE}\n\n{words.INTRO}")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                self._picture()
                self._voices()
                self._settings()
            with gr.Column(scale=2, min_width=320):
                videos = Videos(self, made)
        self.videos = videos
        self._connect()

    def _picture(self) -> None:
        gr.Markdown(f"## {words.PICTURE}")
        with gr.Row(equal_height=True):
            self.upload = gr.File(
                label=words.DROP_PICTURE,
                file_types=["image", "video"],
                type="filepath",
                height=160,
                scale=3,
                min_width=300,
            )
            self.example = gr.Button(words.EXAMPLE, scale=1, min_width=140)
        self.order = gr.Textbox("", visible="hidden", label="ids", elem_id="order")
        self.marked = gr.Image(
            label=words.FACES, interactive=False, visible=False, format="png", buttons=[], elem_id="people"
        )
        modes = [(words.CLICK_PICK, "pick"), (words.CLICK_DRAW, "draw")]
        with gr.Row(visible=False) as self.tools:
            self.mode = gr.Radio(modes, value="pick", label=words.CLICK, scale=3, min_width=260)
            self.box = gr.Textbox(label=words.BOX, placeholder="120, 80, 90, 90", scale=2, min_width=200, max_length=60)

    def _voices(self) -> None:
        gr.Markdown(f"## {words.VOICES}")
        with gr.Tabs():
            with gr.Tab(words.TAB_LANES):
                self.empty = gr.Markdown(words.NO_LANES)
                self.rows = [self._row(number) for number in range(1, _ROWS + 1)]
                self.lanes = gr.HTML("", elem_id="lanes")
            with gr.Tab(words.TAB_SCRIPT):
                self.script = gr.Textbox(label=words.SCRIPT, value=words.SCRIPT_EXAMPLE, lines=4, max_lines=20)
                self.speak = gr.Button(words.SPEAK)
            with gr.Tab(words.TAB_RECORDING):
                self.recording = gr.Audio(label=words.RECORDING, type="filepath", sources=["upload", "microphone"])
                self.tell_apart = gr.Button(words.TELL_APART)
        self.filled = gr.HTML("", elem_classes="said")

    def _row(self, number: int) -> list[Any]:
        """A person's row: its group, name, voice, "listens", start, and the button that removes them."""
        with gr.Group(elem_classes="lane", visible=False) as group, gr.Row(equal_height=True):
            with gr.Column(scale=1, min_width=200):
                name = gr.Textbox("", label=words.NAME.format(number=number), max_length=100, interactive=True)
                listens = gr.Checkbox(False, label=words.LISTENS.format(number=number), interactive=True)
                starts = gr.Number(0, label=words.STARTS.format(number=number), minimum=0, step=0.1, interactive=True)
                remove = gr.Button(words.REMOVE.format(number=number), size="sm")
            with gr.Column(scale=2, min_width=280):
                label = words.VOICE.format(number=number)
                voice = gr.Audio(label=label, type="filepath", interactive=True, buttons=[])
        return [group, name, voice, listens, starts, remove]

    def _settings(self) -> None:
        gr.Markdown(f"## {words.SETTINGS}")
        usual = Choices()
        preset = gr.Radio(list(words.PRESETS), value=usual.preset, label=words.QUALITY, interactive=True)
        with gr.Accordion(words.MORE, open=False):
            model = gr.Dropdown(models_here(), value=usual.model, label=words.MODEL, interactive=True)
            seed = gr.Number(usual.seed, label=words.SEED, interactive=True, precision=0, minimum=0)
            prompt = gr.Textbox(usual.prompt, label=words.PROMPT, interactive=True, max_length=2000)
            seconds = gr.Number(usual.seconds, label=words.SECONDS, interactive=True, minimum=0)
            steps = gr.Number(0, label=words.STEPS, interactive=True, precision=0, minimum=0, maximum=MAX_STEPS)
        rest = gr.State({})
        self.keep = gr.Checkbox(True, label=words.KEEP.format(settings=""), interactive=True, visible=False)
        self.choices = [preset, model, seed, prompt, seconds, steps, rest, self.keep]
        self.consent = gr.Checkbox(False, label=words.CONSENT, interactive=True)
        self.estimate = gr.HTML("", elem_classes="said")
        self.generate = gr.Button(words.GENERATE, variant="primary", size="lg", elem_id="generate")
        self.problem = gr.HTML("", elem_id="problem", elem_classes="said")

    def told(self, handler: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
        """A handler that says on the page why it failed; nothing else changes then."""

        @functools.wraps(handler)
        def safe(*arguments: Any) -> dict[Any, Any]:
            try:
                return {self.problem: ""} | handler(*arguments)
            except AnyTalkerError as error:
                return {self.problem: shown.message(str(error))}
            except Exception as error:
                log.error(explain(error))
                return {self.problem: shown.message(words.BROKEN)}

        return safe

    def _connect(self) -> None:
        """What happens, besides in the rows; what changes people, one after another in the order of the clicks."""
        self.components = [one for row in self.rows for one in row[1 : 1 + _PER_PERSON]]
        people = [self.cast, self.order, self.corner, self.marked, self.tools, self.box, self.empty, self.filled]
        people += [self.consent, self.problem, *(one for row in self.rows for one in row[: 1 + _PER_PERSON])]
        self.people = people
        turn: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "people"}
        self.upload.upload(self.told(self._on_picture), self.upload, [*people, *self.choices], **turn)
        self.example.click(self.told(self._on_example), None, [*people, *self.choices], **turn)
        said = [self.cast, self.order, *self.components]
        click, clicks = self.told(self._on_click), [self.mode, self.corner, *said]
        # Gradio drops what comes while an earlier click is answered, unless told otherwise.
        self.marked.select(click, clicks, people, trigger_mode="multiple", show_progress="hidden", **turn)
        self.box.submit(self.told(self._on_box), [self.box, *said], people, **turn)
        self.speak.click(self.told(self._on_script), [self.script, *said], people, **turn)
        self.tell_apart.click(self.told(self._on_recording), [self.recording, *said], people, **turn)
        for place, row in enumerate(self.rows):
            row[-1].click(self.told(functools.partial(self._on_remove, place)), said, people, **turn)
        self._connect_rows()

    def show(self, cast: Cast, note: str = "", order: str = "") -> dict[Any, Any]:
        """The page with a picture and its people.

        Args:
            cast: these.
            note: what else is said.
            order: ids of the people in the rows; who is where they were keeps their row, and what is typed there.
        """
        if len(cast.members) > _ROWS:
            raise InputError(words.TOO_MANY.format(count=len(cast.members), most=_ROWS))
        found = {
            self.cast: cast,
            self.order: ",".join(member.id for member in cast.members),
            self.marked: gr.update(value=cast.marked(), visible=True),
            self.tools: gr.update(visible=True),
            self.box: "",
            self.empty: gr.update(visible=not cast.members),
            self.corner: None,
            self.filled: shown.message(note, problem=False),
        }
        before = order.split(",") + [""] * _ROWS
        for place, row in enumerate(self.rows):
            one = cast.members[place] if place < len(cast.members) else None
            if (one.id if one else "") == before[place] and order:
                continue
            values = (one.name, one.voice, one.listens, one.starts) if one else ("", None, False, 0)
            found |= {row[0]: gr.update(visible=one is not None)} | dict(zip(row[1:], values, strict=False))
        return found

    def show_choices(self, choices: Choices) -> dict[Any, Any]:
        """The page with what was chosen for a video."""
        keep = gr.update(
            value=True,
            visible=bool(choices.rest),
            label=words.KEEP.format(
                settings=", ".join(f"{name} {said(value)}" for name, value in choices.rest.items())
            ),
        )
        values = (choices.preset, choices.model, choices.seed, choices.prompt, choices.seconds, choices.exact)
        return dict(zip(self.choices, (*values, dict(choices.rest), keep), strict=True))

    def _said(self, cast: Cast | None, order: str, values: tuple[Any, ...]) -> Cast:
        """The people with what their rows say.

        Raises:
            InputError: if there is no picture.
        """
        if cast is None:
            raise InputError(words.NOBODY)
        return cast.with_rows(dict(zip(order.split(","), self._rows_of(values), strict=False)))

    def _on_picture(self, upload: str | None) -> dict[Any, Any]:
        if upload is None:
            return {}
        path = self.desk.checked(upload)
        earlier = again_of_file(self.desk, path)
        if earlier is not None:
            cast, choices, here = earlier
            note = words.OURS if here else words.OURS_INSIDE
            return self.show(cast, note) | self.show_choices(choices) | {self.consent: here}
        cast = self.desk.cast_of(path)
        return self.show(cast, "" if cast.members else words.NO_FACE) | self._as_usual() | {self.consent: False}

    def _on_example(self) -> dict[Any, Any]:
        return self.show(self.desk.example()) | self._as_usual() | {self.consent: True}

    def _as_usual(self) -> dict[Any, Any]:
        """Without the settings of an earlier video that the page has no fields for."""
        rest, keep = self.choices[-2:]
        return {rest: {}, keep: gr.update(visible=False)}

    def _on_click(
        self,
        where: gr.SelectData,
        mode: str,
        corner: tuple[int, int] | None,
        cast: Cast,
        order: str,
        *values: Any,
    ) -> dict[Any, Any]:
        x, y = map(round, where.index)
        people = self._said(cast, order, values)
        if mode == "pick":
            return self.show(people.clicked(x, y), order=order)
        if corner is None:
            note = shown.message(words.FIRST_CORNER, problem=False)
            return {self.corner: (x, y), self.filled: note, self.marked: people.marked((x, y))}
        try:
            return self.show(people.drawn(corner, (x, y)), order=order)
        except InputError as error:  # the next click begins anew
            return self.show(people, order=order) | {self.problem: shown.message(str(error))}

    def _on_box(self, text: str, cast: Cast, order: str, *values: Any) -> dict[Any, Any]:
        try:
            x, y, width, height = (round(float(number)) for number in text.split(","))
        except (ValueError, OverflowError) as error:
            raise InputError(words.BOX_WRONG) from error
        return self.show(self._said(cast, order, values).with_box((x, y, width, height)), order=order)

    def _on_remove(self, place: int, cast: Cast, order: str, *values: Any) -> dict[Any, Any]:
        ids = order.split(",")
        people = self._said(cast, order, values).without(ids[place] if place < len(ids) else "")
        return self.show(people, order=order)

    def _on_script(self, script: str, cast: Cast | None, order: str, *values: Any) -> dict[Any, Any]:
        return self.show(fill.from_script(self.desk, self._said(cast, order, values), script), words.FILLED)

    def _on_recording(self, recording: str | None, cast: Cast | None, order: str, *values: Any) -> dict[Any, Any]:
        return self.show(fill.from_recording(self.desk, self._said(cast, order, values), recording or ""), words.FILLED)

    def _connect_rows(self) -> None:
        """What happens at the rows, and what reads them."""
        names, voices = self.components[0::_PER_PERSON], self.components[1::_PER_PERSON]
        listens, starts = self.components[2::_PER_PERSON], self.components[3::_PER_PERSON]
        shows = [one.blur for one in names] + [one.submit for one in names] + [one.input for one in listens]
        gr.on(shows, self._on_names, [self.cast, self.order, *self.components], self.marked, show_progress="hidden")
        changes = [one.change for one in [*voices, *listens, *starts, *self.choices]]
        inputs = [self.cast, self.order, self.consent, *self.choices, *self.components]
        gr.on(changes, self._on_choices, inputs, self.estimate, show_progress="hidden", trigger_mode="always_last")
        moved = [one.change for one in [self.order, *voices, *listens, *starts]] + [one.blur for one in names]
        seen = [self.cast, self.order, *self.components]
        gr.on(moved, self._on_lanes, seen, self.lanes, show_progress="hidden", trigger_mode="always_last")
        begun = self.generate.click(self.told(self._on_generate), inputs, [self.job, self.problem, self.videos.other])
        begun.then(None, js=_TO_VIDEO)

    def _on_names(self, cast: Cast | None, order: str, *values: Any) -> Any:
        """The picture with the names of the rows."""
        try:
            return self._said(cast, order, values).marked()
        except (AnyTalkerError, OSError):  # no picture, or files of long ago
            return gr.skip()

    def _on_lanes(self, cast: Cast | None, order: str, *values: Any) -> str:
        """The lanes, of everybody's voice."""
        try:
            people = self._said(cast, order, values).members
            rows = [Row(one.name, None if one.listens else one.voice, one.listens, one.starts) for one in people]
            heard = [row.voice for row in rows if row.voice]
            known = iter(self.waveforms(cast.picture, heard) if cast and heard else ())
            return lanes(rows, [next(known) if row.voice else None for row in rows])
        except (AnyTalkerError, OSError, TypeError, ValueError):
            return ""

    def _on_choices(self, cast: Cast | None, order: str, consent: bool, *values: Any) -> str:
        try:
            rows, choices = self._read(cast, order, values)
            return shown.message(estimate(self.desk.queue, rows, choices), problem=False)
        except (AnyTalkerError, TypeError, ValueError):
            return ""

    def _on_generate(self, cast: Cast | None, order: str, consent: bool, *values: Any) -> dict[Any, Any]:
        rows, choices = self._read(cast, order, values)
        job = submit(self.desk.queue, cast, rows, choices, consent)
        return {self.job: job.id, self.videos.other: None}

    def _read(self, cast: Cast | None, order: str, values: tuple[Any, ...]) -> tuple[list[Row], Choices]:
        """The rows of the people and the choices on the page."""
        count = len(self.choices)
        preset, model, seed, prompt, seconds, steps, rest, keep = values[:count]
        people = self._said(cast, order, values[count:]).members if cast else ()
        rows = [Row(one.name, one.voice, one.listens, one.starts) for one in people]
        return rows, Choices(preset, model, seed or 0, prompt, seconds or 0.0, steps or 0, rest if keep else {})

    def _rows_of(self, values: tuple[Any, ...]) -> list[Row]:
        return [
            Row(name, None if voice is None else str(self.desk.checked(voice)), bool(listens), starts or 0.0)
            for name, voice, listens, starts in zip(*(values[k::_PER_PERSON] for k in range(_PER_PERSON)), strict=True)
        ]


def said(value: Any) -> str:
    """A setting in few characters."""
    text = " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
