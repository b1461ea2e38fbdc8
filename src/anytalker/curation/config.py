"""A curation as data: what is looked for in footage, every value checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anytalker.errors import InputError

Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ShotsConfig(_Part):
    """Shots: `min_seconds` that one must last; longer ones than `max_seconds` are examined in parts."""

    min_seconds: float = Field(default=2.0, ge=0.5, le=60)
    max_seconds: float = Field(default=20.0, ge=5, le=120)

    @model_validator(mode="after")
    def _fits(self) -> ShotsConfig:
        if self.min_seconds > self.max_seconds:
            raise ValueError(f"min_seconds is {self.min_seconds}, more than max_seconds, {self.max_seconds}")
        return self


class CameraConfig(_Part):
    """The camera: `allow_moving` keeps shots in which it pans, tilts or zooms."""

    allow_moving: bool = False


class FacesConfig(_Part):
    """Who must be visible, and how well.

    Attributes:
        people: numbers of people that are wanted; 1 for stage 1, 2 or more for stage 2.
        presence: share of a shot's frames in which everybody must be visible (paper: most; here 0.95).
        min_share: least height of a face, as a share of the picture's.
        min_pixels: least height of a face in pixels.
        min_sharpness: least sharpness of a face: variance of the Laplacian over that of the brightness, 96 pixels wide.
        every: frames between two looks; boxes between them are interpolated.
    """

    people: list[Annotated[int, Field(ge=1, le=20)]] = Field(default=[1, 2], min_length=1)
    presence: Share = 0.95
    min_share: Share = 0.1
    min_pixels: int = Field(default=48, ge=16)
    min_sharpness: float = Field(default=0.002, ge=0)
    every: int = Field(default=5, ge=1, le=25)


class SpeechConfig(_Part):
    """Voices.

    Attributes:
        speakers: how many there are in each file; None: estimated.
        margin: seconds kept away from overlapping and off-screen speech.
        min_share: least share of a clip in which somebody speaks.
    """

    speakers: int | None = Field(default=None, ge=1, le=20)
    margin: float = Field(default=0.1, ge=0, le=2)
    min_share: Share = 0.25


class SyncConfig(_Part):
    """Lips and voice.

    Attributes:
        min_confidence: least confidence that lips say what is heard of a voice in a shot; see `lip_sync.judge_sync`.
        min_likeness: least agreement of a clip, as a share of that of the rest of its shot; see `lip_sync.likeness`.
        max_unheard: seconds of a clip in which lips may move as in speech while another is heard.
        max_delay: frames of constant delay of the sound that are corrected; beyond it a shot is dropped.
    """

    min_confidence: float = Field(default=2.0, ge=0)
    min_likeness: float = Field(default=0.5, ge=0, le=1)
    max_unheard: float = Field(default=0.5, ge=0)
    max_delay: int = Field(default=10, ge=0, le=15)


class ClipsConfig(_Part):
    """Lengths of clips in seconds: drawn around `mean` with `deviation`, none shorter than `min_seconds` (paper).

    Pictures that are higher than `max_height` pixels are scaled down to it; None: none are.
    """

    mean: float = Field(default=4.0, ge=1, le=60)
    deviation: float = Field(default=0.5, ge=0, le=10)
    min_seconds: float = Field(default=2.0, ge=1, le=60)
    max_height: int | None = Field(default=None, ge=64)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> ClipsConfig:
        if self.min_seconds > self.mean:
            raise ValueError(f"min_seconds is {self.min_seconds}, more than the mean length, {self.mean}")
        return self


class SoundConfig(_Part):
    """Music and noise.

    Attributes:
        min_ratio: least ratio of speech to what is heard in pauses, in dB.
        min_quality: least quality of the sound by DNSMOS, from 1 to 5; None: it isn't judged.
        separator: takes voices out of music and noise before anything listens: "Kim_Vocal_2", once downloaded, or the
            path of an ONNX file; None: the sound stays as it is.
    """

    min_ratio: float = Field(default=12.0, ge=-20, le=60)
    min_quality: float | None = Field(default=None, ge=1, le=5)
    separator: str | None = None


class TextConfig(_Part):
    """Text on screen: `max_share` of a clip in which it may lie over a mouth; None: it isn't looked for."""

    max_share: Share | None = None


class DuplicatesConfig(_Part):
    """Near-duplicates: `max_distance` is how many of a clip's bits may differ; 0 finds exact ones only."""

    max_distance: int = Field(default=10, ge=0, le=64)


class SplitConfig(_Part):
    """Shares of the people whose clips are for validation and for testing; nobody is in two of the parts."""

    validation: Share = 0.05
    test: Share = 0.05
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> SplitConfig:
        if self.validation + self.test > 1:
            raise ValueError(f"validation is {self.validation} and test {self.test}, more than all people together")
        return self


class CaptionsConfig(_Part):
    """Captions by a model that transformers loads.

    Attributes:
        model: its folder or its name on the hub; None: sentences by what is known of a clip.
        prompt: what it is asked; for models that only continue text, how the caption begins.
    """

    model: str | None = None
    prompt: str = "Describe the people, what they do, and where they are, in one sentence."


class CurationConfig(_Part):
    """All settings of a curation; every section may be left out."""

    shots: ShotsConfig = ShotsConfig()
    camera: CameraConfig = CameraConfig()
    faces: FacesConfig = FacesConfig()
    speech: SpeechConfig = SpeechConfig()
    sync: SyncConfig = SyncConfig()
    clips: ClipsConfig = ClipsConfig()
    text: TextConfig = TextConfig()
    sound: SoundConfig = SoundConfig()
    duplicates: DuplicatesConfig = DuplicatesConfig()
    split: SplitConfig = SplitConfig()
    captions: CaptionsConfig = CaptionsConfig()
    caption: str | None = Field(default=None, description="A caption for all clips, with {people}; None: by template.")


def load_config(path: Path | None) -> CurationConfig:
    """Read a curation's YAML file; None: the defaults.

    Raises:
        InputError: naming the key that is unknown or out of range.
    """
    import yaml

    values: dict[str, object] = {}
    if path is not None:
        if not path.is_file():
            raise InputError(f"There is no configuration {path}. Check the path.")
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path} can't be read: {error.strerror}.") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        if loaded is not None and not isinstance(loaded, dict):
            raise InputError(f"{path} has no sections; a configuration is made of lines like `clips: {{mean: 4}}`.")
        values = loaded or {}
    try:
        return CurationConfig.model_validate(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, item['loc'])) or 'configuration'}: {item['msg']}" for item in error.errors()]
        raise InputError(f"{path or 'The configuration'} can't be used:\n  " + "\n  ".join(lines)) from error
