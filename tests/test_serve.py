"""`cnntrain serve`: what it answers to images, and how the command starts and ends."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image
from serving import DIGIT, encoded, noise, post, serving, unfold
from serving import trained as trained
from serving import url as url

from cnntrain.data.images.decode import fit_content
from cnntrain.insight.activation_maps import activation_maps
from cnntrain.serve.answers import about, seen
from cnntrain.serve.running import listen
from cnntrain.trained import Trained, load


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


def test_the_map_is_drawn_from_the_activation_map_of_the_class(url: str, trained: Trained) -> None:
    content = encoded(Image.fromarray(noise(32, 32)))
    pixels = fit_content(content, trained.preprocessing, Path("x"))
    image = trained.preprocessing.network_input(torch.from_numpy(pixels.copy())[None])
    heats = activation_maps(trained.network, image.expand(10, -1, -1, -1), torch.arange(10)).heat.numpy()
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
    assert re.fullmatch(r"a map of \d+ x \d+ at C\d", first["activation_map_is"])


def test_the_map_of_a_large_photo_is_as_fine_as_the_photo(url: str) -> None:
    halves = np.zeros((600, 800, 3), np.uint8)
    halves[:, 400:] = 255
    picture = unfold(post(url, encoded(Image.fromarray(halves), "PNG"), "?map=1").json()["activation_map"])
    assert picture.size == (448, 448)
    columns = np.asarray(picture.convert("L")).astype(int).mean(0)
    assert columns[226] - columns[221] > 0.8 * (columns[230] - columns[217]) > 20  # the edge is sharp, in its place


@pytest.mark.parametrize("resize", ["crop", "squash", "letterbox"])
def test_the_map_shows_what_the_network_sees_and_no_more(trained: Trained, resize: str) -> None:
    fitting = replace(trained.preprocessing, stored_size=40, resize=resize)  # of which 32 px are cropped
    photo = noise(600, 600) // 4
    photo[:70], photo[-20:], photo[:, :50], photo[:, -50:] = 255, 255, 255, 255
    levels = seen(encoded(Image.fromarray(photo)), fitting)[..., 0].astype(int)
    assert levels.shape == (448, 448)
    assert levels[:5].min() > 200 > 70 > levels[12:].max()  # of 70 rows 60 are cut off, and 10 are seen


def test_a_network_without_planes_has_no_map(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "my.yaml").write_text(
        "model: {name: sequential, layers: [flatten, {linear: 8}, relu, linear]}\ndata: {source: digits}\nrecipe: {epochs: 1}\n"
    )
    assert cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs", "--quiet").code == 0
    [checkpoint] = tmp_path.glob("runs/my/*/checkpoints/best.safetensors")
    with serving(load(checkpoint, torch.device("cpu"))) as address:
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
    assert "test_accuracy" not in about(load(folder / "best.safetensors", torch.device("cpu")))


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
    monkeypatch.setattr("cnntrain.runtime.extras.find_spec", lambda module: None if module == "uvicorn" else object())
    outcome = cli("serve", trained_run)
    assert outcome.code == 2
    assert outcome.err == "error: cnntrain serve needs uvicorn, not installed here: pip install 'cnntrain[serve]'\n"
