"""A newcomer's whole way in a real browser, and the way by a script, at both widths; no errors, accessible."""

from __future__ import annotations

import os
import re
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
from anytalker.studio import lanes as module
from anytalker.studio import words
from anytalker.studio.app import create_app, studio_settings
from anytalker.studio.lanes import lanes
from anytalker.studio.rows import Row
from tests.processes import begin_at_once

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

    from anytalker.service import server

    class Server(server._Server):
        def __init__(self, *arguments) -> None:
            super().__init__(*arguments)
            servers.append(self)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_Server", Server)
        begin_at_once(patch)
        thread = threading.Thread(target=serve, args=(app, studio_settings("127.0.0.1", 0), on_ready), daemon=True)
        thread.start()
        assert ready.wait(60)
        yield told[0]
        servers[0].should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium with what it keeps of the pages it has seen."""
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_context(reduced_motion="reduce")
        browser.close()


@pytest.fixture
def tab_of(browser, address) -> Iterator[object]:
    """Opens the page in a tab of a width; afterwards there must be no errors and no requests to other hosts."""
    troubles: list[str] = []

    def on_response(response) -> None:
        if response.status >= 400:
            troubles.append(f"{response.status} {response.url}")

    def on_request(request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            troubles.append(f"elsewhere: {request.url}")

    def open_tab(width: int, scheme: str = "light"):
        page = browser.new_page()
        page.emulate_media(color_scheme=scheme)
        resize(page, width)
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
    for page in browser.pages:
        page.close()
    assert troubles == []


def resize(page, width: int) -> None:
    """Another width, as of a window that is dragged: an open page goes on where it was."""
    page.set_viewport_size({"width": width, "height": 900})


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


def shorten(page, steps: int = 0) -> None:
    """Ask for five frames."""
    if not page.get_by_label(words.SECONDS).is_visible():
        page.get_by_role("button", name=words.MORE).click()
    page.get_by_label(words.SECONDS).fill("0.2")
    page.get_by_label(words.STEPS).fill(str(steps))
    page.get_by_label(words.STEPS).press("Tab")


def name_of(page, number: int):
    """Where a person's name stands."""
    return page.get_by_label(words.NAME.format(number=number))


def click_at(page, *shares: tuple[float, float]) -> None:
    """Click at shares of the picture's width and height, one right after another."""
    picture = page.locator("#people img")
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#people img').naturalWidth > 0")
    box = picture.bounding_box()
    for x, y in shares:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def drop_picture(page, picture) -> None:
    """Drop a picture of two people."""
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    page.get_by_role("alert").get_by_text(words.NOBODY).wait_for()
    page.locator("input[type=file]").first.set_input_files(str(picture))
    name_of(page, 2).wait_for()


def change_people(page) -> None:
    """Remove people and add them again in every way there is; what the first one's row says stays."""
    name_of(page, 1).fill("First")
    click_at(page, (0.7, 0.6))
    name_of(page, 2).wait_for(state="hidden")
    click_at(page, (0.7, 0.6), (0.7, 0.6), (0.7, 0.6))  # faster than the page answers
    page.get_by_label(words.CLICK_DRAW).check()
    click_at(page, (0.02, 0.03), (0.12, 0.2))
    name_of(page, 3).wait_for()
    page.get_by_role("button", name=words.REMOVE.format(number=1)).click()
    name_of(page, 3).wait_for(state="hidden")
    playwright.expect(name_of(page, 1)).to_have_value("First")
    page.get_by_role("button", name=words.REMOVE.format(number=2)).click()
    name_of(page, 2).wait_for(state="hidden")
    page.get_by_label(words.BOX).fill("320, 94, 168, 168")
    page.get_by_label(words.BOX).press("Enter")
    name_of(page, 2).wait_for()


def watch_and_download(page, folder) -> Path:
    """Watch the finished video, and download it and its record."""
    page.locator("[data-state=succeeded] video").wait_for()
    page.locator("video").evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("document.querySelector('video').currentTime > 0")
    page.locator("video").evaluate("video => video.pause()")
    for link, name, start in ((words.DOWNLOAD_VIDEO, "a.mp4", b"ftyp"), (words.DOWNLOAD_RECORD, "a.json", b"{")):
        with page.expect_download() as coming:
            page.get_by_role("link", name=link).click()
        coming.value.save_as(folder / name)
        assert start in (folder / name).read_bytes()[:12]
    return folder / "a.mp4"


def give_voice(page, number: int, name: str, recording: Path) -> None:
    """Name a person and upload their voice."""
    name_of(page, number).fill(name)
    row = page.locator(".lane", has=name_of(page, number)).first
    row.locator("input[type=file]").set_input_files(str(recording))
    row.get_by_test_id(f"waveform-{words.VOICE.format(number=number)}").first.wait_for()


def test_a_newcomer_makes_a_video(tab_of, picture, tmp_path) -> None:
    _, _, voices = demo_scene(2, 1.0, 5)
    recordings = [tmp_path / "ada.wav", tmp_path / "bob.wav"]
    for path, samples in zip(recordings, voices, strict=True):
        write_wave(path, samples)
    page = tab_of(1440)
    drop_picture(page, picture)
    change_people(page)
    give_voice(page, 1, "Ada", recordings[0])
    resize(page, 390)
    give_voice(page, 2, "Bob", recordings[1])
    page.get_by_label(words.CONSENT).check()
    shorten(page)
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    page.locator("[data-state=queued], [data-state=running]").first.wait_for()
    page.close()  # changes nothing

    page = tab_of(390, "dark")
    page.locator(".job").get_by_text("Ada & Bob").wait_for()
    video = watch_and_download(page, tmp_path)
    page.get_by_role("button", name=words.AGAIN).first.click()
    playwright.expect(name_of(page, 2)).to_have_value("Bob")
    check_accessible(page)
    page.mouse.move(0, 0)  # or it would come to lie on another button
    resize(page, 1440)
    check_accessible(page)
    page.get_by_role("button", name=words.DELETE, exact=True).click()
    page.get_by_text("Ada & Bob").first.wait_for(state="hidden")
    page.get_by_role("button", name=words.EXAMPLE).click()
    playwright.expect(name_of(page, 2)).to_have_value("Ben")
    page.locator("input[type=file]").first.set_input_files(str(video))
    page.get_by_text(words.OURS_INSIDE).wait_for()
    playwright.expect(name_of(page, 2)).to_have_value("Bob")


def generate_by_keyboard(page) -> None:
    """Begin a video, and see it finished."""
    page.get_by_role("button", name=words.GENERATE, exact=True).press("Enter")
    page.locator("[data-state=queued], [data-state=running]").wait_for()
    page.locator("[data-state=succeeded] video").wait_for()


def test_a_script_by_keyboard(tab_of) -> None:
    page = tab_of(390)
    page.get_by_role("button", name=words.EXAMPLE).press("Enter")
    name_of(page, 2).wait_for()
    page.get_by_role("tab", name=words.TAB_SCRIPT).press("Enter")
    page.get_by_label(words.SCRIPT).fill("Anna: Yes!\nBen: No!")
    page.get_by_role("button", name=words.SPEAK).press("Enter")
    page.get_by_text(words.FILLED).wait_for()
    shorten(page)
    for width in (390, 1440):
        resize(page, width)
        generate_by_keyboard(page)
        check_accessible(page)


def move_voices(page) -> None:
    """Move one voice of the example by keys, and the other by the pointer."""
    first, second = (page.locator(f".clip[data-row='{number}']") for number in (1, 2))
    first.wait_for()
    second.focus()
    for key in ("ArrowRight", "PageUp", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
    playwright.expect(page.get_by_label(words.STARTS.format(number=2))).to_have_value("1.1")
    playwright.expect(second).to_be_focused()
    first.hover(position={"x": 20, "y": 10})
    width = first.locator("xpath=..").bounding_box()["width"]
    place = first.bounding_box()
    page.mouse.down()
    page.mouse.move(place["x"] + 20 + 0.3 * width, place["y"] + 10, steps=3)
    page.mouse.up()
    start = page.get_by_label(words.STARTS.format(number=1))
    playwright.expect(start).to_have_value(re.compile(r"[1-9]"))
    playwright.expect(first).to_have_attribute("aria-valuenow", start.input_value())


def test_cancel_retry_compare_and_delete(tab_of) -> None:
    page = tab_of(1440)
    page.locator(".card").nth(1).wait_for()
    count = page.locator(".card").count()
    page.get_by_role("button", name=words.COMPARE, exact=True).nth(1).click()
    page.locator(".compared video").nth(1).wait_for()
    page.get_by_role("button", name=words.PLAY_BOTH).click()
    page.wait_for_function("[...document.querySelectorAll('.compared video')].every(video => video.currentTime > 0)")
    page.evaluate("document.querySelectorAll('.compared video').forEach(video => video.pause())")
    check_accessible(page)
    page.get_by_role("button", name=words.STOP_COMPARING).click()
    page.locator(".compared").wait_for(state="hidden")
    page.get_by_role("button", name=words.EXAMPLE).click()
    name_of(page, 2).wait_for()
    move_voices(page)
    shorten(page, 900)
    page.get_by_role("button", name=words.GENERATE, exact=True).click()
    for done in ("first", "again"):
        page.locator("[data-state=running] img.preview").wait_for()
        page.get_by_role("button", name=words.CANCEL, exact=True).click()
        page.locator("[data-state=cancelled]").wait_for()
        if done == "first":
            page.get_by_role("button", name=words.RETRY).click()
    playwright.expect(page.locator(".card")).to_have_count(count + 1)
    page.get_by_role("button", name=words.DELETE, exact=True).click()
    playwright.expect(page.locator(".card")).to_have_count(count)
    page.locator("[data-state=succeeded] video").wait_for()


@pytest.fixture
def moved(browser) -> Iterator[object]:
    """Two lanes of four seconds, 400 pixels wide, and the fields of their rows; nothing else of the page."""
    page = browser.new_page()
    rows = [Row("Anna", "a.wav"), Row("Ben", "b.wav")]
    drawn = lanes(rows, [(3.2, "M0 0"), (3.2, "M0 0")])
    fields = "".join(f"<input aria-label='{words.STARTS.format(number=number)}' value='0'>" for number in (1, 2))
    style = ".strip{position:relative;width:400px;height:44px}.clip{position:absolute;top:0;bottom:0}"
    page.set_content(f"<style>{style}</style><div id='lanes'>{drawn}</div>{fields}")
    page.add_script_tag(path=Path(module.__file__).with_name("lanes.js"))
    page.drawn_anew = lambda: page.evaluate("drawn => document.querySelector('#lanes').innerHTML = drawn", drawn)
    page.starts = lambda: page.evaluate("[...document.querySelectorAll('input')].map(one => one.value)")
    yield page
    page.close()


def test_a_voice_is_dragged_on_while_lanes_are_drawn_anew(moved) -> None:
    place = moved.locator(".clip").nth(1).bounding_box()
    x, y = place["x"] + 20, place["y"] + 20
    moved.mouse.move(x, y)
    moved.mouse.down()
    moved.mouse.move(x + 50, y)
    moved.drawn_anew()
    moved.mouse.move(x + 100, y)
    moved.drawn_anew()
    moved.mouse.up()
    assert moved.starts() == ["0", "1"]


def test_keys_on_one_lane_after_another_are_all_told(moved) -> None:
    moved.clock.install()
    for number in (1, 0):
        moved.locator(".clip").nth(number).focus()
        moved.keyboard.press("PageUp")
        moved.keyboard.press("ArrowRight")
    moved.clock.run_for(1000)
    assert moved.starts() == ["1.1", "1.1"]
