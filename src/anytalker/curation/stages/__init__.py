"""The steps that a piece of footage goes through, each in a file of its own."""

from __future__ import annotations

from anytalker.curation.config import CurationConfig
from anytalker.curation.piece import Stage


def default_stages(config: CurationConfig) -> list[Stage]:
    """The steps in their order, as the configuration says."""
    from anytalker.curation.stages.borders import BordersStage
    from anytalker.curation.stages.camera import CameraStage
    from anytalker.curation.stages.clips import ClipsStage
    from anytalker.curation.stages.faces import FacesStage
    from anytalker.curation.stages.sound import SoundStage
    from anytalker.curation.stages.speakers import SpeakersStage
    from anytalker.curation.stages.sync import SyncStage
    from anytalker.curation.stages.text import TextStage

    return [
        BordersStage(),
        CameraStage(config.camera),
        FacesStage(config.faces),
        SpeakersStage(config.speech, config.sync),
        ClipsStage(config.clips, config.speech),
        SyncStage(config.sync),
        TextStage(config.text),
        SoundStage(config.sound),
    ]
