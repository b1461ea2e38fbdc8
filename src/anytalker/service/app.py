"""The service as an ASGI application: its routes behind a guard, and every error in one form."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from anytalker import __version__
from anytalker.errors import AnyTalkerError, InputError
from anytalker.failures import explain, storage_error
from anytalker.queue.record import KeyConflict, QueueFull, UnknownJob
from anytalker.queue.supervisor import Supervisor
from anytalker.queue.video_queue import VideoQueue
from anytalker.service.access import Access
from anytalker.service.guard import Guard
from anytalker.service.metrics import Metrics
from anytalker.service.routes import Service, routes
from anytalker.service.settings import ServiceSettings
from anytalker.service.webhooks import Sender

_CODES = {400: "bad_request", 401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 408: "too_slow"}
_CODES |= {409: "not_ready", 413: "too_large", 415: "wrong_kind", 422: "invalid_input", 429: "rate_limited"}
_RETRY = {"queue_full": 30, "too_many_jobs": 30, "storage_full": 600, "busy": 5}
"""Seconds after which it may be worth while to ask again."""
log = logging.getLogger("anytalker.service")


def create_app(
    queue: VideoQueue, settings: ServiceSettings | None = None, supervisor: Supervisor | None = None
) -> FastAPI:
    """The service as an ASGI application.

    Args:
        queue: the jobs.
        settings: how it is set up.
        supervisor: the workers, which live as long as the application; None: others have them.
    """
    settings = settings or ServiceSettings()
    metrics = Metrics(queue, supervisor)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.enter_context(Sender(queue, settings.webhook_networks))
            if supervisor is not None:
                stack.enter_context(supervisor)
            yield

    app = FastAPI(
        title="anytalker",
        version=__version__,
        description="Talking videos of any number of people: one picture, one voice each.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = Service(queue, settings, supervisor, Access(settings), metrics)
    app.add_middleware(Guard, settings=settings, seen=metrics.seen)
    app.include_router(routes)
    _answer_errors(app)
    return app


def _refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def _answer_errors(app: FastAPI) -> None:
    """Answer every error in one form, without a traceback."""

    def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES.get(error.status_code, "error")
        return _refuse(error.status_code, code, str(error.detail), dict(error.headers or {}))

    def on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = " ".join(str(part) for part in first["loc"][1:])
        return _refuse(422, "invalid_input", f"{place}: {first['msg']}.")

    def on_input(request: Request, error: InputError) -> JSONResponse:
        return _refuse(400, "invalid_input", str(error))

    def on_full(request: Request, error: QueueFull) -> JSONResponse:
        return _refuse(429, error.reason, str(error), {"Retry-After": str(_RETRY[error.reason])})

    def on_ours(request: Request, error: AnyTalkerError) -> JSONResponse:
        if str(error).startswith("The disk is full"):
            return on_full(request, QueueFull("storage_full", "The disk of the service is full. Delete some videos."))
        log.error("failed", extra={"why": type(error).__name__})
        return _refuse(500, "internal_error", "The service could not do it.")

    def on_any(request: Request, error: Exception) -> JSONResponse:
        known = storage_error(error)
        if known is not None and not isinstance(known, InputError):
            return on_ours(request, known)
        log.error(explain(error))
        return _refuse(500, "internal_error", "The service could not do it.")

    handlers: dict[Any, Any] = {
        HTTPException: on_http,
        RequestValidationError: on_validation,
        InputError: on_input,
        QueueFull: on_full,
        UnknownJob: lambda request, error: _refuse(404, "not_found", str(error)),
        ClientDisconnect: lambda request, error: _refuse(400, "bad_request", "The request ended before it was whole."),
        KeyConflict: lambda request, error: _refuse(409, "key_conflict", str(error)),
        AnyTalkerError: on_ours,
        Exception: on_any,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
