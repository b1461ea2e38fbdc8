"""What the doctor expects: counted to the byte where that can be known, and growing with what it must grow with."""

from __future__ import annotations

import sys
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace

import pytest
import torch

from anytalker import AnyTalkerTransformer3DModel, cli
from anytalker.doctor import memory, report
from anytalker.doctor.advice import advice
from anytalker.doctor.allocations import AllocationCounter
from anytalker.doctor.memory import simulate_decoding, simulate_step, transformer_bytes
from anytalker.doctor.report import Machine, model_shape, plan_video
from anytalker.hardware.placement import Placement

GIB = 2**30


def test_free_memory_is_what_the_system_says_with_what_this_process_has(monkeypatch) -> None:
    monkeypatch.setattr(report.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(report.psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * GIB))
    monkeypatch.setattr(report.psutil.Process, "memory_info", lambda self: SimpleNamespace(rss=GIB))
    assert report.this_machine() == Machine("cpu", 4 * GIB, GIB + report.CPU_WORK)


def test_allocations_are_counted_to_the_byte() -> None:
    with AllocationCounter() as counter:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        del first
        third = torch.ones(500)
        del second, view
        torch.ones(100)
        assert third.sum() == 500
    assert counter.peak == 4 * 2000


def test_threads_simulate_one_after_another_and_the_same_once() -> None:
    called, found = [], []

    def simulate(config) -> int:
        called.append(config)
        if len(called) == 1:
            other.start()
            other.join(0.05)  # it asks for the same meanwhile
        return 7

    def ask() -> None:
        found.append(memory._once(simulate, {"threads": 2}))

    other = Thread(target=ask)
    ask()
    other.join()
    assert (len(called), found) == (1, [7, 7])


def test_simulated_contexts_are_those_of_the_real_model() -> None:
    config = {
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "text_dim": 8,
        "text_len": 6,
        "ffn_dim": 64,
        "num_layers": 3,
        "image_dim": 12,
        "audio_blocks": 1,
        "audio_channels": 10,
        "audio_hidden_dim": 16,
        "audio_tokens": 3,
    }
    model = AnyTalkerTransformer3DModel(**config).eval()
    masks = torch.zeros(1, 2, 3, 6, 8)
    masks[..., :2, :2] = 1
    context = model.make_context(
        torch.randn(1, 4, 8),
        torch.randn(1, 257, 12),
        torch.randn(1, 2, 257, 12),
        torch.randn(1, 2, 9, 5, 1, 10),
        masks,
    )
    assert simulate_step(config, (3, 6, 8), 2, torch.float32)[1] == context.nbytes
    assert transformer_bytes(config, torch.float32) == sum(p.nbytes for p in model.parameters())


def test_a_step_takes_more_for_more_and_half_in_half_precision() -> None:
    small = simulate_step({"num_layers": 2}, (3, 10, 16), 1, torch.float32)
    large = simulate_step({"num_layers": 2}, (6, 10, 16), 1, torch.float32)
    many = simulate_step({"num_layers": 2}, (3, 10, 16), 4, torch.float32)
    half = simulate_step({"num_layers": 2}, (3, 10, 16), 1, torch.bfloat16)
    assert 1.7 < large[0] / small[0] < 2.3
    assert many[1] > 1.4 * small[1]
    assert half[1] == small[1] // 2


def test_more_frames_take_what_decoding_them_all_takes(monkeypatch) -> None:
    said = simulate_decoding({"_class_name": "AutoencoderKLWan"}, (5, 4, 4))
    monkeypatch.setattr(memory, "_DECODED", 5)
    assert simulate_decoding({"_class_name": "AutoencoderKLWan"}, (5, 4, 4)) == said > 0


def test_plans_of_models_that_are_not_here() -> None:
    card = Machine("cuda", 24 * GIB, GIB)
    small, size, frames = plan_video("1.3b", card, (832, 480), 3.4, 2)
    assert (size, frames) == ((832, 480), 81)
    assert 2.5 * GIB < small.weights["transformer"] < 4.5 * GIB
    assert 10 * GIB < small.weights["text encoder"] < 11.5 * GIB
    large, _, _ = plan_video("14b", card, (832, 480), 3.4, 2)
    balanced, _, _ = plan_video("1.3b", card, (832, 480), 3.4, 2, Placement("balanced"))
    assert large.peak > small.peak > card.memory > balanced.peak
    assert large.reason == "the weights of the transformer"
    assert "smaller model" in advice("14b", replace(card, memory=2 * GIB), (832, 480), 3.4, 2)


def test_a_windowed_models_memory_does_not_grow_with_the_length() -> None:
    machine = Machine("cpu", 8 * GIB, GIB // 2)
    assert model_shape("tiny", torch.float32).settings.window == 8
    minute, _, _ = plan_video("tiny", machine, (256, 128), 60, 2)
    hour, _, _ = plan_video("tiny", machine, (256, 128), 3600, 2)
    assert hour.peak == minute.peak < 1.5 * GIB


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "tiny", "--card", "24"], 0, "It fits."),
        (["--model", "tiny", "--card", "0.5", "--persons", "3"], 0, "Nothing of tiny fits"),
        (["--memory", "low"], 2, "--model"),
        (["--scale", "0.5"], 2, "--scale"),
        (["--size", "big"], 2, "'big'"),
        (["--persons", "0"], 2, "--persons"),
        (["--seconds", "-1"], 2, "--seconds"),
        (["--model", "nothing"], 2, "'nothing'"),
    ],
)
def test_the_command_line(arguments, code, said, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["anytalker", "doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert int(ended.value.code or 0) == code
    shown = capsys.readouterr()
    assert said in shown.out + shown.err


def counted(device: str) -> int:
    """The peak of operations on tensors of one shape, each of them twice."""
    kept = []
    with AllocationCounter() as counter:
        for _ in range(2):
            for dtype in (torch.int16, torch.bfloat16, torch.float32, torch.float64):
                square = torch.zeros(8, 8, dtype=dtype, device=device)
                kept += [square, square + 1, square + 1.0, square + True, square.t().contiguous(), square.view(64)]
                kept += [square.contiguous(), square.expand(3, 8, 8).clone(), square.add_(1), square.split(4)[0] * 1]
    return counter.peak


def test_operations_without_data_are_counted_like_those_with_data() -> None:
    assert counted("meta") == counted("cpu") > 0
