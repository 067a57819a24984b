"""`cnntrain serve`: what a request may cost, in time and beside others."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from PIL import Image
from serving import encoded, noise, post, raw, serving
from serving import trained as trained
from serving import url as url

from cnntrain.serve.app import Limits
from cnntrain.trained import Trained


def test_a_slow_upload_is_given_up(trained: Trained) -> None:
    start = "POST /predict HTTP/1.1\nHOST\nContent-Type: image/png\nContent-Length: 999\n\n"
    with serving(trained, Limits(max_seconds=0.5)) as address:
        began = time.perf_counter()
        status, text = raw(address, start, b"abc")
        assert status == 408
        assert "did not arrive within 0.5 seconds (--max-seconds)" in text
        assert 0.4 < time.perf_counter() - began < 5
        assert post(address).status_code == 200


@pytest.fixture
def gate(trained: Trained) -> Iterator[threading.Event]:
    """The network takes its time until this is set."""
    gate = threading.Event()

    def wait(*_: object) -> None:
        gate.wait(20)

    hook = trained.network.register_forward_pre_hook(wait)
    yield gate
    gate.set()
    hook.remove()


def test_health_answers_while_the_network_computes(trained: Trained, gate: threading.Event) -> None:
    with serving(trained) as address, ThreadPoolExecutor(1) as other:
        waiting = other.submit(post, address)
        time.sleep(0.3)
        began = time.perf_counter()
        assert httpx.get(f"{address}/health").json() == {"status": "ok"}
        assert time.perf_counter() - began < 2
        assert not waiting.done()
        gate.set()
        assert waiting.result().status_code == 200


def test_what_takes_too_long_is_given_up_and_the_server_goes_on(trained: Trained, gate: threading.Event) -> None:
    with serving(trained, Limits(max_seconds=0.5)) as address:
        answer = post(address)
        assert answer.status_code == 503
        assert "longer than 0.5 seconds (--max-seconds)" in answer.json()["error"]
        gate.set()
        assert post(address).status_code == 200


def test_more_requests_than_there_are_places_are_sent_away(trained: Trained, gate: threading.Event) -> None:
    with serving(trained, Limits(max_requests=2, waiting_seconds=0.3)) as address, ThreadPoolExecutor(6) as others:
        waiting = [others.submit(post, address) for _ in range(6)]
        time.sleep(1.5)
        gate.set()
        found = sorted(request.result().status_code for request in waiting)
        assert found == [200, 200, 503, 503, 503, 503]
        assert post(address).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [(MemoryError(), 503, "out of memory"), (ZeroDivisionError("x"), 500, "a bug of cnntrain: ZeroDivisionError: x")],
)
def test_what_goes_wrong_here_is_told_and_the_server_goes_on(
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    status: int,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    with serving(trained) as address:
        with monkeypatch.context() as patch:
            patch.setattr("cnntrain.serve.answers.classify", fail)
            answer = post(address)
        assert answer.status_code == status
        assert message in answer.json()["error"]
        assert post(address).status_code == 200
    assert len(caplog.records) == (status == 500)  # the traceback of a bug is printed


def test_requests_at_once_get_the_numbers_of_their_own_image(url: str) -> None:
    images = [encoded(Image.fromarray(noise(8, 8, seed=seed))) for seed in range(12)]
    alone = [post(url, image).json()["predictions"] for image in images]
    with ThreadPoolExecutor(6) as others:
        together = [
            answer.json()["predictions"] for answer in others.map(lambda image: post(url, image, "?map=1"), images)
        ]
    assert together == alone
    assert len({json.dumps(answer) for answer in alone}) == 12
