"""The studio as an ASGI application: the page, and the files of its jobs, behind the guard of the service."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import lru_cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, Response

from anytalker import __version__
from anytalker.errors import InputError
from anytalker.queue.decoding import PICTURE
from anytalker.queue.record import LOCAL, UnknownJob
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import PREVIEW, RECORD, VIDEO, VideoQueue
from anytalker.service.guard import Guard
from anytalker.service.settings import ServiceSettings, check_address
from anytalker.studio import words
from anytalker.studio.cast import Desk
from anytalker.studio.shown import FILES

_KINDS = {VIDEO: "video/mp4", RECORD: "application/json", PREVIEW: "image/jpeg"}
_SMALL = {"thumbnail.jpg": (240, 160), "poster.jpg": (960, 720)}
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; font-src 'self' data:; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
"""Nothing of the page comes from elsewhere or goes elsewhere. Gradio's own scripts need the two exceptions."""
_SLOW = "anytalker.loading.part_loaders"
_ASSETS = ("/assets/", "/static/", "/svelte/")


def create_app(queue: VideoQueue, settings: ServiceSettings, supervisor: Supervisor | None = None) -> FastAPI:
    """The studio as an ASGI application.

    Args:
        queue: the jobs.
        settings: where it listens, and what uploads may be.
        supervisor: the workers, which live as long as the application; None: others have them.
    """
    desk = Desk(queue)
    os.environ["GRADIO_TEMP_DIR"] = str(desk.uploads)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    from anytalker.studio.page import page

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with nullcontext() if supervisor is None else supervisor:
            # The page is there first: what its answers need takes seconds to import.
            threading.Thread(target=import_module, args=(_SLOW,), daemon=True, name="imports").start()
            yield

    app = FastAPI(title=words.TITLE, version=__version__, lifespan=lifespan, openapi_url=None, docs_url=None)
    app.add_api_route(f"{FILES}/{{job}}/{{name}}", lambda job, name: file_of(queue, job, name), methods=["GET", "HEAD"])
    here = Path(__file__).parent
    mounted = gradio.mount_gradio_app(
        app,
        page(desk),
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        allowed_paths=[str(desk.folder)],
        max_file_size=settings.limits.upload,
        show_error=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css_paths=here / "page.css",
        head="".join(
            f"<script>{(here / name).read_text(encoding='utf-8')}</script>" for name in ("page.js", "lanes.js")
        ),
    )
    mounted.add_middleware(_Headers)
    mounted.add_middleware(Guard, settings=settings, seen=lambda *seen: None)
    return mounted


def studio_settings(host: str, port: int) -> ServiceSettings:
    """Where the studio listens: as it has no keys, only where nobody else can reach it.

    Raises:
        InputError: if others can reach the host, or it is unknown.
    """
    try:
        check_address(host, None)
    except InputError as error:
        raise InputError(
            f"--host is {host!r}; the studio has no keys, so it listens on this machine alone, such as at 127.0.0.1. "
            "For others there is:  anytalker serve --help"
        ) from error
    return ServiceSettings(host=host, port=port)


def theme() -> Any:
    """The look of the page, with fonts of the system."""
    from gradio import themes

    text = ("system-ui", "sans-serif")
    code = ("ui-monospace", "monospace")
    return themes.Base(primary_hue=themes.colors.teal, neutral_hue=themes.colors.slate, font=text, font_mono=code).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
    )


def file_of(queue: VideoQueue, job: str, name: str) -> Response:
    """One of a job's files; its picture made small, too.

    Raises:
        HTTPException: if there is no such file.
    """
    try:
        if name in _SMALL:
            queue.get(job, LOCAL)
            return Response(_small(queue.folder_of(job) / PICTURE, _SMALL[name]), media_type="image/jpeg")
        path = queue.file(job, name, LOCAL) if name in _KINDS else None
        if path is not None and name != VIDEO:
            # In one read: a preview is replaced while it is sent, and one's length isn't the next one's.
            return Response(path.read_bytes(), media_type=_KINDS[name])
    except (UnknownJob, OSError):
        path = None
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=_KINDS[name])


@lru_cache(maxsize=64)
def _small(path: Path, size: tuple[int, int]) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail(size)
    written = BytesIO()
    small.save(written, "JPEG")
    return written.getvalue()


class _Headers:
    """Says to the browser what the page may load."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                kept = b"max-age=86400" if scope["path"].startswith(_ASSETS) else b"no-cache"
                ours = {b"content-security-policy": _POLICY.encode(), b"cache-control": kept}
                given = [(name, value) for name, value in message.get("headers", []) if name.lower() not in ours]
                message = {**message, "headers": [*given, *ours.items()]}
            await send(message)

        await self.app(scope, receive, answer)
