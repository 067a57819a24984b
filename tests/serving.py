"""A server in a thread of the test's process, and images to send it."""

import base64
import http.client
import io
import socket
import threading
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from cnntrain.serve.app import Limits, build_app
from cnntrain.serve.running import Server, address_of, listen
from cnntrain.trained import Trained, load

LIMITS = Limits(max_bytes=2**20, max_seconds=20)


@contextmanager
def serving(trained: Trained, limits: Limits = LIMITS, hosts: Collection[str] | None = ("127.0.0.1",)) -> Iterator[str]:
    """The address of a server in a thread of this process."""
    ready, worker = threading.Event(), ThreadPoolExecutor(1)
    with listen("127.0.0.1", 0) as listener:
        url = address_of(listener)
        app = build_app(trained, worker, limits=limits, hosts=hosts)
        server = Server(app, ready.set, limits)
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
def trained(trained_run: Path) -> Trained:
    """For each module of tests, which import it by its name."""
    return load_best(trained_run)


@pytest.fixture(scope="module")
def url(trained: Trained) -> Iterator[str]:
    with serving(trained) as address:
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


def load_best(run: Path) -> Trained:
    return load(run / "checkpoints/best.safetensors", torch.device("cpu"))


def raw(url: str, start: str, body: bytes = b"") -> tuple[int, str]:
    """Status and text of the answer to bytes that no well-behaved client would send."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(start.replace("\n", "\r\n").replace("HOST", f"Host: {host}").encode() + body)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            return response.status, response.read().decode()
