"""`cnntrain serve`: what is not answered, and who may not ask. Every refusal has its reason; the server goes on."""

import gc
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from serving import DIGIT, encoded, noise, post, raw, serving
from serving import trained as trained
from serving import url as url

from cnntrain.data.images.decode import MAX_BYTES
from cnntrain.serve.guard import page_policy
from cnntrain.serve.running import address_of, is_local, listen
from cnntrain.trained import Trained


@pytest.fixture(scope="module")
def open_url(trained: Trained) -> Iterator[str]:
    """A server that may be asked under any name, as with --host 0.0.0.0."""
    with serving(trained, hosts=None) as address:
        yield address


def form(text: str, boundary: str = "b") -> dict[str, Any]:
    """A multipart body, written out."""
    return {
        "content": text.replace("\n", "\r\n").encode(),
        "headers": {"content-type": f"multipart/form-data; boundary={boundary}"},
    }


def image_body(content: bytes) -> dict[str, Any]:
    return {"content": content, "headers": {"content-type": "image/png"}}


def field(content: bytes, name: str = "image") -> dict[str, Any]:
    return {"files": {name: ("x.png", content)}}


def bomb() -> bytes:
    """A PNG of a few bytes, whose header says that it has more pixels than are read."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    side = int(MAX_BYTES**0.5) + 1
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


HEAD = 'Content-Disposition: form-data; name="image"; filename="x.png"\n\n'
REFUSALS: dict[str, tuple[dict[str, Any], int, str]] = {
    "not an image": (field(b"hello"), 422, "not an image (JPEG, PNG"),
    "HTML named .png": (field(b"<!doctype html><script>alert(1)</script>"), 422, "not an image"),
    "SVG": (image_body(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), 422, "not an image"),
    "truncated": (field(encoded(Image.fromarray(noise(50, 50, 3)))[:900]), 422, "cannot be read as an image"),
    "truncated JPEG": (image_body(encoded(Image.fromarray(noise(50, 50, 3)), "JPEG")[:700]), 422, "cannot be read as an image"),
    "bomb": (field(bomb()), 422, "too large"),
    "empty file": (field(b""), 400, "the image is empty"),
    "empty body": (image_body(b""), 400, "the image is empty"),
    "wrong field": (field(DIGIT, "img"), 400, "the field `image` is missing (fields found: img)"),
    "text field": ({"files": {"image": (None, b"hello")}}, 400, "is a text, not a file"),
    "two images": ({"files": [("image", ("a.png", DIGIT)), ("image", ("b.png", DIGIT))]}, 400, "Too many files"),
    "no body": ({}, 415, "the Content-Type is missing"),
    "JSON": ({"json": {"image": "x"}}, 415, "the Content-Type is application/json"),
    "form of text": ({"data": {"image": "x"}}, 415, "application/x-www-form-urlencoded"),
    "no boundary": ({"content": b"--b", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    "empty boundary": (form("x", ""), 400, "the f"),
    "long boundary": (form("x", "b" * 5000), 400, "the f"),
    "other boundary": (form(f"--x\n{HEAD}hello\n--x--\n"), 400, "the form cannot be read"),
    "no end": (form(f"--b\n{HEAD}hello"), 400, "the field `image`"),
    "no name": (form("--b\nContent-Disposition: form-data\n\nx\n--b--\n"), 400, "name"),
    "no disposition": (form("--b\n\nx\n--b--\n"), 400, "name"),
    "broken header": (form("--b\n\x00\x01: x\n\nx\n--b--\n"), 400, "the form cannot be read"),
    "odd charset": (form("--b\n\n--b--\n", "b; charset=nonsense"), 400, "the f"),
    "odd encoding": (form("--b\n\n--b--\n", "b; charset=idna"), 400, "the f"),
    "too large": (field(bytes(2**20)), 413, "more than 1 MiB"),
    "too large, alone": (image_body(bytes(2**20 + 1)), 413, "more than 1 MiB"),
}  # fmt: skip
QUERIES = {
    "?top=0": "top must be a whole number from 1",
    "?top=-1": "(got '-1')",
    "?top=x": "(got 'x')",
    "?top=": "(got '')",
    "?top=1e3": "(got '1e3')",
    "?top=٣": "top must be",
    "?top=99999999999": "top must be",
    "?tpo=3": "unknown parameter 'tpo' (allowed: top, map, map_class)",
    "?map=yes": "map must be 0 or 1 (got 'yes')",
    "?map_class=10": "map_class '10' is no class of this network; did you mean",
    "?map_class=": "GET /info lists them",
}


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")  # Starlette's, of a form that has no end
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_image_is_refused_with_a_reason(name: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
    request, status, message = REFUSALS[name]
    answer = httpx.post(f"{url}/predict", timeout=20, **request)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert list(answer.json()) == ["error"]
    assert not caplog.records  # of uvicorn, which would be tracebacks
    gc.collect()
    assert post(url).status_code == 200


@pytest.mark.parametrize("query", QUERIES)
def test_what_is_wrong_in_the_address_is_refused_with_a_reason(query: str, url: str) -> None:
    answer = post(url, query=query)
    assert answer.status_code == 400
    assert QUERIES[query] in answer.json()["error"]


def test_wrong_methods_and_paths_are_told_what_there_is(url: str) -> None:
    for method, path, status in (
        ("GET", "/predict", 405), ("PUT", "/predict", 405), ("DELETE", "/", 405), ("POST", "/health", 405), ("OPTIONS", "/predict", 405),
        ("GET", "/gone", 404), ("GET", "/../../etc/passwd", 404), ("GET", "/predict/", 404), ("POST", "/%00", 404),
    ):  # fmt: skip
        answer = httpx.request(method, url + path)
        assert answer.status_code == status, path
        assert "POST /predict" in answer.json()["error"]
    assert httpx.get(f"{url}/predict").headers["allow"] == "POST"
    assert httpx.head(url).status_code == 200


def test_a_huge_length_is_refused_before_anything_is_sent(url: str) -> None:
    start = "POST /predict HTTP/1.1\nHOST\nContent-Type: image/png\nContent-Length: 99999999999999\n\n"
    assert raw(url, start)[0] == 413
    start = start.replace("\n\n", "\nExpect: 100-continue\n\n")
    assert raw(url, start)[0] == 413


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(url: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(2**16)

    for kind in ("image/png", "multipart/form-data; boundary=b"):
        answer = httpx.post(f"{url}/predict", content=endless(), headers={"content-type": kind})
        assert answer.status_code in ((413,) if kind == "image/png" else (413, 400))
    body = form(f"--b\n{HEAD}")["content"]
    answer = httpx.post(f"{url}/predict", content=iter([body, *endless()]), headers={"content-type": kind})
    assert answer.status_code == 413
    small = httpx.post(f"{url}/predict", content=iter([DIGIT[:20], DIGIT[20:]]), headers={"content-type": "image/png"})
    assert small.status_code == 200


@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_forms_with_random_damage_never_fail_the_server(url: str, caplog: pytest.LogCaptureFixture) -> None:
    whole, rng = form(f"--b\n{HEAD}")["content"] + DIGIT + b"\r\n--b--\r\n", np.random.default_rng(0)
    kind = {"content-type": "multipart/form-data; boundary=b"}
    with httpx.Client(timeout=20) as client:
        assert client.post(f"{url}/predict", content=whole, headers=kind).status_code == 200
        for _ in range(80):
            damaged = bytearray(whole)
            for place in rng.integers(0, len(whole), rng.integers(1, 6)):
                damaged[place] = rng.integers(0, 256)
            damaged = damaged[: rng.integers(1, 2 * len(whole))]
            answer = client.post(f"{url}/predict", content=bytes(damaged), headers=kind)
            assert answer.status_code in (200, 400, 422), (answer.text, damaged)
    assert not caplog.records
    gc.collect()


def test_broken_http_is_survived(url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert raw(url, "nonsense\n\n")[0] == 400
    assert raw(url, "POST /predict HTTP/1.1\nHOST\nContent-Length: x\n\n")[0] == 400
    assert raw(url, "GET / HTTP/1.1\n\n")[0] == 400  # without a host
    host, port = url.removeprefix("http://").split(":")
    for _ in range(3):  # a client that goes away
        with socket.create_connection((host, int(port)), timeout=9) as connection:
            start = (
                f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: 999\r\n\r\nabc"
            )
            connection.sendall(start.encode())
    time.sleep(0.2)
    assert post(url).status_code == 200
    assert not caplog.records


def test_names_that_point_here_from_elsewhere_are_refused(url: str) -> None:
    for host, status in (("127.0.0.1:1", 200), ("127.0.0.1", 200), ("evil.example", 403), ("evil.example:80", 403), ("127.0.0.1.evil.example", 403), ("", 403)):  # fmt: skip
        answer = httpx.get(f"{url}/health", headers={"host": host})
        assert answer.status_code == status, host
        assert status == 200 or "this server answers under 127.0.0.1 only" in answer.json()["error"]


def test_pages_of_other_sites_cannot_use_the_server(url: str) -> None:
    answer = post(url, headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert post(url, headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert httpx.get(url, headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link may lead here


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "{url}"}, 200),
        ({"origin": "{URL}"}, 200),
        ({"origin": "{url}", "sec-fetch-site": "same-origin"}, 200),
        ({"host": "box.lan:80", "origin": "http://box.lan"}, 200),
        ({"host": "box.lan", "origin": "https://box.lan"}, 200),  # a proxy stands between
        ({"host": "[::1]:80", "origin": "http://[::1]"}, 200),
        ({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, 200),
        ({}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "file://"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),  # another port is another site
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": "http://evil.example", "host": "box.lan"}, 403),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, 403),
        ({"origin": "{url}", "sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://[::1]:8000", "host": "[::1]:8001"}, 403),
    ],
)
def test_what_another_site_posts_is_refused_wherever_the_server_is_asked(
    open_url: str, headers: dict[str, str], status: int
) -> None:
    sent = {name: value.format(url=open_url, URL=open_url.upper()) for name, value in headers.items()}
    answer = post(open_url, headers=sent)
    assert answer.status_code == status, answer.text
    assert httpx.get(f"{open_url}/health", headers=sent).status_code == 200  # nothing is changed


def test_two_origins_are_one_too_many(open_url: str) -> None:
    answer = httpx.post(
        f"{open_url}/predict", headers=[("origin", open_url), ("origin", "http://evil.example")], files={"image": DIGIT}
    )
    assert answer.status_code == 403
    assert "'http://evil.example'" in answer.json()["error"]


def test_answers_hold_names_that_act_on_no_terminal(url: str) -> None:
    for text in ("\x1b[31m", "\u202egpj", "\x9b31m", "\x7f"):
        answer = post(url, query=f"?top={quote(text)}")
        assert answer.text.isprintable()
        assert answer.status_code == 400
        answer = httpx.get(f"{url}/{quote(text)}")
        assert answer.text.isprintable()
        assert text in answer.json()["error"]


def test_every_answer_has_the_headers_that_protect(url: str) -> None:
    for answer in (
        httpx.get(url),
        httpx.get(f"{url}/gone"),
        post(url),
        post(url, b"x"),
        httpx.get(url, headers={"host": "x"}),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy


def test_the_policy_names_the_hash_of_what_is_in_the_page() -> None:
    # The pair of the CSP specification (W3C, Content Security Policy Level 3, section 8.3)
    policy = page_policy("<style>a</style><script>alert('Hello, world.');</script>")
    assert "script-src 'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='" in policy
    assert "style-src 'sha256-ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs='" in policy


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_only_this_machine_is_served_unless_asked_for(host: str, local: bool) -> None:
    with listen(host, 0) as listener:
        assert is_local(listener) is local
        assert address_of(listener).startswith("http://127.0.0.1:" if host != "localhost" else "http://")
        assert listener.getsockname()[1] > 0
