"""Models from folders with other parts, quantized, and to the hub with a card."""

from __future__ import annotations

import shutil
from pathlib import Path

import diffusers
import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.utils.logging import enable_progress_bar

from anytalker import AnyTalkerPipeline, InputError
from anytalker.conventions import SAMPLE_RATE
from tests.loading.full_size import save_small_model

FACES = [(8, 16, 30, 30), (56, 16, 30, 30)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def pipeline(folder) -> AnyTalkerPipeline:
    return AnyTalkerPipeline.from_pretrained(folder)


def make(pipeline: AnyTalkerPipeline, **options):
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    voice = rng.normal(0, 0.1, SAMPLE_RATE // 2).astype(np.float32)
    pipeline.set_progress_bar_config(disable=True)
    source = torch.Generator().manual_seed(0)
    return pipeline(image, [voice, None], faces=FACES, max_frames=5, generator=source, **options)


def test_parts_are_given_and_a_scheduler_is_kept(folder, tmp_path, pipeline) -> None:
    ours = pipeline.scheduler.config
    euler = diffusers.FlowMatchEulerDiscreteScheduler.from_config(ours, shift=ours.flow_shift)
    other = AnyTalkerPipeline.from_pretrained(folder, scheduler=euler, transformer=pipeline.transformer)
    assert other.transformer is pipeline.transformer
    video = make(other)
    assert video.choices["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert np.abs(video.frames - make(pipeline).frames).max() > 0
    other.save_pretrained(tmp_path / "euler")
    again = AnyTalkerPipeline.from_pretrained(tmp_path / "euler", dtype=torch.float32)
    assert type(again.scheduler) is diffusers.FlowMatchEulerDiscreteScheduler
    np.testing.assert_allclose(make(again).frames, video.frames, atol=1e-5)
    with pytest.raises(InputError, match="no option or part 'unet'"):
        AnyTalkerPipeline.from_pretrained(folder, unet=None)


def test_loading_and_saving_are_quiet_unless_bars_are_wanted(folder, capfd, tmp_path) -> None:
    enable_progress_bar()  # the command line, which another test may have run, disables them
    AnyTalkerPipeline.from_pretrained(folder).save_pretrained(tmp_path)
    assert capfd.readouterr().err == ""
    AnyTalkerPipeline.from_pretrained(folder, progress=True)
    assert "%" in capfd.readouterr().err


def test_a_card_is_written_from_the_record(pipeline, tmp_path, monkeypatch) -> None:
    video = make(pipeline, prompt="a secret")
    pipeline.push_to_hub(str(tmp_path / "local"), record=video.record(seed=7))
    card = (tmp_path / "local" / "README.md").read_text()
    for line in ("library_name: anytalker", "| size | 48×32 |", "| seed | 7 |", "| people | 2 |", "| shift | 3.0 |"):
        assert line in card
    assert "secret" not in card
    assert AnyTalkerPipeline.from_pretrained(tmp_path / "local").settings == pipeline.settings
    sent: dict[str, object] = {}

    class Hub:
        def __init__(self, token=None) -> None:
            sent["token"] = token

        def create_repo(self, repo_id, private=None, exist_ok=False):
            if repo_id == "nobody/taken":
                raise OSError("403 Forbidden")
            sent["private"] = private
            return type("Repository", (), {"repo_id": repo_id})

        def upload_folder(self, repo_id, folder_path, commit_message, create_pr):
            sent.update(repo_id=repo_id, message=commit_message)
            shutil.copytree(folder_path, tmp_path / "hub")
            return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert (
        pipeline.push_to_hub("me/talk", private=True, token="t", commit_message="First")
        == "https://hub/me/talk/commit/1"
    )
    assert sent == {"token": "t", "private": True, "repo_id": "me/talk", "message": "First"}
    assert "# talk" in (tmp_path / "hub" / "README.md").read_text()
    assert AnyTalkerPipeline.from_pretrained(tmp_path / "hub").settings == pipeline.settings
    with pytest.raises(InputError, match="nobody/taken can't be written to the hub: 403"):
        pipeline.push_to_hub("nobody/taken")
    with pytest.raises(InputError, match="is no record of a video"):
        pipeline.push_to_hub("me/talk", record={"model": 1})


def test_a_repository_is_downloaded_unless_there_is_such_a_folder(folder, monkeypatch, tmp_path) -> None:
    asked = []

    def snapshot(name, **options):
        asked.append((name, options["revision"]))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert AnyTalkerPipeline.from_pretrained("me/talk", revision="main").settings.name == "small"
    assert asked == [("me/talk", "main")]
    monkeypatch.chdir(folder.parent.parent)
    assert AnyTalkerPipeline.from_pretrained(f"{folder.parent.name}/small").settings.name == "small"
    assert len(asked) == 1
    monkeypatch.undo()
    with pytest.raises(InputError, match="no folder nobody/gone, and as a repository of the hub"):
        AnyTalkerPipeline.from_pretrained("nobody/gone", local_files_only=True, cache_dir=tmp_path)


def test_quantization_configurations_reach_the_transformer(folder, monkeypatch) -> None:
    """What quantizes is not in the tests' environment: what it is handed is looked at instead."""
    from anytalker.models.transformer import AnyTalkerTransformer3DModel

    given = []
    load = AnyTalkerTransformer3DModel.from_pretrained.__func__

    def noted(cls, path, quantization_config=None, **options):
        given.append(quantization_config)
        return load(cls, path, **options)

    monkeypatch.setattr(AnyTalkerTransformer3DModel, "from_pretrained", classmethod(noted))

    class Eight:
        modules_to_not_convert = None

    AnyTalkerPipeline.from_pretrained(folder, quantization_config=Eight())
    assert given[0].modules_to_not_convert == ["attn_people.to_out"]
    AnyTalkerPipeline.from_pretrained(folder)
    assert given[1] is None


def test_torchao_quantizes_what_is_called(folder, pipeline) -> None:
    pytest.importorskip("torchao", reason="an extra: pip install 'anytalker[quantize]'")
    from torchao.quantization import Int8WeightOnlyConfig

    config = diffusers.PipelineQuantizationConfig(
        quant_mapping={"transformer": diffusers.TorchAoConfig(Int8WeightOnlyConfig())}
    )
    small = AnyTalkerPipeline.from_pretrained(folder, quantization_config=config)
    assert type(small.transformer.blocks[0].attn1.to_q.weight).__name__ == "Int8Tensor"
    error = np.abs(make(small).frames - make(pipeline).frames)
    assert 0 < error.max() < 0.05
