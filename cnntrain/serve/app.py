"""The server's answers: a page for people, JSON for programs."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cnntrain.errors import CheckpointError, DataError, DeviceError
from cnntrain.reports.pages import render
from cnntrain.serve.answers import about, answer
from cnntrain.serve.guard import Asgi, Guard, Json, page_policy
from cnntrain.serve.uploads import Refused, Room, read_image, read_options
from cnntrain.trained import Trained


@dataclass(frozen=True)
class Limits:
    """What requests may cost.

    Attributes:
        max_bytes: Of a body.
        max_seconds: From the end of the headers to the answer.
        max_requests: For predictions at once, their images being there.
        waiting_seconds: How long one more waits for its turn.
        max_connections: At once; fewer where the system allows fewer open files.
        header_seconds: For the headers of a request, and for reading an answer.
        max_bodies: Bodies of `max_bytes` in memory at once; of smaller ones, as many more.
    """

    max_bytes: int = 10 * 2**20
    max_seconds: float = 30
    max_requests: int = 8
    waiting_seconds: float = 5
    max_connections: int = 64
    header_seconds: float = 10
    max_bodies: int = 16


class Service:
    """The answers to requests. One thread computes, one request after the other; another thread answers meanwhile.

    Args:
        trained: Used by that one thread.
        worker: With a single thread.
        limits: Of each request.
    """

    def __init__(self, trained: Trained, worker: ThreadPoolExecutor, limits: Limits) -> None:
        self._trained, self._worker, self._limits = trained, worker, limits
        self._about = about(trained)
        self._places = asyncio.Semaphore(limits.max_requests)
        self._room = Room(limits.max_bodies * limits.max_bytes)
        self.html = render("serve.html", about=self._about, max_mib=limits.max_bytes / 2**20)

    async def page(self, request: Request) -> Response:
        """GET /."""
        return HTMLResponse(self.html)

    async def health(self, request: Request) -> Response:
        """GET /health."""
        return JSONResponse({"status": "ok"})

    async def info(self, request: Request) -> Response:
        """GET /info."""
        return Json(self._about)

    async def predict(self, request: Request) -> Response:
        """POST /predict."""
        started, seconds = time.perf_counter(), self._limits.max_seconds
        options = read_options(request.query_params, self._trained.task.class_names)
        content = None
        try:
            async with asyncio.timeout(seconds) as limit:
                with self._room.body(limit) as take:
                    content = await read_image(request, self._limits.max_bytes, take)
                    self._room.has_come(limit)
                    async with self._place():  # no earlier, or slow senders would keep all places
                        loop = asyncio.get_running_loop()
                        reply = await loop.run_in_executor(self._worker, answer, self._trained, content, options)
        except TimeoutError as error:
            if content is None:
                raise Refused(408, _too_slow(seconds, time.perf_counter() - started)) from error
            raise Refused(503, f"this took longer than {seconds:g} seconds (--max-seconds); try again") from error
        return Json({**reply, "seconds": round(time.perf_counter() - started, 4)})

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.waiting_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise Refused(503, f"{self._limits.max_requests} requests are being answered already; try again") from error
        try:
            yield
        finally:
            self._places.release()


def _too_slow(allowed: float, seconds: float) -> str:
    if seconds < allowed:
        return "the image came so slowly that others took its room; try again"
    return f"the image did not arrive within {allowed:g} seconds (--max-seconds)"


def build_app(trained: Trained, worker: ThreadPoolExecutor, *, limits: Limits, hosts: Collection[str] | None) -> Asgi:
    """The ASGI application.

    Args:
        trained: The network.
        worker: With a single thread, in which the network computes.
        limits: Of each request.
        hosts: Names under which the server may be asked, as `Guard` takes them.
    """
    service = Service(trained, worker, limits)
    app = Starlette(
        routes=[
            Route("/", service.page),
            Route("/health", service.health),
            Route("/info", service.info),
            Route("/predict", service.predict, methods=["POST"]),
        ],
        exception_handlers=dict.fromkeys(_EXPLAINED, _explain),
    )
    app.router.redirect_slashes = False
    return Guard(app, policy=page_policy(service.html), hosts=hosts)


# Starlette looks an error's class up here; a bug is explained too, but raised again, and uvicorn prints its traceback.
_EXPLAINED = (Refused, DataError, DeviceError, CheckpointError, ClientDisconnect, HTTPException, Exception)


async def _explain(request: Request, error: Exception) -> Response:
    """Whatever went wrong, as JSON."""
    message, headers = str(error), {}
    match error:
        case Refused():
            status = error.status
        case DataError():
            status = 422
        case DeviceError():
            status = 503
        case CheckpointError():
            status = 500
        case ClientDisconnect():
            status, message = 400, "the request broke off"
        case HTTPException():  # Starlette's own
            status, headers = error.status_code, dict(error.headers or {})
            what = f"{request.method} {request.url.path}: {error.detail.lower()}"
            message = f"{what}; there are GET /, GET /health, GET /info and POST /predict"
        case _:
            status, message = 500, f"a bug of cnntrain: {type(error).__name__}: {error}"
    return Json({"error": message}, status, headers)
