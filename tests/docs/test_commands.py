"""Every command that the README and the pages of docs/ print is run as printed, or is listed here with its reason.

Shell blocks and Python blocks of a page are run in order, in a folder that is empty but for the user's own files. What
is not run is still parsed, with its options and values. Commands in the running text are looked up.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from anytalker import AnyTalkerPipeline
from anytalker.conditioning.face_detection.detectors import FullRangeFaceDetector
from anytalker.miniature import recipe
from anytalker.miniature.corpus import CorpusSettings, render_clip
from anytalker.pipelines import inputs
from anytalker.training import config
from tests.docs.inputs import ADDED, write_scene
from tests.docs.pages import PAGES, Block, all_commands, blocks, commands, spans
from tests.docs.parsing import look_up, parse
from tests.processes import begin_at_once
from tests.test_cli import run

GPU = "needs a GPU and a download"
TRAINING = "minutes to hours: trains"
NOT_RUN = {
    "pip install": "installs; CI begins with it",
    "pytest": "is what runs this",
    "anytalker download 1.3b": "needs a download: 19 GB",
    "anytalker download separator": "needs a download: 67 MB",
    "anytalker generate --model 1.3b": GPU,
    "anytalker generate --model 14b": GPU,
    "anytalker batch jobs.json --model 14b": GPU,
    "anytalker benchmark InteractiveEyes --model 1.3b": GPU,
    "anytalker evaluate lip-sync outputs --syncnet syncnet_v2.model": "needs a download: the original SyncNet",
    "anytalker train start Wan2.1-Fun-V1.1-1.3B-InP": "needs a download: Wan's 1.3B",
    "anytalker train prepare clips.jsonl": "needs the model of the line before",
    "anytalker train prepare dataset/": "needs the model and the dataset of the lines before",
    "anytalker generate --image two.png --timeline dialogue.json --keep-latents": "tests/pipelines/test_kept.py does",
    "anytalker generate --image two.png --timeline dialogue.json --edit-of": "tests/pipelines/test_kept.py does",
    "anytalker doctor --card 8": "tests/doctor/test_advice.py does",
    "anytalker curate footage dataset": "minutes to hours: looks through footage",
    "anytalker serve --port": "runs until it is stopped; tests/service asks one for what the page prints",
    "anytalker serve --host": "runs until it is stopped",
    "anytalker serve --ray": "runs until it is stopped; tests/jobs/test_ray.py has a queue on a cluster",
    "anytalker studio": "runs until it is stopped; tests/studio opens its page",
    "torchrun": "needs several processes and, most of it, GPUs",
    "anytalker miniature prepare runs/miniature": "minutes to an hour: draws clips, trains an autoencoder",
    "anytalker miniature decoder": TRAINING,
    "anytalker miniature upscaler": TRAINING,
    "anytalker train configs/miniature-stage1.yaml": TRAINING,
    "anytalker train configs/miniature-stage2.yaml": TRAINING,
    "anytalker train ablation": TRAINING,
    "anytalker train stage1.yaml": TRAINING,
    "anytalker train stage2.yaml": TRAINING,
    "anytalker train start runs/alone/model": "needs the model of the line before",
    "python -c from anytalker import AnyTalkerPipeline;": "needs the model of the line before",
}
"""How a command begins that is not run, and why; the longer of two beginnings stands first. Seconds: one core."""


GENERATE = "anytalker generate --image two.png --audio anna.wav --audio ben.wav"
RUN_ONCE = {"anytalker demo": False, "anytalker doctor": False, GENERATE: False}
"""Commands that several pages print and one run is enough for, and whether they ran."""
SLOW_PAGES = {"README.md", "diffusers.md", "index.md", "memory_and_batches.md", "training.md"}
SHORT_RUN = 100
"""A run of fewer steps only shows that it works, which a tenth of them shows too."""
SHORT_VIDEO = 9
"""Frames of a video, at most: how long a video is doesn't change whether a command works."""


def reason(command: object) -> str | None:
    """How the listed exception begins that a command is, if it is one."""
    words = f"{command} "
    return next((start for start in NOT_RUN if words.startswith(start if start[-1] == "/" else f"{start} ")), None)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    """The user's pictures and recordings."""
    folder = tmp_path_factory.mktemp("scene") / "files"
    write_scene(folder)
    return folder


@pytest.fixture(scope="module")
def found_once():
    """Faces are looked for once in each picture, which many commands have in common."""
    known: dict[tuple, list] = {}
    search = FullRangeFaceDetector.__call__

    def look(detector: FullRangeFaceDetector, image: Image.Image) -> list:
        key = (image.tobytes(), image.size, image.mode, detector.confidence, detector.sides)
        known[key] = known[key] if key in known else search(detector, image)
        return list(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FullRangeFaceDetector, "__call__", look)
        yield


@pytest.fixture(scope="module")
def short_videos():
    """Videos end after a few frames, however long the voices are."""
    whole = inputs._frames
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "_frames", lambda *given: min(whole(*given), SHORT_VIDEO))
        yield


def names_of(page: str, folder: Path) -> dict[str, object]:
    """What a page's Python takes for granted."""
    if page == "long_video.md":
        return {"pipe": AnyTalkerPipeline.from_pretrained("tiny"), "image": Image.open(folder / "two.png")}
    if page == "miniature.md":
        clip = render_clip(11, CorpusSettings(persons=2, frames=49, unseen=True, silent_share=0.0))
        return {"frames": clip.frames, "boxes": clip.boxes, "voices": clip.voices}
    return {}


def run_shell(block: Block, page: str, variables: dict[str, str], capsys) -> None:
    for command in commands(block, variables):
        if reason(command) or RUN_ONCE.get(str(command)):
            continue
        if str(command) in RUN_ONCE:
            RUN_ONCE[str(command)] = True
        assert command.words[0] == "anytalker", f"{page}:{command.line}: nothing here runs {command}"
        code = run(*command.words[1:])
        said = capsys.readouterr()
        assert code == 0, f"{page}:{command.line}: {command}\n{said.out}\n{said.err}"


@pytest.fixture
def short_runs(monkeypatch) -> None:
    """What is trained to show that it works takes a tenth of the steps, and a few clips."""
    load_config = config.load_config

    def load(*given) -> config.TrainingConfig:
        run = load_config(*given)
        changes = {"steps": run.steps // 10, "save_every": 1} if run.steps < SHORT_RUN else {}
        return run.model_copy(update=changes)

    monkeypatch.setattr(config, "load_config", load)
    few = {name: replace(settings, clips=2, frames=17) for name, settings in recipe.QUICK_CORPORA.items()}
    monkeypatch.setattr(recipe, "QUICK_CORPORA", few)


@pytest.mark.usefixtures("found_once", "short_runs", "short_videos", "quick_diarization")
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page.name in SLOW_PAGES else ()) for page in PAGES],
    ids=lambda page: page.name,
)
def test_page_runs_as_printed(page: Path, scene: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    begin_at_once(monkeypatch)
    text = page.read_text(encoding="utf-8")
    code = [block for block in blocks(text) if block.language in ("bash", "python")]
    for file in scene.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    if page.name in ADDED:
        ADDED[page.name](tmp_path)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, str] = {}
    known = names_of(page.name, tmp_path) if any(block.language == "python" for block in code) else {}
    for block in code:
        if block.language == "bash":
            run_shell(block, page.name, variables, capsys)
        else:
            exec(compile("\n" * (block.line - 1) + block.text, page.name, "exec"), known)


@pytest.mark.parametrize(
    ("page", "command"), [pair for pair in all_commands() if reason(pair[1])], ids=lambda value: str(value)[:60]
)
def test_what_is_not_run_is_understood(page: str, command) -> None:
    parse(command.words)


def test_every_exception_occurs() -> None:
    occurring = {reason(command) for _, command in all_commands()}
    assert set(NOT_RUN) == occurring - {None}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_are_there(page: Path) -> None:
    for span in spans(page.read_text(encoding="utf-8")):
        look_up(span.split())


def test_a_wrong_command_is_noticed() -> None:
    for wrong in ("anytalker generate --image two.png --audio a.wav --stesp 4", "anytalker generate --steps 4"):
        with pytest.raises(Exception, match=r"stesp|image"):
            parse(tuple(wrong.split()))
    with pytest.raises(Exception, match="no_such"):
        parse(("anytalker", "train", "configs/miniature-stage1.yaml", "--set", "no_such=1"))
    for wrong in ("anytalker no-such", "anytalker demo --person N", "pytest tests/no_such.py"):
        with pytest.raises(AssertionError, match="there is no"):
            look_up(wrong.split())
    with pytest.raises(ValueError, match="refused"):
        parse(("python", "benchmarks/speed.py", "--no-such"))


def test_commands_of_a_block() -> None:
    code = 'S="--set a=[1] \\\n  -b"\nanytalker x $S --set "c=[$S]"  # why\n\npip y && z \'[q]\'\n'
    text = f"Text.\n```bash\n{code}```\n"
    (block,) = blocks(text)
    found = list(commands(block, {}))
    assert [command.line for command in found] == [5, 7, 7]
    assert found[0].words == ("anytalker", "x", "--set", "a=[1]", "-b", "--set", "c=[--set a=[1]   -b]")
    assert [str(command) for command in found[1:]] == ["pip y", "z [q]"]
    with pytest.raises(ValueError, match="only &&"):
        list(commands(Block("bash", "a | b\n", 1), {}))
