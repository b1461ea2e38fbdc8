"""Drawn people are told from what has texture, also after compression."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from anytalker.cli.app import app
from anytalker.conditioning.drawn import flatness, looks_photographed
from anytalker.loading.components import model_settings
from anytalker.miniature.world.scenes import UNSEEN_SEED, Scene
from anytalker.models.settings import PipelineSettings
from anytalker.pipelines.inputs import prepare_inputs
from anytalker.pipelines.options import GenerationOptions


def compressed(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def textured(seed: int = 0) -> Image.Image:
    """A picture with detail of every scale, as nature has it: its spectrum falls with the frequency."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(288)[:, None], np.fft.rfftfreq(512)[None]) + 1 / 512
    values = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(288, 512))) / frequency, (288, 512))
    values = (values - values.min()) / np.ptp(values) * 255
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def test_drawn_people_are_not_taken_for_photographs() -> None:
    pictures = [Image.fromarray(Scene.random(1 + seed % 4, UNSEEN_SEED + seed).picture(288)) for seed in range(20)]
    assert not any(looks_photographed(picture) for picture in pictures)
    assert sum(looks_photographed(compressed(picture, 75)) for picture in pictures) <= 1
    assert not any(looks_photographed(picture.resize((picture.width * 2, 576))) for picture in pictures[:5])


def test_texture_is_a_photographs() -> None:
    for picture in (textured(), textured().convert("L"), compressed(textured(1), 60), textured(2).resize((1024, 576))):
        assert looks_photographed(picture)
    soft = textured().filter(ImageFilter.GaussianBlur(12))
    assert flatness(textured()) < flatness(soft) <= 1
    assert flatness(Image.new("RGB", (3, 2), "red")) == 1


def test_faces_tell_more_than_what_is_around_them() -> None:
    scenes = [Scene.random(1 + seed % 4, UNSEEN_SEED + seed) for seed in range(20)]
    small = [Image.fromarray(scene.picture(173)) for scene in scenes]
    boxes = [scene.boxes(173) for scene in scenes]
    assert not any(map(looks_photographed, (compressed(picture, 75) for picture in small), boxes))
    wall = Image.new("RGB", (512, 288), "grey")
    wall.paste(textured(3).crop((0, 0, 150, 150)), (180, 60))
    assert not looks_photographed(wall)
    assert looks_photographed(wall, [(190, 70, 130, 130)])
    assert not looks_photographed(wall, [(190, 70, 30, 30)]), "too small to tell, so the whole picture decides"


def test_generate_says_what_the_miniature_has_never_seen(tmp_path, monkeypatch, write_wave, tone) -> None:
    monkeypatch.chdir(tmp_path)
    write_wave(tone[:8000], "anna.wav")
    textured().save("photo.png")
    Image.fromarray(Scene.random(1, UNSEEN_SEED).picture(288)).save("drawn.png")
    for picture, said in (("photo.png", True), ("drawn.png", False)):
        options = ["--image", picture, "--audio", str(tmp_path / "anna.wav"), "--face", "60,60,150,150"]
        done = CliRunner().invoke(app, ["generate", *options, "--max-frames", "5", "--steps", "1", "--output", "a.mp4"])
        assert done.exit_code == 0, done.output
        assert ("has only seen drawn faces" in done.output) == said
        assert ("--model 1.3b or 14b" in done.output) == said
        for name in ("a.mp4", "a.json"):
            (tmp_path / name).unlink()


def test_a_model_of_drawn_people_is_told_where_photographs_move() -> None:
    scene, settings = Scene.random(2, UNSEEN_SEED), model_settings("tiny")
    drawn = Image.fromarray(scene.picture(288))
    noisy = Image.blend(drawn, textured().resize(drawn.size), 0.25)
    assert looks_photographed(noisy)
    voices = [np.zeros(8000, np.float32)] * 2

    def areas(image: Image.Image, settings: PipelineSettings = settings, **options) -> np.ndarray | None:
        return prepare_inputs(image, voices, scene.boxes(288), settings, GenerationOptions(**options)).areas

    found = areas(noisy)
    assert found is not None
    mouths, heads, _ = found.mean(axis=(1, 2))
    assert 0.01 < mouths < 0.15 < heads < 0.8
    assert areas(drawn) is None
    assert areas(noisy, upscale=False) is None
    assert areas(noisy, replace(settings, trained_on="photographs")) is None
