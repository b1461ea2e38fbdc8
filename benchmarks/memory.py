"""Is `anytalker doctor` right? The peak memory it expects against the one measured, each in its own process.

    python benchmarks/memory.py

On the CPU (Linux): videos of the miniature, and a denoising step of blocks as wide as the 1.3B's.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

_VIDEO = """
import json, resource, sys, numpy as np, torch
from PIL import Image
from anytalker import AnyTalkerPipeline
from anytalker.doctor.report import plan_video, this_machine
width, height, frames, persons = map(int, sys.argv[1:])
pipe = AnyTalkerPipeline.from_pretrained("tiny")
pipe.settings = type(pipe.settings)(**(vars(pipe.settings) | {"face_size": None, "max_area": width * height}))
pipe.set_progress_bar_config(disable=True)
rng = np.random.default_rng(0)
picture = Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))
side = min(height // 2, width // persons - 8)
faces = [(4 + i * (width // persons), height // 4, side, side) for i in range(persons)]
voices = [rng.normal(0, 0.1, int(16000 * frames / 24)).astype("f4") for _ in faces]
from pathlib import Path
import tempfile
with tempfile.TemporaryDirectory() as place:
    pipe.generate_to(Path(place) / "a.mp4", picture, voices, faces=faces, max_frames=frames, num_inference_steps=2)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""
_STEP = """
import json, resource, sys, torch
from anytalker.models.transformer import AnyTalkerTransformer3DModel
frames, height, width, persons, layers = map(int, sys.argv[1:])
model = AnyTalkerTransformer3DModel(num_layers=layers).eval()
masks = torch.zeros(1, persons, frames, height, width)
side = height // 3
for i in range(persons):
    left = i * max(0, width - side) // max(1, persons - 1)
    masks[:, i, :, :side, left : left + side] = 1
rows = 4 * (frames - 1) + 1
with torch.no_grad():
    context = model.make_context(torch.randn(1, 512, 4096), torch.randn(1, 257, 1280),
        torch.randn(1, persons, 257, 1280), torch.randn(1, persons, rows, 5, 12, 768), masks)
    model(torch.randn(1, 36, frames, 2 * height, 2 * width), torch.tensor([500.0]), context=context)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))
"""
_PLAN = """
import json, sys, torch
from anytalker.doctor.report import model_shape, this_machine
from anytalker.doctor.memory import plan_memory, simulate_step, transformer_bytes
import anytalker.pipelines.pipeline, numpy
what, *numbers = sys.argv[1:]
rest = this_machine().rest
if what == "video":
    width, height, frames, persons = map(int, numbers)
    peak = plan_memory(model_shape("tiny", torch.float32), (width, height), frames, persons, torch.float32, rest).peak
else:
    frames, height, width, persons, layers = map(int, numbers)
    step, context = simulate_step({"num_layers": layers}, (frames, height, width), persons, torch.float32)
    peak = rest + transformer_bytes({"num_layers": layers}, torch.float32) + step + context
print(json.dumps(peak))
"""


def run(program: str, *arguments: object) -> int:
    """The number that a program prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print("| what | expected MiB | measured MiB | error |\n|---|---|---|---|")
    for numbers in ((256, 128, 97, 2), (512, 256, 97, 2), (768, 384, 97, 4)):
        expected, measured = run(_PLAN, "video", *numbers), run(_VIDEO, *numbers)
        name = f"tiny, {numbers[0]}×{numbers[1]}, {numbers[2]} frames, {numbers[3]} people"
        print(f"| {name} | {expected / 2**20:.0f} | {measured / 2**20:.0f} | {expected / measured - 1:+.1%} |")
    for numbers in ((5, 15, 26, 2, 2), (5, 30, 52, 4, 2), (9, 30, 52, 2, 1)):
        expected, measured = run(_PLAN, "step", *numbers), run(_STEP, *numbers)
        name = f"{numbers[4]} blocks of the 1.3B, {numbers[0]}×{numbers[1]}×{numbers[2]} tokens, {numbers[3]} people"
        print(f"| {name} | {expected / 2**20:.0f} | {measured / 2**20:.0f} | {expected / measured - 1:+.1%} |")


if __name__ == "__main__":
    main()
