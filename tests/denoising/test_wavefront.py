"""A wave of windows gives the numbers of all windows at once, with few of them in work."""

from __future__ import annotations

import re

import pytest
import torch

from anytalker.denoising import wavefront
from anytalker.denoising.denoiser import Conditioning, ContextCache, Denoiser, DenoisingRun
from anytalker.denoising.guidance import Guidance
from anytalker.denoising.noise import Noise
from anytalker.denoising.schedule import set_timesteps
from anytalker.denoising.windows import plan_windows
from anytalker.loading.scheduler import make_scheduler
from tests.models.test_transformer import small_inputs, small_model

MODEL = small_model()


def conditioning(frames: int, **changes) -> Conditioning:
    given = small_inputs(2, frames, height=4, width=4)
    parts = {
        "condition": given["hidden_states"][:, 16:],
        "prompt_embeds": given["encoder_hidden_states"],
        "negative_prompt_embeds": given["encoder_hidden_states"][:, :2] * 0.3,
        "image_embeds": given["encoder_hidden_states_image"],
        "face_embeds": given["face_embeds"],
        "audio_embeds": given["audio_embeds"],
        "face_masks": given["face_masks"],
    }
    return Conditioning(**parts | changes)


def all_at_once(denoiser: Denoiser, noise: torch.Tensor, whole: Conditioning) -> torch.Tensor:
    """The definition: every step for all windows, velocities averaged where they overlap, the picture's by the first.

    Written without anything that the wave is made of but the velocity of one window.
    """
    scheduler, latents, total = denoiser.scheduler, noise, noise.shape[2]
    set_timesteps(scheduler, denoiser.num_inference_steps)
    windows = plan_windows(total, denoiser.window, denoiser.window_overlap)
    contexts = ContextCache(denoiser.transformer, denoiser.context_budget)
    for step, timestep in enumerate(scheduler.timesteps):
        summed, weight_sum = torch.zeros_like(latents), torch.zeros(total)
        for number, window in enumerate(windows):
            frames, weights = window.latent_frames(), window.weights(denoiser.window_overlap, total)
            weights[0] = float(number == 0)
            part = whole.window(window)
            with torch.no_grad():
                velocity = denoiser.velocity(latents[:, :, frames], step, timestep, number, part, contexts)
            summed[:, :, frames] += velocity * weights.view(1, 1, -1, 1, 1)
            weight_sum[frames] += weights
        velocity = summed / weight_sum.view(1, 1, -1, 1, 1)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
    return latents


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "steps"),
    [
        (2, 4, 2, 3),
        (5, 4, 2, 3),
        (6, 4, 2, 3),
        (7, 4, 2, 1),
        (12, 4, 2, 5),
        (13, 4, 1, 4),
        (14, 4, 3, 4),
        (11, 5, 4, 2),
        (9, 3, 0, 3),
        (9, 1, 0, 2),
        (9, None, 2, 3),
    ],
)
def test_the_wave_equals_all_windows_at_once(frames, window, overlap, steps) -> None:
    denoiser = Denoiser(MODEL, make_scheduler(3.0), steps, window=window, window_overlap=overlap)
    whole = conditioning(frames)
    noise = torch.randn(1, 16, frames, 8, 8)
    assert torch.equal(denoiser(noise, whole), all_at_once(denoiser, noise, whole))


@pytest.mark.parametrize("guidance", [Guidance(2.0, 3.0), Guidance(2.0, 2.0, (0.5, 1.0), (0.0, 0.5), batched=True)])
def test_guidance_makes_no_difference_to_that(guidance) -> None:
    denoiser = Denoiser(MODEL, make_scheduler(3.0), 4, guidance, window=4, window_overlap=2)
    whole = conditioning(10)
    noise = torch.randn(1, 16, 10, 8, 8)
    assert torch.equal(denoiser(noise, whole), all_at_once(denoiser, noise, whole))


def test_the_docstring_draws_the_order_of_steps() -> None:
    drawing = re.findall(r"^ {4}window (\d) {8}([123. ]+)$", wavefront.__doc__ or "", re.MULTILINE)
    drawn = {column // 3: int(row) for row, line in drawing for column, mark in enumerate(line) if mark in "123"}
    scheduler = make_scheduler(3.0)
    set_timesteps(scheduler, 3)
    windows = plan_windows(11, 4, 2)
    wave = wavefront.Wavefront(windows, 2, 11, scheduler, lambda start, stop: torch.zeros(1, 16, stop - start, 2, 2))
    taken = []
    while wave.done < 12:
        number, step = wave.next_step()
        taken.append(number)
        wave.add_velocity(number, torch.zeros_like(wave.latents(number, step)))
    assert [drawn[column] for column in sorted(drawn)] == taken


def in_work(frames: int, steps: int, overlap: int = 2) -> tuple[int, int, int]:
    """The most windows, contexts and latent frames that are held at a time."""
    denoiser = Denoiser(MODEL, make_scheduler(3.0), steps, window=4, window_overlap=overlap)
    noise = torch.randn(1, 16, frames, 8, 8)
    run = denoiser.begin(lambda start, stop: noise[:, :, start:stop], conditioning(frames))
    most = (0, 0, 0)
    while run.done < run.total:
        run.advance()
        held = sum(tensor.shape[2] for name, tensor in run.state().items() if name.endswith(".latents"))
        run.finished()
        most = tuple(map(max, most, (len(run.wavefront.active), len(run.contexts), held)))  # type: ignore[assignment]
    assert run.wavefront.active == {}
    assert len(run.contexts) == 0
    return most


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_what_is_in_work_does_not_grow_with_the_length(overlap: int) -> None:
    short, long = in_work(16, 3, overlap), in_work(32, 3, overlap)
    assert short == long
    neighbours = -(-4 // (4 - overlap)) - 1
    assert long[0] <= 3 * neighbours + 1


def test_finished_frames_leave_in_order_and_early() -> None:
    denoiser = Denoiser(MODEL, make_scheduler(3.0), 2, window=4, window_overlap=2)
    noise = torch.randn(1, 16, 20, 8, 8)
    run = denoiser.begin(lambda start, stop: noise[:, :, start:stop], conditioning(20))
    left = []
    while run.done < run.total:
        run.advance()
        left.append(sum(part.shape[2] for part in run.finished()))
    assert sum(left) == 20
    assert sum(left[: len(left) // 2]) > 5
    with pytest.raises(StopIteration):
        run.advance()


def begin(seed: int) -> tuple[DenoisingRun, Noise]:
    """Nine windows of three steps, and where their noise comes from."""
    whole = conditioning(20)
    noise = Noise(16, 8, 8, whole.condition, torch.Generator().manual_seed(seed))
    return Denoiser(MODEL, make_scheduler(3.0), 3, window=4, window_overlap=2).begin(noise, whole), noise


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    """The latents of a run that is never interrupted."""
    run, _ = begin(7)
    latents = []
    while run.done < run.total:
        run.advance()
        latents += run.finished()
    return torch.cat(latents, dim=2)


@pytest.mark.parametrize("moment", [0, 1, 5, 11, 19, 26])
def test_a_saved_state_goes_on_to_the_same_latents(moment: int, expected) -> None:
    run, noise = begin(7)
    for _ in range(moment):
        run.advance()
    latents = run.finished()
    state, source = run.state(), noise.state()
    run, noise = begin(8)
    run.restore(state)
    noise.restore(source)
    assert run.done == moment
    while run.done < run.total:
        run.advance()
        latents += run.finished()
    assert torch.equal(torch.cat(latents, dim=2), expected)


def test_few_condition_frames_stand_for_all_later_ones() -> None:
    whole = conditioning(12)
    frames = [0, 1, *[2] * 10]
    short = conditioning(12, condition=whole.condition[:, :, :3])
    same = conditioning(12, condition=whole.condition[:, :, frames])
    for window in plan_windows(12, 4, 2):
        assert torch.equal(short.window(window).condition, same.window(window).condition)


def test_longer_noise_begins_with_the_same_numbers() -> None:
    def draw(*spans: tuple[int, int]) -> torch.Tensor:
        noise = Noise(16, 4, 6, torch.zeros(()), torch.Generator().manual_seed(3))
        return torch.cat([noise(*span) for span in spans], dim=2)

    assert torch.equal(draw((0, 9))[:, :, :5], draw((0, 1), (1, 5)))
    assert draw((0, 40)).std() == pytest.approx(1, abs=0.03)
    torch.manual_seed(5)
    first = Noise(16, 4, 6, torch.zeros(()), None)(0, 2)
    assert not torch.equal(first, Noise(16, 4, 6, torch.zeros(()), None)(0, 2))
    torch.manual_seed(5)
    assert torch.equal(first, Noise(16, 4, 6, torch.zeros(()), None)(0, 2))
