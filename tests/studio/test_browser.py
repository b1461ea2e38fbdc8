"""A newcomer's whole way in a real browser, and the way by a script, at both widths; no errors, accessible."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anytalker.media.recordings import write_wave
from anytalker.miniature.demo import demo_scene
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import QueueSettings, VideoQueue
from anytalker.service.server import serve
from anytalker.studio import words
from anytalker.studio.app import create_app, studio_settings

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
PATIENCE = 120_000
"""Milliseconds that anything may take on a busy machine."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A studio with a worker."""
    queue = VideoQueue(tmp_path_factory.mktemp("studio") / "data", QueueSettings(preload="tiny"))
    app = create_app(queue, studio_settings("127.0.0.1", 0), Supervisor(queue))
    told, ready, servers = [], threading.Event(), []

    def on_ready(where: str) -> None:
        told.append(where)
        ready.set()

    from anytalker.service import server as module

    class Server(module._Server):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            servers.append(self)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_Server", Server)
        thread = threading.Thread(target=serve, args=(app, studio_settings("127.0.0.1", 0), on_ready), daemon=True)
        thread.start()
        assert ready.wait(60)
        yield told[0]
        servers[0].should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab_of(browser, address) -> Iterator[object]:
    """Opens the page in a tab of a width; afterwards there must be no errors and no requests to other hosts."""
    troubles: list[str] = []
    contexts: dict[tuple[int, str], object] = {}

    def on_response(response) -> None:
        if response.status >= 400:
            troubles.append(f"{response.status} {response.url}")

    def on_request(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            troubles.append(f"elsewhere: {request.url}")

    def open_tab(width: int, scheme: str = "light"):
        if (width, scheme) not in contexts:
            size = {"width": width, "height": 900}
            contexts[width, scheme] = browser.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
        page = contexts[width, scheme].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: said.type == "error" and troubles.append(said.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(f"dialog {dialog.message}"))
        page.on("response", on_response)
        page.on("request", on_request)
        page.goto(address)
        page.get_by_role("button", name=words.EXAMPLE).wait_for()
        return page

    yield open_tab
    for context in contexts.values():
        context.close()
    assert troubles == []


def check_accessible(page) -> None:
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (one["id"], node["html"][:200])
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "scrolls sideways"


def shorten(page) -> None:
    """Ask for five frames."""
    page.get_by_role("button", name=words.MORE).click()
    page.get_by_label(words.SECONDS).fill("0.2")
    page.get_by_label(words.SECONDS).press("Tab")


def test_a_newcomer_makes_a_video(tab_of, picture, tmp_path) -> None:
    _, _, voices = demo_scene(2, 1.0, 5)
    for name, samples in zip(("anna", "ben"), voices, strict=True):
        write_wave(tmp_path / f"{name}.wav", samples)
    page = tab_of(1440)
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    page.get_by_role("alert").get_by_text(words.NOBODY).wait_for()
    page.locator("input[type=file]").first.set_input_files(str(picture))
    second = page.get_by_label(words.NAME.format(number=2))
    second.wait_for()
    box = page.locator("#people img").bounding_box()
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"])
    second.wait_for(state="hidden")
    page.get_by_label(words.BOX).fill("320, 94, 168, 168")
    page.get_by_label(words.BOX).press("Enter")
    second.wait_for()
    for number, name in enumerate(("anna", "ben"), start=1):
        page.get_by_label(words.NAME.format(number=number)).fill(name.title())
        row = page.locator(".lane", has=page.get_by_label(words.NAME.format(number=number))).first
        row.locator("input[type=file]").set_input_files(str(tmp_path / f"{name}.wav"))
        row.get_by_test_id(f"waveform-{words.VOICE.format(number=number)}").first.wait_for()
    page.get_by_label(words.CONSENT).check()
    shorten(page)
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    page.locator("[data-state]").wait_for()
    page.close()  # changes nothing

    page = tab_of(1440)
    page.locator("[data-state=succeeded] video").wait_for()
    page.get_by_text("Anna & Ben").first.wait_for()
    page.locator("video").evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("document.querySelector('video').currentTime > 0")
    page.locator("video").evaluate("video => video.pause()")
    for link, start in ((words.DOWNLOAD_VIDEO, b"ftyp"), (words.DOWNLOAD_RECORD, b"{")):
        with page.expect_download() as coming:
            page.get_by_role("link", name=link).click()
        assert start in Path(coming.value.path()).read_bytes()[:12]
    page.get_by_role("button", name=words.AGAIN).first.click()
    playwright.expect(page.get_by_label(words.NAME.format(number=2))).to_have_value("Ben")
    check_accessible(page)


def test_a_script_on_a_small_dark_screen(tab_of) -> None:
    page = tab_of(390, "dark")
    page.get_by_role("button", name=words.EXAMPLE).press("Enter")
    page.get_by_label(words.NAME.format(number=2)).wait_for()
    page.get_by_role("tab", name=words.TAB_SCRIPT).press("Enter")
    page.get_by_label(words.SCRIPT).fill("Anna: Yes!\nBen: No!")
    page.get_by_role("button", name=words.SPEAK).press("Enter")
    page.get_by_text(words.FILLED).wait_for()
    shorten(page)
    page.get_by_role("button", name=words.GENERATE, exact=True).press("Enter")
    page.locator("[data-state=queued], [data-state=running]").wait_for()
    page.locator("[data-state=succeeded] video").wait_for()
    check_accessible(page)
