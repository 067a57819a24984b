"""What holds for every request and every answer: who may ask, and what a browser may do with what it gets."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from cnntrain.runs.files import harmless_json

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


class Guard:
    """An ASGI application around another.

    Other pages that a browser shows cannot use the server: it has no CORS headers, and refuses what they post. Nor can
    they under a name of their own that they let point to this machine (DNS rebinding), where `hosts` are given.

    Args:
        app: Answers what is let through.
        policy: The Content-Security-Policy.
        hosts: Names, without ports, under which this server may be asked; None allows all.
    """

    def __init__(self, app: Asgi, *, policy: str, hosts: Collection[str] | None) -> None:
        self._app, self._hosts = app, hosts
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        has_begun = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        app, reason = self._app, self._reason_against(scope["method"], Headers(scope=scope))
        if reason:
            app = Json({"error": reason}, 403)
        try:
            await app(scope, receive, send_guarded)
        except asyncio.CancelledError:  # uvicorn stops, and would print a traceback
            if not has_begun:
                await Json({"error": "the server is being stopped"}, 503)(scope, receive, send_guarded)

    def _reason_against(self, method: str, headers: Headers) -> str | None:
        address = headers.get("host", "").lower()
        host = re.sub(r":\d*$", "", address)
        if self._hosts is not None and host not in self._hosts:
            return f"this server answers under {', '.join(sorted(self._hosts))} only (asked as {host!r}): see --host"
        if method in ("GET", "HEAD"):  # which change nothing, and whose answers a browser keeps from other sites
            return None
        # Browsers send both; over plain HTTP from another machine they leave the first out. Programs send neither.
        foreign = [site for site in headers.getlist("sec-fetch-site") if site not in ("same-origin", "none")]
        own = _without_usual_port(f"http://{address}")
        foreign += [origin for origin in headers.getlist("origin") if _without_usual_port(origin.lower()) != own]
        return (
            f"pages of other sites may not use this server (asked by {foreign[0]!r}, as {address!r})"
            if foreign
            else None
        )


def _without_usual_port(origin: str) -> str:
    """`https://host:443` -> `host`, without the scheme, which a proxy in between may change."""
    scheme, _, address = origin.rpartition("://")
    return address.removesuffix(":443" if scheme == "https" else ":80")


class Json(JSONResponse):  # type: ignore[misc]
    """JSON in which names cannot act on the terminal that shows it."""

    def render(self, content: Any) -> bytes:
        """As Starlette's."""
        return harmless_json(json.dumps(content, ensure_ascii=False, separators=(",", ":"))).encode()


def page_policy(page: str) -> str:
    """A Content-Security-Policy under which a page's own styles and scripts run, and no others.

    Args:
        page: HTML whose `<style>` and `<script>` elements have no attributes.
    """
    styles, scripts = (" ".join(_hashes(page, tag)) for tag in ("style", "script"))
    return (
        f"default-src 'none'; style-src {styles}; script-src {scripts}; img-src data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hashes(page: str, tag: str) -> list[str]:
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
    return [f"'sha256-{digest}'" for digest in digests] or ["'none'"]
