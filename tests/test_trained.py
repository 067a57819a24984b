"""`Trained`: a network in Python, which says what the command line says."""

import io
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

from cnntrain.errors import CheckpointError, ConfigError, DataError
from cnntrain.trained import Prediction, Trained, load

CPU = torch.device("cpu")
KINDS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "text": str,
    "content": Path.read_bytes,
    "opened by Pillow": Image.open,
    "decoded by Pillow": lambda path: Image.fromarray(np.asarray(Image.open(path))),
}


@pytest.fixture(scope="module")
def trained(trained_run: Path) -> Trained:
    return load(trained_run / "checkpoints/best.safetensors", CPU)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More pictures than are looked at at once, of several modes and sizes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(40):
        shape = (20 + number, 30, 3) if number % 3 else (8, 8)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG so large that it is decoded at a part of its size, lying on its side."""
    pixels = np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).resize((700, 900)).save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path / "photo.jpg"


def as_printed(predictions: list[Prediction]) -> list[Any]:
    return [prediction.to_dict()["predictions"] for prediction in predictions]


def close(given: list[Any]) -> None:
    for image in given:
        if isinstance(image, Image.Image):
            image.close()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_is_predicted_as_by_the_command_line(
    kind: str, trained: Trained, trained_run: Path, images: list[Path], cli: Cli
) -> None:
    expected = json.loads(cli("predict", *images, "--run", trained_run, "--json").out)
    given = [KINDS[kind](path) for path in images]
    predictions = trained.predict(given)
    close(given)
    assert as_printed(predictions) == [entry["predictions"] for entry in expected]
    if kind in ("path", "text", "opened by Pillow"):
        assert [prediction.image for prediction in predictions] == [entry["image"] for entry in expected]


def test_a_photo_that_pillow_has_not_decoded_is_decoded_like_its_file(
    trained: Trained, trained_run: Path, photo: Path, cli: Cli
) -> None:
    [expected] = json.loads(cli("predict", photo, "--run", trained_run, "--top", 10, "--json").out)
    opened = Image.open(photo)
    for given in (photo, photo.read_bytes(), opened, opened, Image.open(io.BytesIO(photo.read_bytes()))):
        assert trained.predict(given, top=10).to_dict()["predictions"] == expected["predictions"]
    assert opened.size == (700, 900)  # it is as it was, and can still be decoded
    opened.load()
    decoded = dict(trained.predict(opened, top=10).ranked)
    assert decoded == pytest.approx({row["class"]: row["probability"] for row in expected["predictions"]}, abs=0.02)
    sideways = trained.predict(opened.transpose(Image.Transpose.ROTATE_90), top=10)
    assert dict(sideways.ranked) != decoded  # so it was turned upright


def test_one_image_gives_one_prediction_and_several_a_list(trained: Trained, images: list[Path]) -> None:
    alone = trained.predict(images[0], top=2)
    assert isinstance(alone, Prediction)
    assert alone.ranked[0] == (alone.class_name, alone.probability)
    assert len(alone.ranked) == 2
    assert trained.predict([images[0]], top=2) == [alone]
    assert trained.predict(path for path in images[:1]) == trained.predict(images[:1])
    assert trained.predict([]) == []
    with Image.open(images[2]) as opened:
        mixed = trained.predict([images[0], images[1].read_bytes(), opened])
    assert as_printed(mixed) == as_printed(trained.predict(images[:3]))
    assert [prediction.image for prediction in mixed] == [str(images[0]), "images[1]", str(images[2])]


def test_an_image_that_cannot_be_read_is_named(trained: Trained, images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read: No such file"):
        trained.predict(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"images\[1\]: not an image"):
        trained.predict([images[0], b"no image"])
    closed = Image.open(images[0])
    closed.close()
    with pytest.raises(DataError, match=f"{images[0]}: cannot be read as an image"):
        trained.predict(closed)
    with pytest.raises(ValueError, match=r"top must be at least 1 \(got 0\)"):
        trained.predict(images[0], top=0)


def test_either_kind_of_checkpoint_gives_a_network_with_all_that_it_needs(trained_run: Path) -> None:
    newest = max(trained_run.glob("checkpoints/step-*.pt"))
    best, last = load(trained_run / "checkpoints/best.safetensors", CPU), load(newest, CPU)
    state = torch.load(newest, weights_only=True)["kept"]
    assert all(torch.equal(value, state[name]) for name, value in last.network.state_dict().items())
    results = json.loads((trained_run / "results.json").read_text())
    assert best.header.epoch == results["best_epoch"]
    for trained in (best, last):
        assert not trained.network.training
        assert trained.device == CPU
        assert trained.task.class_names == tuple("0123456789")
        assert trained.preprocessing == trained.header.preprocessing
        assert repr(trained).startswith("Trained(lenet5 of epoch ")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(trained_run / "gone.safetensors", CPU)


def test_evaluating_from_python_gives_what_the_command_line_prints(trained_run: Path, cli: Cli) -> None:
    for name in ("best.safetensors", max(trained_run.glob("checkpoints/step-*.pt")).name):
        path = trained_run / "checkpoints" / name
        for split in ("val", "test"):
            printed = json.loads(cli("evaluate", path, "--split", split, "--json").out)
            assert load(path, CPU).evaluate(split) == printed
    with pytest.raises(ConfigError, match=r"'tset' is no split \(allowed: test, val, train\)"):
        load(path, CPU).evaluate("tset")


def test_what_a_notebook_shows_can_be_read(trained: Trained, images: list[Path]) -> None:
    prediction = trained.predict(images[0], top=1)
    share = f"{100 * prediction.probability:.2f} %"
    assert repr(prediction) == f"Prediction({images[0]}: {prediction.class_name} {share})"
    assert repr(Prediction("a\nb", (("c\x1b[31m", 0.5),))) == r"Prediction(a\nb: c\x1b[31m 50.00 %)"
    assert repr(trained) == (
        f"Trained(lenet5 of epoch {trained.header.epoch}, images of 32x32x1, 10 classes, on cpu, from {trained.path})"
    )
    evil = replace(trained, path=Path("a\nb.safetensors"))
    assert repr(evil).endswith(r"from a\nb.safetensors)")


def test_a_trained_network_is_not_changed_by_chance(trained: Trained) -> None:
    with pytest.raises(FrozenInstanceError):
        trained.path = Path("x")  # type: ignore[misc]
