"""The tree that the release's README describes: every command on both checkpoints, and every wrong variant."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from anytalker import AnyTalkerPipeline, AnyTalkerTransformer3DModel, InputError
from anytalker.checkpoints.published import size_in
from anytalker.jobs import batch, workers
from anytalker.jobs.job import Job
from anytalker.loading.components import model_settings
from anytalker.loading.convert import convert
from anytalker.loading.locate import find_model
from anytalker.loading.presets import preset_for
from anytalker.media.video import read_video
from anytalker.pipelines.ready import working_dtype
from tests.loading.full_size import small_parts
from tests.loading.published import (
    AUDIO,
    BASE,
    CLIP_FILE,
    CONFIGS,
    LARGE,
    OWN,
    SMALL,
    T5_FILE,
    VAE_FILE,
    make_quick,
    write_tree,
)
from tests.test_cli import run

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 14\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The whole tree at a small size."""
    root = write_tree(tmp_path_factory.mktemp("published") / "checkpoints")
    for name in (SMALL, LARGE):
        make_quick(root / OWN / name)
    return root


@pytest.fixture
def copy(tree, tmp_path) -> Path:
    """A copy to be damaged; its files are links, so what is changed is to be removed first."""
    return shutil.copytree(tree, tmp_path / "world" / "checkpoints", copy_function=os.link)


@pytest.fixture
def scene(tmp_path, write_wave, tone) -> list[str]:
    """Arguments of generate: a picture of two, and a voice."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)).save(tmp_path / "two.png")
    voice = str(write_wave(tone[:8000]))
    faces = ["--face", "8,16,30,30", "--face", "56,16,30,30"]
    return ["--image", str(tmp_path / "two.png"), "--audio", voice, "--audio", "none", *faces, "--max-frames", "5"]


@pytest.mark.parametrize(("name", "layout"), [(SMALL, "A"), (LARGE, "B")])
def test_python_loads_either_checkpoint(tree, name: str, layout: str) -> None:
    pipeline = AnyTalkerPipeline.from_pretrained(tree / OWN / name)
    expected = small_parts(layout)["transformer"].state_dict()
    loaded = pipeline.transformer.state_dict()
    assert set(loaded) == set(expected)
    assert all(torch.equal(loaded[key], value) for key, value in expected.items())
    assert pipeline.settings.name == name.partition(".")[0]
    assert working_dtype(str(tree / OWN / name), "cuda") == torch.bfloat16


def test_what_counts_in_half_precision_stays_exact(tree) -> None:
    half = AnyTalkerPipeline.from_pretrained(tree / OWN / SMALL, torch_dtype=torch.bfloat16)
    types = {name: parameter.dtype for name, parameter in half.transformer.named_parameters()}
    assert types["condition_embedder.time_proj.weight"] == torch.float32
    assert types["blocks.0.attn1.to_q.weight"] == torch.bfloat16
    assert {parameter.dtype for parameter in half.text_encoder.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in half.vae.parameters()} == {torch.float32}


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_generate_and_doctor_take_either_checkpoint(tree, tmp_path, scene, name: str, capsys) -> None:
    model, output = str(tree / OWN / name), tmp_path / "talk.mp4"
    assert run("generate", "--model", model, *scene, "--output", output) == 0
    assert len(read_video(output)[0]) == 5
    assert json.loads(output.with_suffix(".json").read_text())["model"] == name.partition(".")[0]
    capsys.readouterr()
    assert run("doctor", "--model", model, "--size", "96x64", "--seconds", "0.4") == 0
    told = capsys.readouterr().out
    assert name in told
    assert "It fits." in told


def test_batch_takes_both_checkpoints_and_knows_them_apart(tree, tmp_path, scene, monkeypatch) -> None:
    class Here:
        def make(self, model, placement, job, path) -> str | None:
            return workers.make_video(model, "cpu", placement, job, path)

        def close(self) -> None:
            workers._PIPELINES.clear()

    monkeypatch.setattr(batch, "worker_for", lambda device: Here())
    job = {"image": "two.png", "audio": ["voice.wav"], "faces": [[8, 16, 30, 30]], "max_frames": 5}
    (tmp_path / "jobs.json").write_text(json.dumps({"talk": job}))
    for name in (SMALL, LARGE):
        place = ["--output", tmp_path / name, "--workers", "1", "--strict"]
        assert run("batch", tmp_path / "jobs.json", "--model", tree / OWN / name, *place) == 0
    assert (tmp_path / SMALL / "talk.mp4").read_bytes() != (tmp_path / LARGE / "talk.mp4").read_bytes()
    one = Job.model_validate(job)
    assert len({one.fingerprint(str(tree / OWN / name)) for name in (SMALL, LARGE)}) == 2


def test_a_fingerprint_sees_every_file_of_the_model(copy) -> None:
    job, model = Job(image="two.png", audio=[None]), str(copy / OWN / SMALL)
    prints = {job.fingerprint(model)}
    files = [OWN + "/" + SMALL, OWN + "/" + CONFIGS[SMALL], f"{BASE}/{T5_FILE}", f"{AUDIO}/model.safetensors"]
    for name in files:
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        (copy / name).write_bytes(content)
        prints.add(job.fingerprint(model))
    other = job.fingerprint(model)
    os.utime(copy / OWN / LARGE, ns=(1, 1))
    assert job.fingerprint(model) == other
    assert len(prints) == 1 + len(files)


def test_convert_finds_the_configuration_in_the_tree(tree, tmp_path) -> None:
    for name, layout in ((SMALL, "A"), (LARGE, "B")):
        assert run("convert", tree / OWN / name, tmp_path / layout) == 0
        model = AnyTalkerTransformer3DModel.from_pretrained(tmp_path / layout)
        expected = small_parts(layout)["transformer"].state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    with pytest.raises(InputError, match="plain Wan model"):
        convert(tree / BASE / "diffusion_pytorch_model.safetensors", tmp_path / "none")


@pytest.mark.parametrize("name", [SMALL, LARGE])
def test_train_start_takes_the_base_as_published(tree, tmp_path, name: str) -> None:
    assert run("train", "start", tree / BASE, tmp_path / "start", "--like", tree / OWN / name) == 0
    pipeline = AnyTalkerPipeline.from_pretrained(tmp_path / "start")
    given = load_file(tree / BASE / "diffusion_pytorch_model.safetensors")
    assert torch.equal(pipeline.transformer.blocks[1].attn1.to_q.weight, given["blocks.1.self_attn.q.weight"])
    assert pipeline.settings.name == "start"


def test_benchmark_checks_the_model_that_is_named(tree, tmp_path, write_wave, tone, capsys) -> None:
    bench = tmp_path / "bench"
    (bench / "frames").mkdir(parents=True)
    Image.new("RGB", (96, 64)).save(bench / "frames" / "talk.png")
    for person in ("left", "right"):
        (bench / f"audio_{person}").mkdir()
        shutil.move(write_wave(tone), bench / f"audio_{person}" / f"talk_{person}.wav")
    (bench / "speaker_duration.json").write_text(json.dumps({"talk": {"left": [[0, 1]], "right": []}}))
    assert run("benchmark", bench, "--model", tree, "--output", tmp_path / "out") == 2
    assert "several checkpoints" in capsys.readouterr().err


def test_calibration_is_kept_beside_the_checkpoint_it_is_of(copy) -> None:
    model, settings = copy / OWN / SMALL, copy / OWN / "1_3B-single-v1.anytalker.json"
    content = settings.read_text()
    settings.unlink()
    settings.write_text(content)
    assert run("calibrate", model, "--steps", "4") == 0
    assert len(json.loads(settings.read_text())["magnitude_ratios"]) == 4
    assert len(model_settings(model).magnitude_ratios) == 4
    assert model_settings(copy / OWN / LARGE).magnitude_ratios == ()


@pytest.mark.parametrize("given", ["", OWN])
def test_several_checkpoints_are_listed_as_paths_to_give(tree, scene, tmp_path, given: str, capsys) -> None:
    assert run("generate", "--model", tree / given, *scene, "--output", tmp_path / "talk.mp4") == 2
    told = capsys.readouterr().err
    for name in (SMALL, LARGE):
        assert str(tree / OWN / name) in told


def gone(*names: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return apply


def holding(name: str, content: bytes | Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        before = path.read_bytes() if path.exists() else b""
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(before) if callable(content) else content)

    return apply


def cut(name: str) -> Callable[[Path], None]:
    return holding(name, lambda before: before[: len(before) * 9 // 10])


def renamed(name: str, other: str) -> Callable[[Path], None]:
    return lambda root: (root / name).rename((root / name).with_name(other)) and None


def both(*damages: Callable[[Path], None]) -> Callable[[Path], None]:
    return lambda root: [damage(root) for damage in damages] and None


def swapped(name: str, other: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        (root / name).unlink()
        shutil.copyfile(root / other, root / name)

    return apply


WEIGHTS, CONFIG = f"{AUDIO}/model.safetensors", f"{AUDIO}/config.json"
TOKENIZER = f"{BASE}/google/umt5-xxl"
MODEL = f"{OWN}/{LARGE}"
WRONG = {
    "no T5": (gone(f"{BASE}/{T5_FILE}"), MODEL, "lacks the text encoder (models_t5"),
    "no CLIP": (gone(f"{BASE}/{CLIP_FILE}"), MODEL, "lacks the image encoder (models_clip"),
    "no VAE": (gone(f"{BASE}/{VAE_FILE}"), MODEL, "lacks the video autoencoder (Wan2.1_VAE.pth"),
    "no tokenizer": (gone(TOKENIZER), MODEL, "lacks the tokenizer (google/umt5-xxl"),
    "no tokenizer's config": (gone(f"{TOKENIZER}/tokenizer_config.json"), MODEL, "lacks tokenizer_config.json"),
    "no base": (gone(BASE), MODEL, "lacks the text encoder"),
    "no wav2vec2": (gone(AUDIO), MODEL, "lacks the audio encoder (wav2vec2-base-960h/"),
    "no wav2vec2 config": (gone(CONFIG), MODEL, f"{AUDIO} is not complete: it lacks config.json"),
    "no wav2vec2 weights": (gone(WEIGHTS), MODEL, f"{AUDIO} is not complete: it lacks its weights"),
    "one shard of wav2vec2": (
        renamed(WEIGHTS, "model-00001-of-00005.safetensors"),
        MODEL,
        "lacks the index of model-00001-of-00005.safetensors (model.safetensors.index.json)",
    ),
    "no config": (gone(f"{OWN}/{CONFIGS[LARGE]}"), MODEL, "needs its configuration (config_af2v_14B.json)"),
    "one config for two": (gone(f"{OWN}/{CONFIGS[LARGE]}"), OWN, f"{LARGE} (which lacks its config_af2v_14B.json)"),
    "no checkpoint": (gone(MODEL), MODEL, f"{OWN} there is"),
    "no checkpoints": (gone(MODEL, f"{OWN}/{SMALL}"), OWN, "lacks AnyTalker's checkpoint"),
    "no AnyTalker": (gone(OWN), "", "plain Wan model: it has no layers for voices"),
    "cut checkpoint": (cut(MODEL), MODEL, f"{LARGE} is damaged or cut off"),
    "cut T5": (cut(f"{BASE}/{T5_FILE}"), MODEL, f"{T5_FILE} is damaged or cut off"),
    "cut VAE": (cut(f"{BASE}/{VAE_FILE}"), MODEL, f"{VAE_FILE} is damaged or cut off"),
    "cut wav2vec2": (cut(WEIGHTS), MODEL, "model.safetensors is damaged or cut off"),
    "empty CLIP": (holding(f"{BASE}/{CLIP_FILE}", b""), MODEL, "cut off (it is empty)"),
    "a page as VAE": (holding(f"{BASE}/{VAE_FILE}", b"<!DOCTYPE html>"), MODEL, "it is no torch file"),
    "pointer as T5": (holding(f"{BASE}/{T5_FILE}", POINTER), MODEL, "only the pointer that Git LFS leaves"),
    "pointer as checkpoint": (holding(MODEL, POINTER), MODEL, "only the pointer that Git LFS leaves"),
    "pointer as wav2vec2": (holding(WEIGHTS, POINTER), MODEL, "only the pointer that Git LFS leaves"),
    "pointer as tokenizer": (holding(f"{TOKENIZER}/spiece.model", POINTER), MODEL, "spiece.model is cut off, or a po"),
    "config no JSON": (holding(f"{OWN}/{CONFIGS[LARGE]}", b"{"), MODEL, "is not JSON"),
    "configs swapped": (swapped(f"{OWN}/{CONFIGS[LARGE]}", f"{OWN}/{CONFIGS[SMALL]}"), MODEL, "the other layout"),
    "VAE is T5": (swapped(f"{BASE}/{VAE_FILE}", f"{BASE}/{T5_FILE}"), MODEL, "not the file that its name says"),
    "other wav2vec2": (
        holding(CONFIG, lambda before: before.replace(b'"hidden_size": 16', b'"hidden_size": 32')),
        MODEL,
        "another wav2vec2 than the model was trained with",
    ),
    "no wav2vec2 at all": (holding(CONFIG, b'{"model_type": "bert"}'), MODEL, "describes no wav2vec2 model"),
    "unfinished T5": (
        both(gone(f"{BASE}/{T5_FILE}"), holding(f"{BASE}/.cache/huggingface/download/Ab.7f.incomplete", b"half")),
        MODEL,
        "A download was not finished",
    ),
    "other T5 in a second base": (
        holding(f"Wan2.1-I2V-14B-480P/{T5_FILE}", b"\x80other"),
        MODEL,
        f"Wan2.1-I2V-14B-480P/{T5_FILE}",
    ),
    "the base": (lambda root: None, BASE, "plain Wan model: it has no layers for voices"),
    "its transformer": (lambda root: None, f"{BASE}/diffusion_pytorch_model.safetensors", "plain Wan model"),
    "the autoencoder": (lambda root: None, f"{BASE}/{VAE_FILE}", "is Wan's video autoencoder, not AnyTalker's"),
    "a configuration": (lambda root: None, f"{OWN}/{CONFIGS[LARGE]}", f"{OWN}/{SMALL}"),
    "wav2vec2": (lambda root: None, AUDIO, "is not a complete model"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_variants_are_refused_in_one_line(copy, tmp_path, scene, case: str, capsys, monkeypatch) -> None:
    damage, given, told = WRONG[case]
    damage(copy)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda *_, **__: pytest.fail("weights were loaded"))
    before = sorted(tmp_path.rglob("*"))
    assert run("generate", "--model", copy / given, *scene, "--output", tmp_path / "talk.mp4") == 2
    said = capsys.readouterr().err.strip()
    assert told in said
    assert "\n" not in said
    assert sorted(tmp_path.rglob("*")) == before


def test_both_configurations_and_one_checkpoint_are_a_model(copy) -> None:
    (copy / OWN / SMALL).unlink()
    for given in (copy, copy / OWN):
        assert find_model(given).path == copy / OWN / LARGE
        assert find_model(given).config == copy / OWN / CONFIGS[LARGE]


@pytest.mark.parametrize("folder", ["..", ".", OWN])
def test_relative_paths_find_the_same_parts(copy, folder: str, monkeypatch) -> None:
    monkeypatch.chdir(copy / folder)
    given = os.path.relpath(copy / OWN / LARGE)
    assert find_model(given).parts["vae"].resolve() == copy / BASE / VAE_FILE
    (copy / OWN / SMALL).unlink()
    assert find_model(os.path.relpath(copy / OWN)).parts["audio_features"].resolve() == copy / AUDIO


def test_checkpoints_of_other_names_are_paired_by_their_tensors(copy) -> None:
    renamed = (copy / OWN / LARGE).rename(copy / OWN / "mine.pth")
    assert find_model(renamed).config == copy / OWN / CONFIGS[LARGE]


def test_of_two_bases_with_the_same_files_the_one_of_the_same_size_is_taken(copy) -> None:
    second = shutil.copytree(copy / BASE, copy / "Wan2.1-I2V-14B-480P", copy_function=os.link)
    assert find_model(copy / OWN / LARGE).parts["vae"] == second / VAE_FILE
    assert find_model(copy / OWN / SMALL).parts["vae"] == copy / BASE / VAE_FILE


def as_repository(hub: Path, name: str, folder: Path) -> Path:
    """A repository as the hub's cache keeps it: links in snapshots to blobs; the snapshot."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / "0a1b2c", repository / "blobs"
    blobs.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0a1b2c")
    (repository / "snapshots" / "older").mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        shutil.copyfile(file, blobs / f"{number:08x}")
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / f"{number:08x}", link.parent))
    return snapshot


def test_the_hubs_cache_is_such_a_tree(tree, tmp_path, capsys) -> None:
    hub = tmp_path / "hub"
    own = as_repository(hub, "zzz66/AnyTalker-1.3B", tree / OWN)
    base = as_repository(hub, "alibaba-pai/Wan2.1-Fun-V1.1-1.3B-InP", tree / BASE)
    audio = as_repository(hub, "facebook/wav2vec2-base-960h", tree / AUDIO)
    found = find_model(own / LARGE)
    assert found.parts["vae"] == base / VAE_FILE
    assert found.parts["audio_features"] == audio
    assert found.config == own / CONFIGS[LARGE]
    AnyTalkerPipeline.from_pretrained(own / LARGE)
    with pytest.raises(InputError, match=f"several checkpoints.*{own / LARGE}, {own / SMALL}"):
        find_model(hub)
    (own / SMALL).unlink()
    for given in (own, own.parent.parent, hub):
        assert find_model(given).path == own / LARGE
    (base / T5_FILE).unlink()
    (base.parent.parent / "blobs" / "7f.incomplete").write_bytes(b"half")
    with pytest.raises(InputError, match=r"lacks the text encoder.*7f\.incomplete"):
        find_model(own / LARGE)


@pytest.fixture
def diffusers_base(tmp_path) -> Path:
    """A Wan pipeline in Diffusers' format."""
    base, parts = tmp_path / "Wan2.1-I2V-14B-480P-Diffusers", small_parts()
    for name in ("vae", "text_encoder", "tokenizer", "image_encoder"):
        parts[name].save_pretrained(base / name)
    (base / "transformer").mkdir()
    (base / "transformer" / "config.json").write_text('{"_class_name": "WanTransformer3DModel"}')
    (base / "model_index.json").write_text('{"_class_name": "WanImageToVideoPipeline"}')
    return base


def test_a_pipeline_in_diffusers_format_serves_as_base(tree, tmp_path, diffusers_base) -> None:
    shutil.copytree(tree / OWN, tmp_path / OWN, copy_function=os.link)
    shutil.copytree(tree / AUDIO, tmp_path / AUDIO, copy_function=os.link)
    assert find_model(tmp_path / OWN / SMALL).parts["vae"] == diffusers_base / "vae"
    AnyTalkerPipeline.from_pretrained(tmp_path / OWN / SMALL)


def test_a_pipeline_in_diffusers_format_loads_with_anytalkers_transformer_alone(tree, tmp_path, diffusers_base) -> None:
    with pytest.raises(InputError, match=r"plain Wan model.*anytalker train start"):
        find_model(diffusers_base)
    shutil.rmtree(diffusers_base / "transformer")
    small_parts("B")["transformer"].save_pretrained(diffusers_base / "transformer")
    with pytest.raises(InputError, match="lacks audio_features"):
        find_model(diffusers_base)
    shutil.copytree(tree / AUDIO, tmp_path / AUDIO, copy_function=os.link)
    pipeline = AnyTalkerPipeline.from_pretrained(diffusers_base)
    assert pipeline.transformer.config.audio_face_layout == "B"
    assert pipeline.settings.image_size == 28
    (weights,) = (diffusers_base / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged or cut off"):
        find_model(diffusers_base)


@pytest.mark.parametrize(("name", "meant"), [("1.3B", "1.3b"), ("14B", "14b"), ("tny", "tiny"), ("TINY", "tiny")])
def test_slips_in_names_are_understood(name: str, meant: str, capsys) -> None:
    assert run("doctor", "--model", name) == 2
    assert f"There is no model '{name}'; did you mean '{meant}'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (SMALL, "1.3"),
        ("config_af2v_1_3B.json", "1.3"),
        ("Wan2.1-Fun-V1.1-1.3B-InP", "1.3"),
        (LARGE, "14"),
        ("config_af2v_14B.json", "14"),
        ("Wan2.1-I2V-14B-480P", "14"),
        ("mine.pth", None),
    ],
)
def test_sizes_are_read_off_names(name: str, size: str | None) -> None:
    assert size_in(name) == size


def test_settings_come_from_the_preset_of_the_same_size() -> None:
    assert [preset_for(1536, "A"), preset_for(5120, "B"), preset_for(5120, "A"), preset_for(64, "B")] == [
        "1.3b",
        "14b",
        "14b",
        "14b",
    ]


def test_a_conversion_replaces_nothing_unasked(tree, tmp_path, capsys) -> None:
    kept = tmp_path / "mine.pth"
    kept.write_text("something else")
    assert run("convert", tree / OWN / SMALL, kept) == 2
    assert kept.read_text() == "something else"
    assert "is there already" in capsys.readouterr().err
    assert run("convert", tree / OWN / SMALL, tmp_path / "model") == 0
    assert run("convert", tree / OWN / SMALL, tmp_path / "model") == 2
    assert run("convert", tree / OWN / SMALL, tmp_path / "model", "--force") == 0
