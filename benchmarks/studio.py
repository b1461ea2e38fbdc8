"""`anytalker studio` in a browser: from the click to the first preview and to the video; and pictures of the page.

python benchmarks/studio.py --runs 3
python benchmarks/studio.py --runs 1 --install     # in a new environment, which is made first
python benchmarks/studio.py --pictures docs/images
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from anytalker.studio import words

PATIENCE = 300_000
"""Milliseconds."""
SHOTS = (("wide", 1440, "light"), ("wide-dark", 1440, "dark"), ("small", 390, "light"), ("small-dark", 390, "dark"))
LARGEST = 200_000
"""Bytes of a picture of the page."""


def installed(folder: Path) -> str:
    """The Python of a new environment with this checkout's studio, installed by pip without its cache."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    source = f"{Path(__file__).resolve().parents[1]}[studio]"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", source], check=True, cwd=folder)
    return python


@contextmanager
def studio(data: Path, python: str = sys.executable) -> Iterator[tuple[str, float]]:
    """The address of a studio as a process, and the seconds until it listened."""
    began = time.monotonic()
    command = [python, "-m", "anytalker", "studio", "--port", "0", "--device", "cpu", "--data", str(data)]
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment = None if python == sys.executable else others
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("Open "):
            raise SystemExit("The studio did not start.")
        yield line.split()[1], time.monotonic() - began
    finally:
        process.terminate()
        process.wait()


def opened(browser: Any, address: str, width: int = 1440, scheme: str = "light") -> Page:
    """The page with the example on it."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.get_by_role("button", name=words.EXAMPLE).click()
    page.get_by_label(words.NAME.format(number=2)).wait_for()
    page.get_by_text("GiB").wait_for()
    return page


def make(page: Page) -> dict[str, float]:
    """Seconds from the click to each thing that is seen."""
    began, found = time.monotonic(), {}
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    for what, where in (("progress", ".job progress"), ("preview", "img.preview"), ("video", ".job video")):
        page.locator(where).first.wait_for()
        found[what] = time.monotonic() - began
    page.close()
    return found


def picture(page: Page, path: Path) -> None:
    """A picture of the whole page, in few colours."""
    page.wait_for_timeout(3000)
    page.screenshot(path=path, full_page=True)
    with Image.open(path) as shot:
        small = shot.convert("RGB")
    small.thumbnail((960, 4000))
    for colors in (256, 128, 64):
        small.quantize(colors, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LARGEST:
            return


def main() -> None:
    """Print a table, or write pictures of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="videos")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of the page instead")
    parser.add_argument("--install", action="store_true", help="install the studio in a new environment first")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder, first, python = Path(name), time.monotonic(), sys.executable
        if chosen.install:
            python = installed(folder / "environment")
            print(f"installed in {time.monotonic() - first:.0f} s", flush=True)
        address, started = stack.enter_context(studio(folder / "data", python))
        run = stack.enter_context(sync_playwright())
        browser = run.chromium.launch(executable_path=chosen.browser, args=["--no-sandbox"])
        print(f"listens after {started:.0f} s")
        for number in range(chosen.runs if chosen.pictures is None else 1):
            began = time.monotonic()
            page = opened(browser, address)
            ready = time.monotonic() - began
            made = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in make(page).items())
            print(f"video {number + 1}: page with the example {ready:.1f} s; from the click: {made}", flush=True)
            if chosen.install and not number:
                print(f"from nothing to the first video: {time.monotonic() - first:.0f} s", flush=True)
        for name, width, scheme in SHOTS if chosen.pictures else ():
            page = opened(browser, address, width, scheme)
            picture(page, chosen.pictures / f"studio-{name}.png")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
