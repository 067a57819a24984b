"""Connections that end: those that do not get on with it make room for others, or are closed after a while."""

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

FULL = "too many requests are being answered; try again"


class Connection(H11Protocol):  # type: ignore[misc]
    """Uvicorn's connection, of which there are not more than so many, and which has its time for whatever it does.

    Uvicorn itself waits for the headers of a request, and for an answer to be read, for ever.

    Args:
        max_connections: At once. One more takes the place of the one that has been sending its request, or reading
            its answer, for longest; where all are being worked on, it is sent away.
        header_seconds: From the last answer (or the beginning) to the end of the next request's headers.
        request_seconds: From there until the answer is read.
        more: As uvicorn has it.
    """

    def __init__(self, *, max_connections: int, header_seconds: float, request_seconds: float, **more: Any) -> None:
        super().__init__(**more)
        self._max_connections = max_connections
        self._header_seconds, self._request_seconds = header_seconds, request_seconds
        self._answering: Any = None  # the request that is being answered
        self._since = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        """As asyncio's; makes room where there is none."""
        super().connection_made(transport)
        self._begin(self._header_seconds)
        if len(self.connections) > self._max_connections:
            waiting = [other for other in self.connections if other is not self and other.waits_for_client]
            if waiting:
                min(waiting, key=lambda other: other._since).end()
            else:
                body = b'{"error":"' + FULL.encode() + b'"}'
                head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
                transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                transport.close()

    @property
    def waits_for_client(self) -> bool:
        """Whether it is the client's turn: to send a request, or to read an answer."""
        working = self._answering is not None and not self._answering.more_body
        return not working or bool(self._answering.response_started)

    def end(self) -> None:
        """Closes the connection at once, whatever is still to be sent."""
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        super().data_received(data)
        self._watch()

    def handle_events(self) -> None:
        """As uvicorn's, for bytes too that break off what is being answered."""
        try:
            super().handle_events()
        except h11.LocalProtocolError:
            self.end()

    def send_400_response(self, msg: str) -> None:
        """As uvicorn's; nothing else is answered any more."""
        if self.cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        super().send_400_response(msg)

    def on_response_complete(self) -> None:
        """As uvicorn's."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's."""
        super().connection_lost(exc)
        if self._deadline:
            self._deadline.cancel()

    def _watch(self) -> None:
        """Gives the connection its time for what it has begun."""
        answering = self.cycle if self.cycle and not self.cycle.response_complete else None
        if answering is not self._answering:
            self._answering = answering
            self._begin(self._request_seconds if answering else self._header_seconds)

    def _begin(self, seconds: float) -> None:
        if self._deadline:
            self._deadline.cancel()
        self._since, self._deadline = self.loop.time(), self.loop.call_later(seconds, self.end)


class SaidOnce(logging.Filter):
    """Lets a record of a log through that is unlike those before, so that nobody can fill a disk with them.

    Args:
        most: Records in all.
    """

    def __init__(self, most: int = 100) -> None:
        super().__init__()
        self._said: set[tuple[object, ...]] = set()
        self._most = most

    def filter(self, record: logging.LogRecord) -> bool:
        """As logging has it."""
        error = record.exc_info[1] if record.exc_info else None
        at = error.__traceback__ if error else None
        while at and at.tb_next:
            at = at.tb_next
        place = (at.tb_frame.f_code.co_filename, at.tb_lineno) if at else ()
        key = (record.name, record.msg, type(error), *place)
        if key in self._said or len(self._said) >= self._most:
            return False
        self._said.add(key)
        return True
