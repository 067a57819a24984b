"""The server: what it answers to images, to everything else, and to signals; and its page, in a real browser."""

import base64
import gc
import http.client
import io
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from browser import console_errors, open_browser, set_theme, set_width
from conftest import Cli
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cnntrain.analysis.activation_maps import activation_maps
from cnntrain.data.decode import MAX_PIXELS, fit_content
from cnntrain.serve.app import Limits, build_app
from cnntrain.serve.classifier import Classifier
from cnntrain.serve.guard import page_policy
from cnntrain.serve.running import Server, address_of, is_local, listen

LIMITS = Limits(max_bytes=2**20, max_seconds=20)
ODD = ("<b>bold</b>", "a \"quoted\" & 'single'", "héron 鷺", "</script><script>alert(1)</script>")


@contextmanager
def serving(classifier: Classifier, limits: Limits = LIMITS, hosts: set[str] | None = None) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    ready, worker = threading.Event(), ThreadPoolExecutor(1)
    with listen("127.0.0.1", 0) as listener:
        url = address_of(listener)
        app = build_app(classifier, worker, limits=limits, hosts=hosts or {"127.0.0.1"})
        server = Server(app, ready.set)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        assert ready.wait(20)
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(20)
            worker.shutdown()


@pytest.fixture(scope="module")
def classifier(trained_run: Path) -> Classifier:
    return Classifier.load(trained_run / "checkpoints/best.safetensors", torch.device("cpu"))


@pytest.fixture(scope="module")
def url(classifier: Classifier) -> Iterator[str]:
    with serving(classifier) as address:
        yield address


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0, high: int = 256) -> Any:
    return np.random.default_rng(seed).integers(0, high, shape, dtype=np.uint8)


DIGIT = encoded(Image.fromarray(noise(8, 8)))


def post(url: str, content: bytes = DIGIT, query: str = "", **more: Any) -> httpx.Response:
    return httpx.post(f"{url}/predict{query}", files={"image": ("x.png", content)}, timeout=30, **more)


def unfold(picture: str) -> Image.Image:
    start, _, content = picture.partition(",")
    assert start == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


# What is answered


def odd_images() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    colour = Image.fromarray(noise(40, 60, 3))
    wide = Image.fromarray(noise(10, 10).astype(np.uint16) * 257)
    return {
        "grey": DIGIT,
        "colour": encoded(colour, "JPEG"),
        "RGBA": encoded(Image.fromarray(noise(9, 9, 4))),
        "palette": encoded(colour.quantize(16), "GIF"),
        "16 bits": encoded(wide),
        "CMYK": encoded(colour.convert("CMYK"), "JPEG"),
        "rotated": encoded(colour, "JPEG", exif=exif),
        "one pixel": encoded(Image.new("RGB", (1, 1), "red")),
        "a line": encoded(Image.fromarray(noise(1, 300))),
        "WebP": encoded(colour, "WEBP"),
        "TIFF": encoded(colour, "TIFF"),
        "large": encoded(Image.new("L", (4000, 3000), 90), "JPEG"),
    }


@pytest.mark.parametrize("kind", odd_images())
def test_every_image_is_answered_with_the_numbers_of_cnntrain_predict(
    kind: str, url: str, trained_run: Path, tmp_path: Path, cli: Cli
) -> None:
    file = tmp_path / "ein Bild ü.png"
    file.write_bytes(odd_images()[kind])
    [expected] = json.loads(cli("predict", file, "--run", trained_run, "--json").out)
    as_field, alone = (
        post(url, file.read_bytes()),
        httpx.post(f"{url}/predict", content=file.read_bytes(), headers={"content-type": "image/png"}),
    )
    for answer in (as_field, alone):
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected["predictions"]
        assert 0 < answer.json()["seconds"] < 20
    assert "activation_map" not in alone.json()


def test_top_says_how_many_classes(url: str) -> None:
    for query, count in (("", 5), ("?top=1", 1), ("?top=3", 3), ("?top=999999", 10)):
        assert len(post(url, query=query).json()["predictions"]) == count


def test_the_map_is_drawn_from_the_activation_map_of_the_class(url: str, classifier: Classifier) -> None:
    content = encoded(Image.fromarray(noise(32, 32)))
    pixels = fit_content(content, classifier.header.preprocessing, Path("x"))
    image = classifier.header.preprocessing.network_input(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None])
    heats = activation_maps(classifier.model, image.expand(10, -1, -1, -1), torch.arange(10)).numpy()
    for number, heat in enumerate(heats):
        picture = np.asarray(unfold(post(url, content, f"?map_class={number}").json()["activation_map"])).astype(int)
        assert picture.shape == (256, 256, 3)
        centres = ((np.arange(len(heat)) + 0.5) * 256 / len(heat)).astype(int)
        coloured = np.ptp(picture, axis=2)[np.ix_(centres, centres)]
        assert (coloured[heat > heat.max() / 2] > 40).all()
        assert coloured[heat == 0].sum() <= 40 * (heat == 0).sum()
    assert (heats.max((1, 2)) > 0).sum() > 2  # there was something to see


def test_map_1_is_the_map_of_the_likeliest_class(url: str) -> None:
    first = post(url, query="?map=1&top=1").json()
    name = first["predictions"][0]["class"]
    assert post(url, query=f"?map_class={name}").json()["activation_map"] == first["activation_map"]
    assert "activation_map" not in post(url, query="?map=0").json()


def test_the_map_of_a_large_photo_is_as_fine_as_the_photo(url: str) -> None:
    halves = np.zeros((600, 800, 3), np.uint8)
    halves[:, 400:] = 255
    picture = unfold(post(url, encoded(Image.fromarray(halves), "PNG"), "?map=1").json()["activation_map"])
    assert picture.size == (448, 448)
    columns = np.asarray(picture.convert("L")).astype(int).mean(0)
    assert columns[226] - columns[221] > 0.8 * (columns[230] - columns[217]) > 20  # the edge is sharp, in its place


def test_a_network_without_planes_has_no_map(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "my.yaml").write_text(
        "model: {name: sequential, layers: [flatten, {linear: 8}, relu, linear]}\ndata: {source: digits}\nrecipe: {epochs: 1}\n"
    )
    assert cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs", "--quiet").code == 0
    [checkpoint] = tmp_path.glob("runs/my/*/checkpoints/best.safetensors")
    with serving(Classifier.load(checkpoint, torch.device("cpu"))) as address:
        answer = post(address, query="?map=1")
    assert answer.status_code == 200, answer.text
    assert answer.json()["activation_map"] is None


def test_info_says_what_the_network_is(url: str, trained_run: Path) -> None:
    import hashlib

    checkpoint, results = (
        trained_run / "checkpoints/best.safetensors",
        json.loads((trained_run / "results.json").read_text()),
    )
    info = httpx.get(f"{url}/info").json()
    assert info["classes"] == [str(digit) for digit in range(10)]
    assert info["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert info["preprocessing"]["channels"] == 1
    assert info["test_accuracy"] == results["test"]["accuracy"]
    assert str(trained_run.parent) not in json.dumps(info)  # where files lie is nobody's business


@pytest.mark.parametrize("damaged", [None, "", "[]", '{"test": {"accuracy": "x"}}', '{"test": {}}'])
def test_a_checkpoint_without_a_readable_result_is_served_all_the_same(
    trained_run: Path, tmp_path: Path, damaged: str | None
) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "best.safetensors").write_bytes((trained_run / "checkpoints/best.safetensors").read_bytes())
    if damaged is not None:
        (tmp_path / "results.json").write_text(damaged)
    assert "test_accuracy" not in Classifier.load(folder / "best.safetensors", torch.device("cpu")).about()


# What is refused


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

    side = int(MAX_PIXELS**0.5) + 1
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


def raw(url: str, start: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of the answer to bytes that no well-behaved client would send."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(start.replace("\n", "\r\n").replace("HOST", f"Host: {host}").encode() + body)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return response.status, response.read().decode()


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
        for _ in range(150):
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


# What a request may cost


def test_a_slow_upload_is_given_up(classifier: Classifier) -> None:
    start = "POST /predict HTTP/1.1\nHOST\nContent-Type: image/png\nContent-Length: 999\n\n"
    with serving(classifier, Limits(max_seconds=0.5)) as address:
        began = time.perf_counter()
        status, text = raw(address, start, b"abc")
        assert status == 408
        assert "did not arrive within 0.5 seconds (--max-seconds)" in text
        assert 0.4 < time.perf_counter() - began < 5
        assert post(address).status_code == 200


class Slow(Classifier):
    """A network that takes its time, until it is let go."""

    gate = threading.Event()

    def predict(self, content: bytes, top: int) -> Any:
        self.gate.wait(20)
        return super().predict(content, top)


@pytest.fixture
def slow(classifier: Classifier) -> Iterator[Slow]:
    Slow.gate.clear()
    yield Slow(classifier.path, classifier.model, classifier.header, classifier.device)
    Slow.gate.set()


def test_health_answers_while_the_network_computes(slow: Slow) -> None:
    with serving(slow) as address, ThreadPoolExecutor(1) as other:
        waiting = other.submit(post, address)
        time.sleep(0.3)
        began = time.perf_counter()
        assert httpx.get(f"{address}/health").json() == {"status": "ok"}
        assert time.perf_counter() - began < 2
        assert not waiting.done()
        slow.gate.set()
        assert waiting.result().status_code == 200


def test_what_takes_too_long_is_given_up_and_the_server_goes_on(slow: Slow) -> None:
    with serving(slow, Limits(max_seconds=0.5)) as address:
        answer = post(address)
        assert answer.status_code == 503
        assert "longer than 0.5 seconds (--max-seconds)" in answer.json()["error"]
        slow.gate.set()
        assert post(address).status_code == 200


def test_more_requests_than_there_are_places_are_sent_away(slow: Slow) -> None:
    with serving(slow, Limits(max_requests=2, waiting_seconds=0.3)) as address, ThreadPoolExecutor(6) as others:
        waiting = [others.submit(post, address) for _ in range(6)]
        time.sleep(1.5)
        slow.gate.set()
        found = sorted(request.result().status_code for request in waiting)
        assert found == [200, 200, 503, 503, 503, 503]
        assert post(address).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [(MemoryError(), 503, "out of memory"), (ZeroDivisionError("x"), 500, "a bug of cnntrain: ZeroDivisionError: x")],
)
def test_what_goes_wrong_here_is_told_and_the_server_goes_on(
    classifier: Classifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with serving(classifier) as address:
        with monkeypatch.context() as patch:
            patch.setattr("cnntrain.serve.classifier.classify", fail)
            answer = post(address)
        assert answer.status_code == status
        assert message in answer.json()["error"]
        assert len(caplog.records) == (status == 500)  # the traceback of a bug is printed
        assert post(address).status_code == 200


def test_requests_at_once_get_the_numbers_of_their_own_image(url: str) -> None:
    images = [encoded(Image.fromarray(noise(8, 8, seed=seed))) for seed in range(12)]
    alone = [post(url, image).json()["predictions"] for image in images]
    with ThreadPoolExecutor(6) as others:
        together = [
            answer.json()["predictions"] for answer in others.map(lambda image: post(url, image, "?map=1"), images)
        ]
    assert together == alone
    assert len({json.dumps(answer) for answer in alone}) == 12


# Who may ask


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


# The command


@contextmanager
def command(run: Path, *arguments: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The real command, once it answers, and its address."""
    words = [sys.executable, "-m", "cnntrain", "serve", str(run), "--port", "0", *arguments]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_server_as_it_is_meant_to_end(trained_run: Path, number: signal.Signals) -> None:
    with command(trained_run) as (process, address):
        assert address.startswith("http://127.0.0.1:")
        assert post(address).status_code == 200
        host, port = address.removeprefix("http://").split(":")
        idle = http.client.HTTPConnection(host, int(port))  # a browser keeps its connections
        idle.request("GET", "/health")
        idle.getresponse().read()
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        idle.close()
    assert process.returncode == 0, err
    assert out == ""
    assert "Traceback" not in err
    assert err.splitlines()[0].startswith("serving ")
    assert err.splitlines()[-1] == "stopped"


def test_an_upload_that_never_ends_does_not_hold_up_the_end(trained_run: Path) -> None:
    with command(trained_run, "-q") as (process, address):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            start = (
                f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: 99\r\n\r\nabc"
            )
            connection.sendall(start.encode())
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_a_server_for_the_network_says_so(trained_run: Path) -> None:
    with command(trained_run, "-q", "--host", "0.0.0.0") as (process, address):
        assert httpx.get(f"{address}/health", headers={"host": "phone.example"}).status_code == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert err == "warning: with --host 0.0.0.0 anyone on the network can use this server\n"
    assert process.returncode == 0


def test_a_port_in_use_is_explained(trained_run: Path, cli: Cli) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        outcome = cli("serve", trained_run, "--port", port)
    assert outcome.code == 2
    assert outcome.err == (
        f"error: --host 127.0.0.1 --port {port}: another program uses this port; choose another one (--port {port + 1}), "
        "or --port 0 for a free one\n"
    )


def test_without_the_extra_it_says_how_to_install_it(
    trained_run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntrain.extras.find_spec", lambda module: None if module == "uvicorn" else object())
    outcome = cli("serve", trained_run)
    assert outcome.code == 2
    assert outcome.err == "error: cnntrain serve needs uvicorn, not installed here: pip install 'cnntrain[serve]'\n"


# The page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with open_browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


def text(browser: Chrome, name: str) -> str:
    return str(browser.find_element(By.ID, name).text)


def show(browser: Chrome, file: Path) -> None:
    """Chooses a file in the page, and waits for what comes of it."""
    browser.execute_script("document.getElementById('map').removeAttribute('src')")
    browser.find_element(By.ID, "file").send_keys(str(file))
    WebDriverWait(browser, 20).until(
        lambda _: browser.find_element(By.ID, "map").get_attribute("src") or text(browser, "error")
    )


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    path = tmp_path / "eine <b>Sieben ü.png"
    path.write_bytes(DIGIT)
    return path


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_an_image_chosen_in_the_page_is_answered_in_it(
    browser: Chrome, url: str, digit: Path, width: int, theme: str
) -> None:
    set_width(browser, width)
    set_theme(browser, theme)
    browser.get(url)
    assert not browser.find_element(By.ID, "answer").is_displayed()
    assert (
        "93" in browser.find_element(By.TAG_NAME, "main").text or "%" in browser.find_element(By.TAG_NAME, "main").text
    )
    show(browser, digit)
    expected = post(url, query="?top=10&map=1").json()
    rows = [
        button.text.replace("\u00a0", " ").split("\n")
        for button in browser.find_elements(By.CSS_SELECTOR, "#classes button")
    ]
    assert rows == [[item["class"], f"{100 * item['probability']:.2f} %"] for item in expected["predictions"]]
    assert text(browser, "says").replace("\u00a0", " ") == ", ".join(rows[0])
    assert text(browser, "photo-says") == digit.name
    assert browser.find_element(By.ID, "map").get_attribute("src") == expected["activation_map"]
    for name in ("photo", "map"):
        assert browser.execute_script("return document.getElementById(arguments[0]).naturalWidth", name) > 0
    bars = [bar.size["width"] for bar in browser.find_elements(By.CSS_SELECTOR, ".bar")]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (theme == "light")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width  # nothing to scroll sideways
    assert not console_errors(browser)


def test_another_class_shows_its_map_by_mouse_and_by_keyboard(browser: Chrome, url: str, digit: Path) -> None:
    set_width(browser, 1280)
    browser.get(url)
    show(browser, digit)
    for place, act in ((3, "click"), (5, "key")):
        button = browser.find_elements(By.CSS_SELECTOR, "#classes button")[place]
        name = button.find_element(By.CLASS_NAME, "name").text
        button.click() if act == "click" else button.send_keys(Keys.ENTER)
        WebDriverWait(browser, 20).until(lambda _, button=button: button.get_attribute("aria-pressed") == "true")
        expected = post(url, query=f"?map_class={name}").json()["activation_map"]
        assert browser.find_element(By.ID, "map").get_attribute("src") == expected
        assert f"“{name}”" in text(browser, "map-says")
        assert len(browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")) == 1
        assert browser.switch_to.active_element == button  # who uses the keyboard goes on from there
    assert not console_errors(browser)


def test_everything_in_the_page_has_a_name_and_is_reached_by_tab(browser: Chrome, url: str, digit: Path) -> None:
    browser.get(url)
    show(browser, digit)
    for control in browser.find_elements(By.CSS_SELECTOR, "input, button, img, summary"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert browser.find_element(By.ID, "says").aria_role == "status"
    assert browser.find_element(By.ID, "error").aria_role == "alert"
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    assert browser.switch_to.active_element.get_attribute("id") == "file"


def test_mistakes_are_told_in_the_page(browser: Chrome, url: str, tmp_path: Path, digit: Path) -> None:
    browser.get(url)
    large, fake = tmp_path / "large.png", tmp_path / "fake.png"
    large.write_bytes(bytes(2**20 + 9))
    fake.write_text("<script>alert(1)</script>")
    show(browser, large)
    assert text(browser, "error") == "large.png has 1.0 MiB; at most 1 MiB are taken."
    show(browser, fake)
    assert text(browser, "error").startswith("fake.png: the image: not an image (JPEG, PNG")
    assert not browser.find_element(By.ID, "answer").is_displayed()
    show(browser, digit)
    assert text(browser, "error") == ""
    assert browser.find_element(By.ID, "answer").is_displayed()
    assert all("422" in message for message in console_errors(browser))  # Chromium notes every refusal


DROP = """
const files = new DataTransfer();
if (arguments[1]) files.items.add(new File([Uint8Array.from(atob(arguments[1]), c => c.charCodeAt(0))], "given.png", {type: "image/png"}));
const event = arguments[0] === "drop" ? new DragEvent("drop", {dataTransfer: files, cancelable: true, bubbles: true})
                                      : new ClipboardEvent("paste", {clipboardData: files, bubbles: true});
document.body.dispatchEvent(event);
"""


@pytest.mark.parametrize(
    ("way", "message"), [("drop", "That was no file."), ("paste", "The clipboard holds no image.")]
)
def test_an_image_can_be_dropped_and_pasted(browser: Chrome, url: str, way: str, message: str) -> None:
    browser.get(url)
    browser.execute_script(DROP, way, None)
    assert text(browser, "error").startswith(message)
    browser.execute_script(DROP, way, base64.b64encode(DIGIT).decode())
    WebDriverWait(browser, 20).until(lambda _: text(browser, "photo-says") == "given.png")
    assert text(browser, "error") == ""


def test_an_image_that_the_browser_cannot_show_is_answered(browser: Chrome, url: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tiff"
    path.write_bytes(encoded(Image.fromarray(noise(20, 20)), "TIFF"))
    browser.get(url)
    show(browser, path)
    WebDriverWait(browser, 20).until(lambda _: not browser.find_element(By.ID, "photo").is_displayed())
    assert "%" in text(browser, "says")


def test_a_server_that_is_gone_is_told_in_the_page(browser: Chrome, classifier: Classifier, digit: Path) -> None:
    with serving(classifier) as address:
        browser.get(address)
    show(browser, digit)
    assert text(browser, "error").startswith("No answer came. Is cnntrain serve still running")
    console_errors(browser)


@pytest.fixture
def many_classes(classifier: Classifier) -> Classifier:
    """A network with a hundred classes, some of which have odd names."""
    from dataclasses import replace

    from cnntrain.models import build_model

    names = (*ODD, *(f"class {number}" for number in range(100 - len(ODD))))
    header, fitting = replace(classifier.header, class_names=names), classifier.header.preprocessing
    model = build_model(
        header.config.model, in_channels=fitting.channels, num_classes=100, image_size=fitting.image_size
    )
    return Classifier(classifier.path, model.eval(), header, classifier.device)


def test_a_hundred_classes_with_odd_names_are_shown_as_they_are(
    browser: Chrome, many_classes: Classifier, digit: Path
) -> None:
    set_width(browser, 390)
    with serving(many_classes) as address:
        page = httpx.get(address).text
        assert "<b>bold" not in page
        assert "<script>alert" not in page
        for name in ODD:
            answer = httpx.post(f"{address}/predict", params={"map_class": name}, files={"image": DIGIT})
            assert answer.status_code == 200, answer.text
        browser.get(address)
        show(browser, digit)
        assert len(text(browser, "classes").splitlines()) == 2 * 10
        browser.find_element(By.ID, "more").click()
        lines = text(browser, "classes").splitlines()
        assert len(lines) == 2 * 100
        assert set(ODD) <= set(lines)
        assert not browser.find_elements(By.CSS_SELECTOR, "#classes b, figcaption b")
        odd = browser.find_elements(By.CSS_SELECTOR, "#classes button")[lines.index(ODD[0]) // 2]
        odd.click()
        WebDriverWait(browser, 20).until(lambda _: odd.get_attribute("aria-pressed") == "true")
        assert ODD[0] in text(browser, "map-says")
    assert not console_errors(browser)


def test_a_real_photo_is_answered_in_the_page(
    browser: Chrome, classifier: Classifier, real_data: Path, tmp_path: Path
) -> None:
    photo = sorted((real_data / "hymenoptera/train/ants").iterdir())[0]
    with serving(classifier) as address:
        browser.get(address)
        show(browser, photo)
        assert text(browser, "photo-says") == photo.name
        assert unfold(browser.find_element(By.ID, "map").get_attribute("src")).size >= (224, 224)
    assert not console_errors(browser)
