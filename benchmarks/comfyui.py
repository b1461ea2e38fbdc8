"""Both example workflows in a real ComfyUI without a screen, in its own editor, against the command line; and pictures.

python benchmarks/comfyui.py COMFYUI --python COMFYUI_PYTHON
python benchmarks/comfyui.py COMFYUI --python COMFYUI_PYTHON --pictures docs/images

COMFYUI is the folder of its main.py; its Python has what it asks for, its editor (comfyui-frontend-package), and this
package.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from anytalker.media.recordings import SAMPLE_RATE, load_audio, write_wave
from anytalker.media.video import read_video, write_video
from anytalker.miniature.demo import write_picture
from anytalker.miniature.voices.speech import random_utterance

PACK = Path(__file__).parents[1] / "comfyui"
PATIENCE = 300
"""Seconds."""
LARGEST = 200_000
"""Bytes of a picture of a workflow."""
WORKFLOWS = {
    "single": ["--image", "one.png", "--audio", "anna.wav"],
    "duo_with_a_listener": ["--image", "two.png", "--audio", "anna.wav", "--audio", "none"],
}
"""The command line's inputs for each."""
FRAMES, STEPS = 25, 4
QUIET = {"Comfy.TutorialCompleted": True, "Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}
"""Settings of the editor: nothing in front of the workflow."""
KEEP = """
import numpy
class KeepFrames:
    INPUT_TYPES = classmethod(lambda kind: {"required": {"images": ("IMAGE",), "path": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "keep", True, "AnyTalker"
    def keep(self, images, path):
        numpy.save(path, images.numpy())
        return ()
NODE_CLASS_MAPPINGS = {"KeepFrames": KeepFrames}
"""
"""A node that writes frames as they are; those of ComfyUI write whole numbers, without rounding."""
SHOW = """() => {
    const canvas = window.app.canvas, edges = window.app.graph.nodes.map(node => node.getBounding());
    const left = Math.min(...edges.map(b => b[0])), top = Math.min(...edges.map(b => b[1]));
    const right = Math.max(...edges.map(b => b[0] + b[2])), bottom = Math.max(...edges.map(b => b[1] + b[3]));
    canvas.ds.scale = 1;
    canvas.ds.offset = [24 - left, 76 - top];
    canvas.setDirty(true, true);
    const place = canvas.canvas.getBoundingClientRect();
    return {x: place.left, y: place.top + 40, width: right - left + 48, height: bottom - top + 60};
}"""
"""Moves a workflow into sight, below the tabs; where it is."""


@contextmanager
def comfyui(folder: Path, python: str, base: Path) -> Iterator[str]:
    """The address of a ComfyUI with the node pack, whose inputs and outputs are in a folder."""
    for name in ("input", "output", "user", "models", "custom_nodes"):
        (base / name).mkdir()
    (base / "custom_nodes" / "anytalker").symlink_to(PACK)
    (base / "custom_nodes" / "keep_frames.py").write_text(KEEP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, str(folder / "main.py"), "--cpu", "--port", str(port), "--base-directory", str(base)]
    command += ["--database-url", f"sqlite:///{base}/comfyui.db", "--disable-auto-launch", "--disable-api-nodes"]
    with (base / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(PATIENCE):
            try:
                known = asked(f"{address}/object_info")
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit((base / "log").read_text()) from None
                time.sleep(1)
        if "AnyTalkerSampler" not in known:
            raise SystemExit((base / "log").read_text())
        yield address
    finally:
        process.terminate()
        process.wait()


def asked(address: str, sent: Any = None) -> Any:
    """The answer of ComfyUI's server; None: there is nothing in it."""
    data = None if sent is None else json.dumps(sent).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def write_inputs(folder: Path) -> None:
    """Pictures of one and two people, and a recording."""
    for name, persons in (("one.png", 1), ("two.png", 2)):
        write_picture(persons, 1_000_003, folder / name)
        (folder / name).with_suffix(".json").unlink()
    said = random_utterance(np.random.default_rng(3), 1.2, 2.0)
    write_wave(folder / "anna.wav", said.waveform, 22050)


def workflow_of(name: str, short: bool) -> dict[str, Any]:
    """A workflow of the pack, made short or as it is."""
    read = json.loads((PACK / "example_workflows" / f"{name}.json").read_text())
    for node in read["nodes"]:
        if short and node["type"] == "AnyTalkerSampler":
            node["widgets_values"][3], node["widgets_values"][5] = STEPS, FRAMES
    return dict(read)


def opened(page: Page, name: str, short: bool) -> None:
    """Open a workflow of the pack in the editor, which must have nothing to say against it."""
    page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow_of(name, short))
    page.wait_for_timeout(2000)
    if complaints := page.locator(".p-toast-message").all_inner_texts():
        raise SystemExit(f"{name}: {complaints}")


def begun(page: Page, address: str, changes: dict[str, Any]) -> str:
    """Send the open workflow as the editor sends it; its number.

    Args:
        page: the editor, which is told of progress.
        address: of the server.
        changes: other values of the sampler, or another node, by number.
    """
    prompt = page.evaluate("async () => (await window.app.graphToPrompt()).output")
    for node in prompt.values():
        if node["class_type"] == "AnyTalkerSampler":
            node["inputs"] |= changes.pop("sampler", {})
    told = page.evaluate(
        "() => { window.moved = 0; window.app.api.addEventListener('progress', () => window.moved++);"
        " return window.app.api.clientId; }"
    )
    (decode,) = [number for number, node in prompt.items() if node["class_type"] == "AnyTalkerDecode"]
    for node in changes.values():
        node["inputs"]["images"] = [decode, 0]
    return str(asked(f"{address}/prompt", {"prompt": prompt | changes, "client_id": told})["prompt_id"])


def ended(address: str, number: str) -> dict[str, Any]:
    """How a workflow ended."""
    for _ in range(2 * PATIENCE):
        if done := asked(f"{address}/history/{number}"):
            return dict(done[number]["status"])
        time.sleep(0.5)
    raise SystemExit(f"{number} did not end.")


def run(page: Page, address: str, name: str, base: Path) -> tuple[np.ndarray, Path, float]:
    """Run a workflow with the frames kept, too: frames, ComfyUI's video, seconds."""
    opened(page, name, True)
    began = time.monotonic()
    keep = {"class_type": "KeepFrames", "inputs": {"path": str(base / f"{name}.npy")}}
    status = ended(address, begun(page, address, {"frames": keep}))
    seconds = time.monotonic() - began
    if status["status_str"] != "success" or not page.evaluate("() => window.moved"):
        raise SystemExit(json.dumps(status, indent=1))
    video = max((base / "output" / "video").glob("*.mp4"), key=lambda path: path.stat().st_mtime)
    return np.load(base / f"{name}.npy"), video, seconds


def stopped(page: Page, address: str) -> float:
    """Seconds from ComfyUI's stop button to the end of a video that would take minutes."""
    opened(page, "single", True)
    number = begun(page, address, {"sampler": {"steps": 1000, "seed": 2}})
    page.wait_for_function("() => window.moved > 3", timeout=PATIENCE * 1000)
    began = time.monotonic()
    asked(f"{address}/interrupt", {})
    messages = [kind for kind, _ in ended(address, number)["messages"]]
    if "execution_interrupted" not in messages:
        raise SystemExit(f"It was not stopped: {messages}")
    return time.monotonic() - began


def command_line(name: str, inputs: Path, output: Path) -> None:
    """The same video by the command line."""
    options = ["--seed", "1", "--steps", str(STEPS), "--max-frames", str(FRAMES), "--device", "cpu"]
    command = [sys.executable, "-m", "anytalker", "generate", *WORKFLOWS[name], *options, "--output", str(output)]
    subprocess.run(command, cwd=inputs, check=True, capture_output=True)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """In dB, of whole numbers from 0 to 255."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def picture(page: Page, name: str, path: Path) -> None:
    """A picture of a workflow in the editor, and a small one in the pack, which ComfyUI shows in its list."""
    opened(page, name, False)
    clip = page.evaluate(SHOW)
    page.wait_for_timeout(1000)
    page.screenshot(path=path, clip=clip)
    with Image.open(path) as shot:
        seen = shot.convert("RGB")
    small = seen.copy()
    small.thumbnail((480, 480), Image.Resampling.LANCZOS)
    small.save(PACK / "example_workflows" / f"{name}.jpg", quality=85)
    seen.thumbnail((1400, 1400), Image.Resampling.LANCZOS)
    seen.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes; {LARGEST} are allowed.")


def main() -> None:
    """Run both workflows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the workflows, and nothing else")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as started:
        base = Path(temporary)
        with comfyui(chosen.comfyui.resolve(), chosen.python, base) as address:
            write_inputs(base / "input")
            browser = started.chromium.launch(executable_path=chosen.chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 2060, "height": 1100})
            asked(f"{address}/api/settings", QUIET)
            page.goto(address)
            page.wait_for_function("() => window.app?.graph && window.app.canvas", timeout=PATIENCE * 1000)
            system = asked(f"{address}/system_stats")["system"]
            if chosen.pictures:
                for name in WORKFLOWS:
                    picture(page, name, chosen.pictures / f"comfyui-{name.partition('_')[0]}.png")
                return
            print(f"ComfyUI {system['comfyui_version']}, {FRAMES} frames in {STEPS} steps\n")
            print("| workflow | seconds | its frames, encoded as the command line's | its own video |")
            print("|---|---|---|---|")
            for name in WORKFLOWS:
                frames, video, seconds = run(page, address, name, base)
                command_line(name, base / "input", base / f"{name}.mp4")
                expected, fps = read_video(base / f"{name}.mp4")[:2]
                write_video(base / "same.mp4", frames, fps, load_audio(base / f"{name}.mp4"), SAMPLE_RATE)
                same, own = read_video(base / "same.mp4")[0], read_video(video)[0]
                print(f"| {name} | {seconds:.0f} | {psnr(same, expected):.1f} dB | {psnr(own, expected):.1f} dB |")
            print(f"\nstopped after {stopped(page, address):.1f} s")
            browser.close()


if __name__ == "__main__":
    main()
