"""A training run as data: one YAML file, every value checked, every default the paper's where the paper has one.

`--set` is our own: pydantic-settings takes values from a command line that it parses itself, where typer does here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from anytalker.errors import InputError


def _in_order(span: tuple[float, float]) -> tuple[float, float]:
    if span[0] > span[1]:
        raise ValueError(f"the range goes from {span[0]:g} to {span[1]:g}; give the smaller number first")
    return span


Factor = Annotated[float, Field(gt=0, le=10)]
Span = Annotated[tuple[Factor, Factor], AfterValidator(_in_order)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Weighting = Literal["release", "uniform_bump"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Part):
    """Where the clips are.

    Attributes:
        single: folders of shards whose clips are shown alone. Folders of different shapes (number of people, size)
            take turns, each as often as it has clips: every batch comes from one shape.
        shares: how often each folder of `single` takes its turn, in any unit, also in joined batches where `joined` is
            empty; none: as often as it has clips.
        joined: folders of shards whose clips are joined side by side; empty: the same as `single`.
        window: latent frames of a training clip besides the picture; None: whole clips.
        crop: rows in latents that some batches are cut to around the faces, see `crop_to_faces`; None: never.
        crop_probability: share of the batches that are cut.
        in_memory: hold all clips in memory, for accelerators that train faster than files are read. The order is the
            same: every epoch is shuffled as a whole.
        workers: processes that read and join while the model trains.
    """

    single: list[Path] = Field(min_length=1)
    shares: list[Annotated[float, Field(gt=0)]] = []
    joined: list[Path] = []
    window: int | None = Field(default=None, ge=1)
    crop: int | None = Field(default=None, ge=2, multiple_of=2)
    crop_probability: float = Field(default=0.8, ge=0, le=1)
    in_memory: bool = False
    workers: int = Field(default=1, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _without_shuffle(cls, values: Any) -> Any:
        """Configurations of earlier versions may say how many samples are held to draw from; none are today."""
        return {key: value for key, value in values.items() if key != "shuffle"} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _fits(self) -> DataConfig:
        if self.shares and len(self.shares) != len(self.single):
            raise ValueError(f"shares has {len(self.shares)} numbers for {len(self.single)} folders of single")
        for folders in (self.single, self.joined):
            if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
                raise ValueError(f"{', '.join(twice)} is named twice; say in shares how often its clips are wanted")
        return self


class BatchConfig(_Part):
    """How clips become scenes.

    Attributes:
        join: numbers of clips side by side, one drawn for each batch, all as likely: the paper's half single, half
            pairs.
        join_once: every clip in one scene only, so that joined batches have fewer scenes; the paper joins each clip
            with the next, which keeps the batch size at twice the cost.
        silent_probability: chance that a clip of a joined scene is silent, as in its longest pause, which is played
            forth and back (the release plays the first frames so).
        silent_stills: whether clips without a pause are silenced, too, as their picture standing still; otherwise they
            always speak, and nobody is ever frozen.
        audio_dropout: chance that a scene loses its audio, for guidance.
        text_dropout: chance that a scene gets the empty prompt.
        box_jitter: relative spread of size and place of the boxes.
        widen_probability: chance that a box is widened by factors from `box_wide` and `box_tall` (release).
        box_wide, box_tall: ranges of these factors.
        lip_weight, eye_weight: weights of the loss where lips and eyes are; 1 is the paper's loss.
    """

    join: list[Annotated[int, Field(ge=1)]] = Field(default=[1, 2], min_length=1)
    join_once: bool = False
    silent_probability: float = Field(default=0.25, ge=0, le=1)
    silent_stills: bool = True
    audio_dropout: float = Field(default=0.1, ge=0, le=1)
    text_dropout: float = Field(default=0.1, ge=0, le=1)
    box_jitter: float = Field(default=0.0, ge=0, le=1)
    widen_probability: float = Field(default=0.5, ge=0, le=1)
    box_wide: Span = (1.6, 2.0)
    box_tall: Span = (1.4, 1.8)
    lip_weight: float = Field(default=1.0, gt=0)
    eye_weight: float = Field(default=1.0, gt=0)


class OptimizerConfig(_Part):
    """AdamW with warm-up.

    Attributes:
        learning_rate: its peak.
        schedule: "constant" after the warm-up (paper), or "cosine" down to nearly nothing at the last step.
        warmup_steps: steps of the warm-up.
        weight_decay: on matrices only.
        betas: of AdamW.
        gradient_clip: largest norm of the gradient.
        average: decay of the exponential moving average of the weights, which is what is exported.
    """

    learning_rate: float = Field(default=2e-5, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.01, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.99)
    gradient_clip: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.999, ge=0, lt=1)


class LoraConfig(_Part):
    """Low-rank adapters in place of full training (`peft`): `rank`, `alpha`, and names of the layers they sit on."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=16, ge=1)
    layers: list[str] = Field(default=["to_q", "to_k", "to_v"], min_length=1)


class ValidationConfig(_Part):
    """What is looked at on the way.

    Attributes:
        every: steps between validations; None: never.
        data: folders of shards held out; their loss is measured at fixed noise levels.
        clips: how many of their clips, and how many videos are made and written.
    """

    every: int | None = Field(default=None, ge=1)
    data: list[Path] = []
    clips: int = Field(default=8, ge=1)
    videos: int = Field(default=1, ge=0)


class TrainingConfig(_Part):
    """One run.

    Attributes:
        output: folder of the run: checkpoints, logs, videos, and `model`, the finished model.
        model: folder of the model to start from: any model that `AnyTalkerPipeline.from_pretrained` reads, so the
            `model` of stage 1 for stage 2.
        validation: what is looked at on the way; None: nothing.
        train_image_encoder: train the image encoder along; the release keeps it frozen, the miniature makes its own.
        steps: optimizer steps.
        batch_size: clips of one group.
        groups: groups of clips a step, shared among processes; what a process has more than one of, it accumulates.
        shift: shift of the noise levels towards noise.
        loss_weighting: how much each noise level counts in the loss: "release", or "uniform_bump", the flatter weights
            that earlier versions and the miniature were trained with; see `losses.timestep_weights`.
        precision: "fp32" or "bf16".
        gradient_checkpointing: less memory, more time.
        compile: compile the transformer's blocks (`torch.compile`) for every shape of batch: the first steps wait for
            it, the others are faster.
        fsdp: shard weights and optimizer over the processes (FSDP2).
        seed: seed of everything random, below 2³².
        save_every, keep: steps between checkpoints, and how many of them are kept.
        log_every: steps between lines of progress.
    """

    output: Path
    model: Path
    data: DataConfig
    batches: BatchConfig = BatchConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lora: LoraConfig | None = None
    validation: ValidationConfig = ValidationConfig()
    train_image_encoder: bool = False
    steps: int = Field(ge=1)
    batch_size: int = Field(default=1, ge=1)
    groups: int = Field(default=1, ge=1)
    shift: float = Field(default=3.0, gt=0)
    loss_weighting: Weighting = "release"
    precision: Literal["fp32", "bf16"] = "fp32"
    gradient_checkpointing: bool = False
    compile: bool = False
    fsdp: bool = False
    seed: int = Field(default=0, ge=0, lt=2**32)
    save_every: int = Field(default=500, ge=1)
    keep: int = Field(default=2, ge=1)
    log_every: int = Field(default=25, ge=1)

    @field_validator("validation", mode="before")
    @classmethod
    def _none_is_off(cls, value: Any) -> Any:
        return {} if value is None else value

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if max(self.batches.join) > self.batch_size:
            raise ValueError(f"batches.join has {max(self.batches.join)}, more than batch_size {self.batch_size}")
        if self.validation.every and not self.validation.data:
            raise ValueError("validation.every is set, but validation.data names no shards")
        if self.lora and self.fsdp:
            raise ValueError("lora and fsdp can't be used together: adapters are small enough for one card")
        if self.lora and self.train_image_encoder:
            raise ValueError("lora trains an adapter of the transformer alone; leave train_image_encoder out")
        if self.fsdp and self.validation.every:
            raise ValueError("validation.every can't be used with fsdp; validate the exported model instead")
        return self


def load_config(path: str | Path, changes: Sequence[str] = ()) -> TrainingConfig:
    """Read a run's YAML file; relative paths in it are relative to the working folder.

    Args:
        path: the file.
        changes: "key=value" or "part.key=value", each replacing one value; values are YAML.

    Raises:
        InputError: naming the key that is unknown, missing or out of range.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"There is no configuration {source}.")
    try:
        values = yaml.safe_load(source.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{source} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{source} has no keys; a configuration is made of lines like `steps: 1000`.")
    for change in changes:
        _change(values, change)
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'run'}: {item['msg']}" for item in error.errors()]
        raise InputError(f"The configuration {source} can't be used:\n  " + "\n  ".join(lines)) from error


def _change(values: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise InputError(f"--set {change!r} is not of the form key=value.")
    *parents, name = key.split(".")
    part = values
    for parent in parents:
        if part.get(parent) is None:  # as in `lora: null`
            part[parent] = {}
        part = part[parent]
        if not isinstance(part, dict):
            raise InputError(f"--set {change!r}: {parent} is not a part of the configuration.")
    try:
        part[name] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {change!r} has a value that is not YAML: {error}") from error
