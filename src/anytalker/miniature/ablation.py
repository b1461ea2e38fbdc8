"""The paper's Table 4 in miniature: what each kind of data does, at the same budget, against the exact truth."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytalker.conventions import Box, corners
from anytalker.errors import InputError
from anytalker.evaluation.lip_sync.crops import crop_faces
from anytalker.evaluation.lip_sync.small_syncnet import SmallSyncModel
from anytalker.evaluation.report.summary import mean_interval
from anytalker.files import atomic_path, write_json_atomic
from anytalker.miniature.corpus import RenderedClip
from anytalker.miniature.exam import Scores, examine
from anytalker.miniature.world.truth import FaceReader
from anytalker.training.config import TrainingConfig

MULTI_SHARE = 0.25
"""Share of the budget that goes to real clips of several people, where a row has them."""


MEASURES = ("interactivity", "looking", "lip_sync", "quality", "frechet")
"""What is measured of a row, see `measure`."""

COMPARISONS = (("RS", "CM"), ("RS", "RS+CM"), ("RS+RM", "RS+CM+RM"), ("RS", "RS+RM"), ("RS+CM", "RS+CM+RM"))
"""Pairs of rows that differ in one kind of data; but for the first, the second row has one kind more."""


@dataclass(frozen=True)
class Row:
    """One row: kinds of data (`single` alone, `joined` pairs, real `multi`-person clips) and the paper's results."""

    single: bool
    joined: bool
    multi: bool
    paper: tuple[float, float, float]

    @property
    def name(self) -> str:
        """The paper's abbreviations: RS real single, CM joined, RM real multi."""
        kinds = (("RS", self.single), ("CM", self.joined), ("RM", self.multi))
        return "+".join(kind for kind, used in kinds if used)


ROWS = (
    Row(False, True, False, (0.55, 3.21, 672)),
    Row(True, False, False, (0.47, 4.13, 475)),
    Row(True, True, False, (0.58, 4.89, 394)),
    Row(True, False, True, (0.71, 3.63, 512)),
    Row(True, True, True, (0.97, 4.56, 468)),
)
"""Table 4 of the paper: Interactivity, Sync-C*, FVD of the 1.3B."""


def row_configs(row: Row, base: TrainingConfig, multi: list[Path], folder: Path) -> list[TrainingConfig]:
    """The one or two runs of a row; together they have `base.steps` steps.

    Args:
        row: which data.
        base: a stage 1 configuration; its `batches.join` is replaced.
        multi: shards of real clips of several people.
        folder: where the runs go.
    """
    second = round(base.steps * MULTI_SHARE) if row.multi else 0
    join = [1] * row.single + [2] * row.joined
    first = base.model_copy(
        update={
            "output": folder / row.name / "stage1",
            "steps": base.steps - second,
            "batches": base.batches.model_copy(update={"join": join}),
        }
    )
    if not second:
        return [first]
    data = base.data.model_copy(update={"single": multi, "joined": [], "shares": []})
    rate = base.optimizer.learning_rate * 0.3
    last = base.model_copy(
        update={
            "output": folder / row.name / "stage2",
            "model": first.output / "model",
            "steps": second,
            "data": data,
            "batches": base.batches.model_copy(update={"join": [1]}),
            "batch_size": max(1, base.batch_size // 2),
            "optimizer": base.optimizer.model_copy(update={"learning_rate": rate}),
        }
    )
    return [first, last]


def run_ablation(
    base: TrainingConfig, multi: list[Path], folder: Path, scenes: int, log: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Train and measure every row; finished rows are kept, so an interrupted ablation continues.

    Args:
        base: stage 1 as if all of the budget were its own.
        multi: shards for the rows with real clips of several people.
        folder: where runs, `results.json`, `table.md` and `plot.png` go.
        scenes: held-out conversations of two people a row.
        log: receives lines of progress.

    Raises:
        InputError: if the folder has rows of other settings, or batches are too small to join clips.
    """
    if base.batch_size < 2:
        raise InputError("batch_size is 1; pairs are joined from the clips of a batch, so give 2 or more.")
    from anytalker.data.shards import shards_digest
    from anytalker.pipelines.pipeline import AnyTalkerPipeline
    from anytalker.training.checkpoints import bound_values, changed_values, completed_values
    from anytalker.training.trainer import Trainer

    shards = {str(path): shards_digest(path) for path in [*base.data.single, *base.data.joined, *multi]}
    results = []
    for row in ROWS:
        path = folder / row.name / "result.json"
        about = {"row": row.name, "steps": base.steps, "batch_size": base.batch_size, "scenes": scenes}
        about |= {"settings": bound_values(base), "multi": [str(folder) for folder in multi], "shards": shards}
        known = json.loads(path.read_text()) if path.exists() else {}
        if "settings" in known:
            known["settings"] = completed_values(base, known["settings"])
        if known and (changed := changed_values({key: known.get(key, about[key]) for key in about}, about)):
            raise InputError(
                f"{path} was made with other settings: {', '.join(changed)}. Choose another folder, or remove this one."
            )
        if known and (missing := [name for name in (*MEASURES, "by_scene") if name not in known]):
            raise InputError(f"{path} lacks {', '.join(missing)}. Remove it, and the row is measured again.")
        if not known:
            log(f"{row.name}: training")
            for config in row_configs(row, base, multi, folder):
                Trainer(config, log).run()
            pipeline = AnyTalkerPipeline.from_pretrained(config.output / "model")
            log(f"{row.name}: measuring {scenes} scenes")
            write_json_atomic(path, about | measure(pipeline, scenes))
        results.append(json.loads(path.read_text()))
        log(f"{row.name}: " + "  ".join(f"{name} {results[-1][name]:.3f}" for name in MEASURES))
    write_json_atomic(folder / "results.json", results)
    write_table(results, folder / "table.md")
    write_plot(results, folder / "plot.png")
    return results


def measure(pipeline: Any, scenes: int) -> dict[str, Any]:
    """Scores of one row on held-out conversations of two people.

    Returns:
        "interactivity": how far listeners' eyes move a second, in the units of `FaceState.gaze`, with blinks and all;
        "looking": share of listening time in which they look at the speaker; "lip_sync": correlation of mouths with the
        truth; "quality": PSNR in dB of whole frames against the true video of the same conversation; "frechet": between
        the five-frame features of all mouths in these videos and in the true ones, by the small SyncNet's video tower,
        times 1000: what FVD is by an action network's; "by_scene": the first four scene by scene, None where a scene
        has no such value, so that rows can be compared on the same scenes, see `differences`.
    """
    from anytalker.evaluation.fidelity import FrechetDistance

    judge = SmallSyncModel.from_pretrained()
    motion, distance = [], FrechetDistance(judge.channels)
    by_scene: dict[str, list[Any]] = {name: [] for name in MEASURES if name != "frechet"}

    def look(clip: RenderedClip, frames: np.ndarray, readers: Sequence[FaceReader]) -> None:
        true = _resized(clip.frames, frames.shape[1:3])
        by_scene["quality"].append(float(-10 * np.log10(np.square(frames - true).mean())))
        boxes = clip.scene.boxes(frames.shape[1])
        for video, real in ((frames, False), (true, True)):
            for features in _mouth_features(judge, video, boxes):
                distance.add(features, real)
        found = []
        for states, reader in zip(clip.states, readers, strict=True):
            listening = np.array([state.opening == 0 for state in states])[1:]
            if listening.sum() > 12:
                found.append(24 * np.abs(np.diff(reader.gazes(frames)))[listening].mean())
        motion.extend(found)
        by_scene["interactivity"].append(_mean(found))

    seen = {"looking": 0, "lip_sync": 0}

    def note(seed: int, scores: Scores) -> None:
        for name, before in seen.items():
            values = getattr(scores, name)
            by_scene[name].append(_mean(values[before:]))
            seen[name] = len(values)

    scores = examine(pipeline, 2, range(scenes), on_scene=note, on_video=look, silence=False).summary()
    return {
        "interactivity": float(np.mean(motion)),
        "looking": scores.get("looking", float("nan")),
        "lip_sync": scores.get("lip_sync", float("nan")),
        "quality": float(np.mean(by_scene["quality"])),
        "frechet": 1000 * distance.compute(),
        "by_scene": by_scene,
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mouth_features(judge: SmallSyncModel, frames: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
    """For each face box in pixels the embeddings (T-4, channels) of its mouth in frames (T, H, W, 3) in [0, 1]."""
    crops, found = crop_faces(np.round(255 * frames.clip(0, 1)).astype(np.uint8), corners(boxes), judge.crop)
    return [judge.embed_video(crops[:, person], found[:, person]) for person in range(len(boxes))]


def _resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    wanted = (size[1], size[0])
    return np.stack([cv2.resize(frame, wanted, interpolation=cv2.INTER_AREA) for frame in frames]) / 255


def differences(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `COMPARISONS` come to, scene by scene: {"from", "to", and for each measure (mean, low, high)}.

    Mean and 95% bootstrap interval of the second row's value less the first's on the same scenes. The interval holds
    for other scenes, not for another training of the same rows.
    """
    known = {result["row"]: result["by_scene"] for result in results}
    compared = []
    for first, second in COMPARISONS:
        values: dict[str, Any] = {"from": first, "to": second}
        for name in known[first]:
            pairs = zip(known[first][name], known[second][name], strict=True)
            gains = [after - before for before, after in pairs if before is not None and after is not None]
            values[name] = (_mean(gains), *mean_interval(gains))
        compared.append(values)
    return compared


def write_table(results: list[dict[str, Any]], path: Path) -> None:
    """A Markdown table of the rows beside the paper's, and one of their differences."""
    lines = [
        "| data | interactivity | looks at the speaker | lip sync r | quality dB | Fréchet distance "
        "| paper: Interactivity | Sync-C* | FVD |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row, result in zip(ROWS, results, strict=True):
        ours = [f"{result[name]:.2f}" for name in MEASURES]
        lines.append("| " + " | ".join([row.name, *ours, *(f"{value:g}" for value in row.paper)]) + " |")
    names = [name for name in MEASURES if name != "frechet"]
    lines += [
        "",
        "Differences on the same scenes, with 95% intervals:",
        "",
        "| from | to | interactivity | looks at the speaker | lip sync r | quality dB |",
        "|---|---|---|---|---|---|",
    ]
    for pair in differences(results):
        cells = [_gain(*pair[name]) for name in names]
        lines.append("| " + " | ".join([pair["from"], pair["to"], *cells]) + " |")
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _gain(mean: float | None, low: float, high: float) -> str:
    if mean is None:
        return "–"
    return f"{mean:+.3f}" if np.isnan(low) else f"{mean:+.3f} ({low:+.3f} … {high:+.3f})"


def write_plot(results: list[dict[str, Any]], path: Path) -> None:
    """Bars of the rows, the paper's above ours; distances are turned upside down: higher is better everywhere."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [row.name for row in ROWS]
    panels = [
        ("Interactivity (paper)", [row.paper[0] for row in ROWS]),
        ("Sync-C* (paper)", [row.paper[1] for row in ROWS]),
        ("1000 / FVD (paper)", [1000 / row.paper[2] for row in ROWS]),
        ("interactivity (miniature)", [result["interactivity"] for result in results]),
        ("lip sync r (miniature)", [result["lip_sync"] for result in results]),
        ("1000 / Fréchet distance (miniature)", [1000 / result["frechet"] for result in results]),
    ]
    figure, axes = pyplot.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for axis, (title, values) in zip(axes.flat, panels, strict=True):
        axis.bar(names, values, color=["#8da0cb"] * 4 + ["#fc8d62"])
        axis.set_title(title)
        axis.tick_params(axis="x", labelrotation=20)
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
    pyplot.close(figure)
