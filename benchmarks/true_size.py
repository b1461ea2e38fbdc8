"""Memory and speed at true size, on a GPU: models of the released shapes with random weights, 832×480, 81 frames.

    python benchmarks/true_size.py memory --model 14b --card 24   # --memory low, held to the memory of a smaller card
    python benchmarks/true_size.py speed --model 1.3b             # what the exact switches gain

Random weights take the memory and the time of real ones. What caches leave out depends on what a model has learnt, so
they are not measured here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.utils.torch_utils import empty_device_cache

from anytalker.models.latents import decode_chunks
from anytalker.models.precision import cast_transformer
from anytalker.models.transformer import AnyTalkerTransformer3DModel
from anytalker.pipelines.acceleration import Acceleration, accelerate
from anytalker.pipelines.denoising import Conditioning, Denoiser
from anytalker.pipelines.doctor import GPU_REST, model_shape
from anytalker.pipelines.guidance import Guidance
from anytalker.pipelines.memory import plan_memory
from anytalker.pipelines.placement import Placement, stream_layers
from anytalker.pipelines.schedule import make_scheduler

GIB = 2**30


def random_transformer(config: dict[str, Any], device: str) -> AnyTalkerTransformer3DModel:
    """A transformer of that shape in bfloat16, but for what is always kept in float32."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = AnyTalkerTransformer3DModel(**config)
    finally:
        torch.set_default_dtype(default)
    return cast_transformer(model, torch.bfloat16).eval().requires_grad_(False)


def conditioning(
    config: Any, size: tuple[int, int], frames: int, persons: int, device: str
) -> tuple[torch.Tensor, Conditioning]:
    """Random noise and conditioning; every face is as wide as a third of the picture's height."""
    latent_frames, height, width = (frames - 1) // 4 + 1, size[1] // 8, size[0] // 8
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device)

    side = height // 6
    masks = torch.zeros(1, persons, latent_frames, height // 2, width // 2, device=device)
    for person in range(persons):
        left = person * max(0, width // 2 - side) // max(1, persons - 1)
        masks[:, person, :, :side, left : left + side] = 1
    faces = draw(1, persons, 257, config.image_dim)
    audio = draw(1, persons, frames, config.audio_window, config.audio_blocks, config.audio_channels)
    texts = draw(2, config.text_len, config.text_dim)
    given = Conditioning(
        draw(1, 20, latent_frames, height, width), texts[:1], texts[1:], draw(1, 257, config.image_dim), faces, audio,
        masks,
    )  # fmt: skip
    return draw(1, 16, latent_frames, height, width), given


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what it gives."""
    _wait()
    started = time.perf_counter()
    result = work()
    _wait()
    return time.perf_counter() - started, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def taken() -> float:
    """Most GiB that this process has had of the GPU, CUDA's own included."""
    if not torch.cuda.is_available():
        return float("nan")
    free, total = torch.cuda.mem_get_info()
    own = total - free - torch.cuda.memory_reserved()
    return (torch.cuda.max_memory_reserved() + own) / GIB


def measure_memory(options: argparse.Namespace, device: str) -> None:
    """One denoising step and the decoding of a video with `--memory low`, against what the doctor expects."""
    shape = model_shape(options.model, torch.bfloat16)
    transformer = random_transformer(dict(shape.transformer), "cpu" if options.build == "cpu" else device).cpu()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free, total = torch.cuda.mem_get_info()
        if options.card:
            torch.cuda.set_per_process_memory_fraction((options.card * GIB - (total - free)) / total)
    weights = sum(p.nbytes for p in transformer.parameters()) / GIB
    print(f"{options.model}: {weights:.1f} GiB of weights in the transformer", flush=True)
    vae = AutoencoderKLWan(**{k: v for k, v in shape.vae.items() if not k.startswith("_")}).eval()
    parts = SimpleNamespace(components={"transformer": transformer, "vae": vae})
    waited, _ = timed(lambda: stream_layers(parts, torch.device(device)))  # type: ignore[arg-type]
    noise, given = conditioning(transformer.config, options.size, options.frames, options.people, device)
    denoise = Denoiser(transformer, make_scheduler(3.0), 2, keep_contexts=False)
    seconds, latents = timed(lambda: denoise(noise, given))
    step = taken()
    print(f"placed in {waited:.0f} s; two steps {seconds:.1f} s; peak {step:.2f} GiB", flush=True)
    empty_device_cache(device)  # as the pipeline does
    seconds, frames = timed(lambda: sum(part.shape[2] for part in decode_chunks(vae, [latents])))
    placement = Placement(memory="low")
    plan = plan_memory(
        shape, options.size, options.frames, options.people, torch.bfloat16, GPU_REST, placement=placement
    )
    expected = plan.peak / GIB
    print(f"{frames} frames decoded in {seconds:.1f} s; peak {taken():.2f} GiB of {options.card} GiB", flush=True)
    print(f"the doctor expects {expected:.2f} GiB, {expected / taken() - 1:+.1%}", flush=True)


def measure_speed(options: argparse.Namespace, device: str) -> None:
    """Seconds a denoising step of both branches of guidance, for each switch, in one run."""
    shape = model_shape(options.model, torch.bfloat16)
    transformer = random_transformer(dict(shape.transformer), device)
    noise, given = conditioning(transformer.config, options.size, options.frames, options.people, device)

    def steps(guidance: Guidance, count: int = 2) -> tuple[float, torch.Tensor]:
        denoise = Denoiser(transformer, make_scheduler(3.0), count, guidance)
        timed(lambda: denoise(noise, given))
        seconds, latents = timed(lambda: denoise(noise, given))
        return seconds / count, latents

    print("| switch | s a step | times as fast | relative error | peak GiB |\n|---|---|---|---|---|")
    plain = Guidance(2.0, 2.0)
    base, exact = steps(plain)
    print(f"| exact | {base:.2f} | 1 | 0 | {taken():.1f} |", flush=True)

    def row(name: str, guidance: Guidance = plain) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            seconds, latents = steps(guidance)
        except Exception as error:
            print(f"| {name} | not measured: {str(error).splitlines()[0]} | | | |", flush=True)
            return
        error = float((latents - exact).norm() / exact.norm())
        print(f"| {name} | {seconds:.2f} | {base / seconds:.2f} | {error:.1e} | {taken():.1f} |", flush=True)

    row("the same once more")
    row("no guidance, one branch", Guidance())
    row("`--batch-guidance`", Guidance(2.0, 2.0, batched=True))
    transformer.set_audio_face_backend("dense")
    row("dense AFCA, the paper's form")
    transformer.set_audio_face_backend("sparse")
    accelerate(transformer, Acceleration(compiled=True))
    row("`--compile`")
    for block in transformer.blocks:
        block._compiled_call_impl = None
    transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    row("`--weights float8`")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("memory", "speed"))
    parser.add_argument("--model", choices=("1.3b", "14b"), default="14b")
    parser.add_argument("--card", type=float, default=None, help="GiB that may be used of the GPU")
    parser.add_argument("--size", type=lambda text: tuple(map(int, text.split("x"))), default=(832, 480))
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--build", choices=("cpu", "gpu"), default="gpu", help="where random weights are made")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, torch {torch.__version__}", flush=True)
    (measure_memory if options.what == "memory" else measure_speed)(options, device)


if __name__ == "__main__":
    main()
