"""`cnntrain serve` under attack: whatever clients do with their connections, others are answered and little is said."""

import contextlib
import errno
import io
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from serving import post, serving
from serving import trained as trained

from cnntrain.serve.app import Limits
from cnntrain.serve.connection import SaidOnce
from cnntrain.trained import Trained

HEAD = "POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
CHUNKED = f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
MIB = bytes(2**20)


class Attacked:
    """The address of a server in a process of its own, and connections to it."""

    def __init__(self, url: str, log: Path) -> None:
        self.url, self.log = url, log
        self.open: list[socket.socket] = []

    def connect(self, *contents: bytes) -> socket.socket | None:
        """A connection on which these are sent; None once the server has closed it."""
        host, port = self.url.removeprefix("http://").split(":")
        with contextlib.suppress(OSError):
            self.open.append(socket.create_connection((host, int(port)), timeout=5))
            for content in contents:
                self.open[-1].sendall(content)
            return self.open[-1]
        return None

    def close(self) -> None:
        for connection in self.open:
            connection.close()
        self.open.clear()


@contextlib.contextmanager
def attacked_server(run: Path, log: Path, before: str = "") -> Iterator[Attacked]:
    """`cnntrain serve` where 40 files may be open at once, with some lines of Python before it."""
    program = f"{before}\nimport sys\nfrom cnntrain.cli import main\nsys.exit(main())"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", run, "--port", "0", "--max-mib", "1"],
            stdout=subprocess.PIPE,
            stderr=file,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)),
        )
    assert process.stdout
    with process.stdout:
        server = Attacked(process.stdout.readline().decode().strip(), log)
        try:
            yield server
        finally:
            server.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


@pytest.fixture(scope="module")
def attacked(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked_server(trained_run, tmp_path_factory.mktemp("attacked") / "log.txt") as server:
        yield server


def half_headers(server: Attacked) -> None:
    for number in range(48):
        server.connect(GET[: number % len(GET)])


def drops_of_headers(server: Attacked) -> None:
    slow = [server.connect(b"GET / HTTP/1.1\r\n") for _ in range(20)]
    for number in range(40):
        for connection in slow:
            with contextlib.suppress(OSError, AttributeError):
                connection.sendall(f"X-{number}: y\r\n".encode())  # type: ignore[union-attr]
        time.sleep(0.01)


def slow_bodies(server: Attacked) -> None:
    for _ in range(48):
        server.connect(f"{HEAD}Content-Length: 999\r\n\r\nabc".encode())


def bodies_without_end(server: Attacked) -> None:
    for _ in range(12):
        server.connect(CHUNKED, *[b"10000\r\n" + MIB[: 2**16] + b"\r\n"] * 64)


def bodies_that_nobody_wants(server: Attacked) -> None:
    for _ in range(12):
        server.connect(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", *[b"10000\r\n" + MIB[: 2**16] + b"\r\n"] * 64)


def broken_chunks(server: Attacked) -> None:
    for number in range(100):
        server.connect(CHUNKED + b"1\r\na\r\n", b"nonsense\r\n" * (number % 3 + 1))
        server.connect(GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")


def pipelined_garbage(server: Attacked) -> None:
    for number in range(60):
        server.connect(GET * (number % 7) + bytes(range(256)) * 20)
        server.connect(GET * 300)


def huge_headers(server: Attacked) -> None:
    for _ in range(20):
        server.connect(b"GET / HTTP/1.1\r\nX: " + MIB)
        server.connect(b"GET /" + b"a" * 2**20)


def answers_that_nobody_reads(server: Attacked) -> None:
    for _ in range(40):
        server.connect(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 200)


def idle_connections(server: Attacked) -> None:
    for _ in range(100):
        server.connect(GET)


def hasty_ends(server: Attacked) -> None:
    for number in range(200):
        connection = server.connect([b"", GET, CHUNKED, CHUNKED + b"5\r\nab"][number % 4])
        if connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()


def uploads_beyond_memory(server: Attacked) -> None:
    for _ in range(40):
        server.connect(f"{HEAD}Content-Length: {2**20}\r\n\r\n".encode(), MIB[:-1])


ATTACKS = [
    half_headers,
    drops_of_headers,
    slow_bodies,
    bodies_without_end,
    bodies_that_nobody_wants,
    broken_chunks,
    pipelined_garbage,
    huge_headers,
    answers_that_nobody_reads,
    idle_connections,
    hasty_ends,
    uploads_beyond_memory,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_others_are_answered_and_little_is_said_while_connections_are_abused(
    attack: Callable[[Attacked], None], attacked: Attacked
) -> None:
    try:
        attack(attacked)
        for _ in range(3):
            began = time.perf_counter()
            assert httpx.get(f"{attacked.url}/health", timeout=9).json() == {"status": "ok"}
            assert post(attacked.url).status_code == 200
            assert time.perf_counter() - began < 5
    finally:
        attacked.close()
    assert post(attacked.url).status_code == 200
    text = attacked.log.read_text()
    assert len(text) < 10_000, text[:3000]
    assert "Traceback" not in text


def test_where_no_more_files_can_be_opened_it_is_said_once_and_the_server_recovers(
    trained_run: Path, tmp_path: Path
) -> None:
    """Connections are not limited here, as where libraries have opened more files than was thought."""
    unlimited = "from cnntrain.serve import running\nrunning._FILES_BESIDE = -1000"
    with attacked_server(trained_run, tmp_path / "log.txt", unlimited) as server:
        for _ in range(2):
            half_headers(server)
            time.sleep(1.5)  # asyncio tries again every second
            server.close()
            assert httpx.get(f"{server.url}/health", timeout=9).status_code == 200
    assert (tmp_path / "log.txt").read_text().count("out of system resource: Too many open files") == 1
    assert len((tmp_path / "log.txt").read_text()) < 1000


def test_where_no_file_can_be_opened_for_an_upload_the_server_says_that_it_has_no_room(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", no_file)
    limits = Limits(max_bytes=4 * 2**20)
    with serving(trained, limits) as url:
        answer = httpx.post(f"{url}/predict", files={"image": b"x" * (3 * 2**20)}, timeout=20)
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "there is no room for the image at the moment; try again"},
    )


def test_a_damaged_image_of_many_lines_writes_no_log(attacked: Attacked) -> None:
    """libtiff says something of each line on stderr, whoever listens to Python's."""
    before, buffer = len(attacked.log.read_text()), io.BytesIO()
    Image.effect_noise((64, 4000), 90).convert("1").save(buffer, "TIFF", compression="group4")
    content = bytearray(buffer.getvalue())
    content[100:-1000:50] = b"\x5a" * len(content[100:-1000:50])
    httpx.post(f"{attacked.url}/predict", content=bytes(content), headers={"content-type": "image/tiff"}, timeout=20)
    assert len(attacked.log.read_text()) == before


def seconds_until_closed(url: str, content: bytes, more: bytes = b"") -> float:
    """How long a server keeps a connection on which this is sent, and then more of it every 50 ms."""
    host, port = url.removeprefix("http://").split(":")
    began = time.perf_counter()
    with socket.create_connection((host, int(port)), timeout=0.05) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(content)
        while time.perf_counter() - began < 20:
            try:
                if not connection.recv(2**16):
                    break
            except TimeoutError:
                connection.sendall(more)
    return time.perf_counter() - began


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (b"", b""),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\n", b"X: y\r\n"),
        (GET, b""),
        (GET, b"G"),
        (GET + b"GET /", b"x"),
        (GET[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (CHUNKED, b""),
        (CHUNKED, b"1\r\nx\r\n"),
    ],
)
def test_a_connection_that_does_not_get_on_is_closed(trained: Trained, content: bytes, more: bytes) -> None:
    with serving(trained, Limits(header_seconds=0.5, max_seconds=0.5)) as url:
        assert 0.4 < seconds_until_closed(url, content, more) < 5


def test_an_answer_that_nobody_reads_is_given_up(trained: Trained) -> None:
    with serving(trained, Limits(header_seconds=0.3, max_seconds=0.3, waiting_seconds=0.1)) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(
                b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 2000
            )  # more than buffers of the system hold
            began = time.perf_counter()
            with contextlib.suppress(ConnectionError):
                while time.perf_counter() - began < 9:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            assert time.perf_counter() - began < 5


def test_slow_senders_keep_no_places(trained: Trained) -> None:
    with serving(trained, Limits(max_requests=2, waiting_seconds=0.3)) as url:
        server = Attacked(url, Path())
        for _ in range(6):
            server.connect(f"{HEAD}Content-Length: 999\r\n\r\nabc".encode())
        assert post(url).status_code == 200
        server.close()


def test_the_body_that_has_been_coming_for_longest_makes_room(trained: Trained) -> None:
    with serving(trained, Limits(max_bytes=2**16, max_bodies=2, max_seconds=9)) as url:
        server = Attacked(url, Path())
        slow = [server.connect(f"{HEAD}Content-Length: 60000\r\n\r\n".encode(), bytes(59_000)) for _ in range(2)]
        time.sleep(0.3)
        late = httpx.post(f"{url}/predict", content=bytes(60_000), headers={"content-type": "image/png"}, timeout=9)
        assert late.status_code == 422  # it was taken, and is no image
        assert slow[0] is not None
        assert slow[1] is not None
        assert b"408 Request Timeout" in (answer := slow[0].recv(2**16))
        assert b"the image came so slowly that others took its room" in answer
        slow[1].sendall(bytes(1000))
        assert b"422" in slow[1].recv(2**16)
        server.close()


def test_one_connection_more_takes_the_place_of_the_one_that_has_waited_for_longest(trained: Trained) -> None:
    with serving(trained, Limits(max_connections=3)) as url:
        server = Attacked(url, Path())
        idle = [server.connect() for _ in range(3)]
        time.sleep(0.3)
        assert httpx.get(f"{url}/health").status_code == 200
        first, second, _ = idle
        assert first is not None
        assert first.recv(1) == b""
        assert second is not None
        second.sendall(GET)
        assert second.recv(2**16).startswith(b"HTTP/1.1 200")
        server.close()


def test_records_that_are_alike_are_said_once_and_not_more_than_so_many() -> None:
    once, found = SaidOnce(most=3), []
    log = logging.Logger("test")
    log.addFilter(once)
    log.addHandler(handler := logging.Handler())
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    for number in range(9):
        log.error("the same %d", number)
        log.error("number %d" % number)  # noqa: UP031
    assert found == ["the same 0", "number 0", "number 1"]
