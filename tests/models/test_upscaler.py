"""The miniature's upscaler: what a picture shows is kept at twice the size of the decoded frames."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from anytalker import AnyTalkerPipeline
from anytalker.miniature.corpus import CorpusSettings, RenderedClip, render_clip
from anytalker.miniature.demo import demo_scene
from anytalker.models.latents import decode_video, encode_video
from anytalker.models.upscaler import PictureUpscaler, PictureWarp

pytestmark = pytest.mark.usefixtures("real_upscaler")


@pytest.fixture(scope="module")
def pipeline() -> AnyTalkerPipeline:
    return AnyTalkerPipeline.from_pretrained("tiny")


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_clip(7, CorpusSettings(frames=9, size=256, unseen=True, silent_share=0.0))


def texture() -> torch.Tensor:
    """A picture (3, 128, 192) in [-1, 1] without corners or periods."""
    noise = np.random.default_rng(0).normal(size=(128, 192, 3))
    smooth = cv2.GaussianBlur(noise, (0, 0), 4)
    return torch.from_numpy(smooth / np.abs(smooth).max()).permute(2, 0, 1).float()


def shrunk(pixels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(pixels, 2)


def error(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).square().mean())


def test_a_picture_is_brought_to_where_a_frame_shows_it() -> None:
    picture = texture()
    moved = picture.roll((4, 6), dims=(1, 2))
    warped = PictureWarp(picture, (64, 96))(shrunk(moved)[None])[0]
    inside = (slice(None), slice(24, -24), slice(24, -24))
    assert error(warped[inside], moved[inside]) < 0.05 * error(picture[inside], moved[inside])


def test_a_square_is_warped_as_it_is_in_the_whole() -> None:
    picture = texture()
    frames = shrunk(torch.stack([picture.roll(2, dims=2), picture.roll(-4, dims=1)]))
    whole = PictureWarp(picture, (64, 96))(frames)[:, :, 32:96, 48:112]
    part = PictureWarp(picture, (64, 96), (16, 24, 32))(frames)
    assert (whole - part)[:, :, 4:-4, 4:-4].abs().max() < 0.03


def test_of_a_photograph_mouths_change_heads_move_and_all_else_stands_still(pipeline) -> None:
    picture, areas = texture(), torch.zeros(3, 128, 192)
    moved = picture.roll((2, 4), dims=(1, 2))
    eyes, mouth = (slice(40, 60), slice(80, 112)), (slice(70, 84), slice(80, 112))
    areas[1, 20:108, 50:142] = 1
    areas[0][mouth] = areas[2][mouth] = areas[2][eyes] = 1
    frame = shrunk(moved)
    frame[:, 20:30, 40:56] = 0.8  # what the model makes of eyes that it doesn't know
    frame[:, 35:42, 40:56] = -0.8
    frame[:, 56:] = 0.5  # and of walls
    made = pipeline.vae.upscaler.enlarge(frame[None], torch.cat([picture, areas]), shrunk(picture))[0]
    assert error(made[:, eyes[0], eyes[1]], moved[:, eyes[0], eyes[1]]) < 0.05 * error(
        picture[:, eyes[0], eyes[1]], moved[:, eyes[0], eyes[1]]
    )
    inside = (slice(None), slice(74, 80), slice(86, 106))
    assert made[inside].mean() < -0.6, "what the model says"
    assert (made - picture)[:, 112:].abs().max() < 0.01
    assert (made - picture)[:, :, :40].abs().max() < 0.01


def test_mouths_made_apart_are_those_of_the_whole(pipeline) -> None:
    areas = np.zeros((3, 128, 192), np.float32)
    for place in ((60, 70), (92, 76), (190, 4)):  # the first two reach into what is around the other
        cv2.circle(areas[0], place, 14, 1, -1)
    areas[0] = cv2.GaussianBlur(areas[0], (0, 0), 1)
    frame, picture, upscaler = torch.rand(1, 3, 64, 96) * 2 - 1, texture(), pipeline.vae.upscaler
    with torch.no_grad():
        whole = upscaler(frame, picture[None], picture[None])[0]
    expected = torch.lerp(picture, whole, torch.from_numpy(areas[0])).clamp(-1, 1)
    made = upscaler.enlarge(frame, torch.cat([picture, torch.from_numpy(areas)]))[0]
    torch.testing.assert_close(made, expected, atol=0.006, rtol=0)  # the moved picture has bytes


def test_a_frame_depends_on_no_other() -> None:
    upscaler = PictureUpscaler(8, 1).eval()
    torch.nn.init.normal_(upscaler.leave.weight, std=0.05)
    frames, picture = torch.rand(3, 3, 32, 40) * 2 - 1, torch.rand(3, 64, 80) * 2 - 1
    together = upscaler.enlarge(frames, picture)
    assert together.shape == (3, 3, 64, 80)
    torch.testing.assert_close(upscaler.enlarge(frames.flip(0), picture).flip(0), together)


def test_decoded_frames_come_closer_to_the_truth_than_enlarged_ones(pipeline, clip) -> None:
    true = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    decoded = decode_video(pipeline.vae, encode_video(pipeline.vae, shrunk(true).transpose(0, 1)[None]))
    frames = decoded[0].transpose(0, 1)
    usual = torch.nn.functional.interpolate(frames, scale_factor=2, mode="bicubic").clamp(-1, 1)
    enlarged = pipeline.vae.upscaler.enlarge(frames, true[0])
    assert error(enlarged[0], true[0]) < 0.1 * error(usual[0], true[0]), "the picture itself is kept"
    assert error(enlarged, true) < error(usual, true)
    left, top, width, height = map(int, clip.boxes[0])
    mouth = (slice(1, None), slice(None), slice(top + height // 2, top + height), slice(left, left + width))
    assert error(enlarged[mouth], true[mouth]) < error(usual[mouth], true[mouth])
    assert error(enlarged[mouth], true[mouth]) < error(true[:1].expand_as(true)[mouth], true[mouth])


def test_a_video_is_the_small_one_enlarged(pipeline) -> None:
    picture, boxes, voices = demo_scene(2, 0.4, 3)

    def make(**options):
        generator = torch.Generator().manual_seed(1)
        options |= {"num_inference_steps": 1, "max_frames": 5}
        return pipeline(picture, voices, faces=boxes, generator=generator, **options)

    large, small = make(), make(upscale=False)
    height, width = small.frames.shape[1:3]
    assert large.frames.shape[1:3] == (2 * height, 2 * width) == large.inputs.image.size[::-1]
    assert (large.record().width, small.record().width) == (2 * width, width)
    for one, other in zip(large.record().persons, small.record().persons, strict=True):
        assert np.abs(np.array(one.box_xywh) - 2 * np.array(other.box_xywh)).max() <= 2
    frames = torch.from_numpy(small.frames).permute(0, 3, 1, 2).mul(2).sub(1)
    shown = torch.from_numpy(np.array(large.inputs.image)).permute(2, 0, 1).float().div(127.5).sub(1)
    enlarged = pipeline.vae.upscaler.enlarge(frames, shown).add(1).div(2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(large.frames, enlarged.numpy(), atol=0.02)  # flow is sought between bytes
    assert np.abs(large.frames - enlarged.numpy()).mean() < 1e-3
    same = make(size=(2 * width, 2 * height))
    np.testing.assert_allclose(same.frames, large.frames, atol=1e-5)
