"""What a request asks for: its image and its options, or why they cannot be had."""

import asyncio
import difflib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

HOW = "send it as the field `image` of a form (curl -F image=@photo.jpg URL/predict), or alone, as Content-Type image/*"

_Receive = Callable[[], Awaitable[Any]]


class Refused(Exception):
    """A request that gets no answer but a message.

    Args:
        status: Of HTTP.
        message: What is wrong, what was found, what is allowed.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Options:
    """What is wanted besides the image.

    Attributes:
        top: How many classes, at most.
        map_class: Whose activation map; empty for the likeliest class, None for no map.
    """

    top: int = 5
    map_class: str | None = None


def read_options(query: Mapping[str, str], class_names: Sequence[str]) -> Options:
    """The part of the address after the question mark.

    Raises:
        Refused: It is not understood.
    """
    for key in query:
        if key not in ("top", "map", "map_class"):
            raise Refused(400, f"unknown parameter {key!r} (allowed: top, map, map_class)")
    top, wanted, map_class = query.get("top", "5"), query.get("map", "0"), query.get("map_class")
    if not re.fullmatch("[1-9][0-9]{0,5}", top):
        raise Refused(400, f"top must be a whole number from 1 to 999999 (got {top!r})")
    if wanted not in ("0", "1"):
        raise Refused(400, f"map must be 0 or 1 (got {wanted!r})")
    if map_class is not None and map_class not in class_names:
        close = difflib.get_close_matches(map_class, class_names, 1)
        hint = f"did you mean {close[0]!r}?" if close else "GET /info lists them"
        raise Refused(400, f"map_class {map_class!r} is no class of this network; {hint}")
    return Options(int(top), map_class if map_class is not None else "" if wanted == "1" else None)


class Room:
    """Memory for bodies of requests. Where it is full, the body that has been coming for longest is given up.

    Args:
        num_bytes: For all of them together.
    """

    def __init__(self, num_bytes: int) -> None:
        self._free = num_bytes
        self._coming: list[asyncio.Timeout] = []  # in the order of their beginning

    @contextmanager
    def body(self, limit: asyncio.Timeout) -> Iterator[Callable[[int], None]]:
        """What takes room for so many bytes more, which are given back in the end. It raises `Refused`.

        Args:
            limit: Of the time of the request, which is made shorter where others need the room.
        """
        taken = 0

        def take(num_bytes: int) -> None:
            nonlocal taken
            taken += num_bytes
            self._free -= num_bytes
            if self._free < 0:
                self._give_up_another(limit)

        self._coming.append(limit)
        try:
            yield take
        finally:
            self._free += taken
            self.has_come(limit)

    def has_come(self, limit: asyncio.Timeout) -> None:
        """That a body is complete, and is not given up any more."""
        if limit in self._coming:
            self._coming.remove(limit)

    def _give_up_another(self, limit: asyncio.Timeout) -> None:
        others = [other for other in self._coming if other is not limit and not other.expired()]
        if not others:
            raise Refused(503, "too much is being uploaded at once; try again")
        others[0].reschedule(asyncio.get_running_loop().time())
        self._coming.remove(others[0])


async def read_image(request: Request, max_bytes: int, take: Callable[[int], None]) -> bytes:
    """The content of the image file that a request brings.

    Args:
        request: Whose body is read.
        max_bytes: Of the body.
        take: Is told of the bytes that come; see `Room`.

    Raises:
        Refused: It brings none, or too much.
        ClientDisconnect: It has not come to its end.
    """
    request = Request(request.scope, _at_most(max_bytes, request, take))
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        content = await _field(request)
    elif kind.startswith("image/"):
        content = await request.body()
    else:
        raise Refused(415, f"an image is wanted, and the Content-Type is {kind or 'missing'}: {HOW}")
    if not content:
        raise Refused(400, f"the image is empty: {HOW}")
    return content


async def _field(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            image, fields = form.get("image"), ", ".join(form) or "none"
            if isinstance(image, UploadFile):
                return bytes(await image.read())
    except (Refused, ClientDisconnect):
        raise
    except HTTPException as error:
        raise Refused(400, f"the form cannot be read: {error.detail.rstrip('.')}; {HOW}") from error
    except (OSError, MemoryError) as error:  # larger uploads are kept in files
        raise Refused(503, "there is no room for the image at the moment; try again") from error
    except Exception as error:  # by release, Starlette's parser lets several others through
        raise Refused(400, f"the form cannot be read; {HOW}") from error
    what = "is a text, not a file" if image is not None else f"is missing (fields found: {fields})"
    raise Refused(400, f"the field `image` {what}; {HOW}")


def _at_most(max_bytes: int, request: Request, take: Callable[[int], None]) -> _Receive:
    """A request's content piece by piece, until there is too much of it, whatever length was announced."""
    announced, so_far = request.headers.get("content-length", ""), 0

    async def receive() -> Any:
        nonlocal so_far
        if announced.isdigit() and int(announced) > max_bytes:
            raise too_large(max_bytes)
        message = await request.receive()
        so_far += len(message.get("body", b""))
        take(len(message.get("body", b"")))
        if so_far > max_bytes:
            raise too_large(max_bytes)
        return message

    return receive


def too_large(max_bytes: int) -> Refused:
    """More than `max_bytes` were sent, or announced."""
    return Refused(
        413,
        f"more than {max_bytes / 2**20:g} MiB; send a smaller image, or start cnntrain serve with a larger --max-mib",
    )
