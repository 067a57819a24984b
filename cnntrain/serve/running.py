"""The server as a process: its port, its signals, its end."""

import asyncio
import errno
import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from cnntrain.errors import ConfigError
from cnntrain.serve.app import Limits, build_app
from cnntrain.serve.connection import Connection, SaidOnce
from cnntrain.serve.guard import Asgi
from cnntrain.trained import Trained

_STOPPING_SECONDS = 2  # for requests that are being answered
_BACKLOG = 128  # connections that the system keeps until they are taken
_FILES_BESIDE = 12  # that may have to be opened: uploads, libraries
# What is wrong with a form is told to who sent it.
_LOGGING = {"version": 1, "incremental": True, "loggers": {"python_multipart": {"level": "ERROR"}}}


def listen(host: str, port: int) -> socket.socket:
    """A port that takes connections.

    Args:
        host: A name or address of this machine.
        port: 0 picks a free one.

    Raises:
        ConfigError: It cannot be had.
    """
    if not host:  # which the system takes for all addresses
        raise ConfigError("--host is empty; is a variable of the shell not set?")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # UnicodeError of names that cannot be looked up
        raise ConfigError(f"--host {host} --port {port}: {_why(error, port)}") from error


def _why(error: OSError | UnicodeError, port: int) -> str:
    number = error.errno if isinstance(error, OSError) and not isinstance(error, socket.gaierror) else None
    match number:
        case errno.EADDRINUSE:
            return f"another program uses this port; choose another one (--port {port + 1}), or --port 0 for a free one"
        case errno.EACCES:
            return "ports below 1024 are for administrators; choose another one, such as --port 8000"
        case errno.EADDRNOTAVAIL:
            return (
                "this machine does not have this address; --host 127.0.0.1 is for this machine alone, 0.0.0.0 for all"
            )
        case None:
            return "no such name or address; --host 127.0.0.1 is for this machine alone, --host 0.0.0.0 for all"
        case _:
            return os.strerror(number)


def address_of(listener: socket.socket) -> str:
    """What to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    address = ipaddress.ip_address(host)
    if address.is_unspecified:  # all addresses of this machine
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether this machine alone can reach it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def serve(trained: Trained, listener: socket.socket, *, limits: Limits, when_ready: Callable[[], None]) -> None:
    """Answers requests until Ctrl-C or SIGTERM.

    Args:
        trained: The network.
        listener: As `listen` gives it; closed in the end.
        limits: Of each request.
        when_ready: Called once the server answers, and can be stopped.
    """
    worker = ThreadPoolExecutor(1, "network")
    try:
        app = build_app(trained, worker, limits=limits, hosts=_hosts(listener))
        Server(app, when_ready, limits).run([listener])
    finally:
        worker.shutdown(wait=False, cancel_futures=True)


def _hosts(listener: socket.socket) -> Collection[str] | None:
    local = {"localhost", "127.0.0.1", "[::1]"}
    return local | {listener.getsockname()[0]} if is_local(listener) else None


def _most_connections(limit: int) -> int:
    """At once, so that files can still be opened beside them."""
    try:
        import resource  # which Windows lacks

        files, open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(list(Path("/dev/fd").iterdir()))
    except (ImportError, OSError):
        return limit
    return limit if files == resource.RLIM_INFINITY else max(2, min(limit, files - open_files - _FILES_BESIDE))


def _explain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Says in a line what the system refuses, such as more open files, and all else as asyncio does."""
    error = context.get("exception")
    if isinstance(error, OSError):
        logging.getLogger("asyncio").error("warning: %s: %s", context["message"], error.strerror)
    else:
        loop.default_exception_handler(context)


class Server(uvicorn.Server):  # type: ignore[misc]
    """Uvicorn, saying errors alone, and each once.

    Args:
        app: Answers.
        when_ready: Called once it does, and signals are taken.
        limits: Of each request, and of connections.
    """

    def __init__(self, app: Asgi, when_ready: Callable[[], None], limits: Limits) -> None:
        connection = partial(
            Connection,
            max_connections=_most_connections(limits.max_connections),
            header_seconds=limits.header_seconds,
            request_seconds=limits.max_seconds + limits.waiting_seconds + limits.header_seconds,
        )
        config = uvicorn.Config(
            app,
            http=connection,
            backlog=1,  # taken at once, so that one that is too many ends before the next is taken
            loop="asyncio",
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=_LOGGING,
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_STOPPING_SECONDS,
        )
        super().__init__(config)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)
        asyncio.get_running_loop().set_exception_handler(_explain)
        self._when_ready()

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        once, logs = SaidOnce(), [logging.getLogger(name) for name in ("asyncio", "uvicorn.error")]
        for log in logs:
            log.addFilter(once)
        try:
            super().run(sockets)
        finally:
            for log in logs:
                log.removeFilter(once)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stops at signals as uvicorn does, but does not raise them again: that is how a server is meant to end."""
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # as under nohup
        if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
            heard = []
        before = {number: signal.signal(number, self.handle_exit) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
