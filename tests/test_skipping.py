"""`data.on_error: skip`: images that cannot be read are left out, counted and named; never silently, never too many."""

import json
import os
from pathlib import Path

import pytest
from conftest import Cli, write_photos

FOLDER = """
model: lenet5
data: {source: image_folder, root: photos, image_size: 16}
recipe: {epochs: 1, batch_size: 16}
"""


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Photos, of which one of training and one of the test cannot be read."""
    (tmp_path / "my.yaml").write_text(FOLDER)
    root = write_photos(tmp_path / "photos", {"train": 30, "test": 12})
    (root / "train" / "red" / "train 03.png").write_bytes(b"no image")
    (root / "test" / "blue" / "test 05.png").write_bytes(b"")
    return tmp_path


def test_links_to_nothing_and_pipes_are_left_out_too(cli: Cli, broken: Path) -> None:
    folder = broken / "photos" / "train" / "green"
    (folder / "link.png").symlink_to(broken / "gone.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    assert train(cli, broken)[0] == 3
    code, text, run = train(cli, broken, "data.on_error=skip")
    assert code == 0, text
    named = (run / "skipped_images.txt").read_text()
    assert "pipe.png: cannot be read: is no regular file" in named
    assert "link.png: cannot be read: No such file" in named
    assert "loop.png: cannot be read" in named


def train(cli: Cli, folder: Path, *settings: str) -> tuple[int, str, Path]:
    more = [part for setting in settings for part in ("--set", setting)]
    done = cli("train", folder / "my.yaml", "--data-root", folder, "--output", folder / "runs", *more)
    found = sorted((folder / "runs").glob("*/2*"))
    return done.code, done.err, found[-1] if found else folder


def test_they_stop_training_unless_asked_otherwise(cli: Cli, broken: Path) -> None:
    code, text, _ = train(cli, broken)
    assert code == 3
    assert "train 03.png: not an image" in text


@pytest.mark.parametrize("storage", ["memory", "cache", "stream"])
def test_they_are_left_out_counted_and_named(cli: Cli, broken: Path, storage: str) -> None:
    code, text, run = train(cli, broken, "data.on_error=skip", f"data.storage={storage}")
    assert code == 0, text
    assert "1 of 90 images in" in text
    assert "1 of 36 images in" in text
    results = json.loads((run / "results.json").read_text())
    assert results["skipped_images"] == {"train": 1, "test": 1}
    assert results["test"]["num_images"] == 35
    assert sum(results["splits"][name]["num_images"] for name in ("train", "val")) == 89
    named = (run / "skipped_images.txt").read_text().splitlines()
    assert len(named) == 2
    assert "train 03.png: not an image" in named[0]
    assert "test 05.png" in named[1]
    tested = cli("evaluate", run, "--data-root", broken, "--json")
    assert tested.code == 0, tested.err
    found = json.loads(tested.out)
    assert found["num_skipped"] == 1
    assert found["num_images"] == 35
    assert found["same_images_as_in_training"]
    assert "cannot be read and are left out" in tested.err


def test_what_is_repaired_comes_back(cli: Cli, broken: Path) -> None:
    assert train(cli, broken, "data.on_error=skip")[0] == 0
    for part, name in (("train/red", "train 03.png"), ("test/blue", "test 05.png")):
        folder = broken / "photos" / part
        (folder / name).write_bytes((folder / name.replace("03", "04").replace("05", "04")).read_bytes())
    _, text, run = train(cli, broken, "data.on_error=skip")
    assert "left out" not in text
    assert json.loads((run / "results.json").read_text())["skipped_images"] == {}
    assert not (run / "skipped_images.txt").exists()


def test_too_many_stop_training(cli: Cli, broken: Path) -> None:
    for number in range(6, 11):
        (broken / "photos" / "test" / "blue" / f"test {number:02d}.png").write_bytes(b"x")
    code, text, _ = train(cli, broken, "data.on_error=skip")
    assert code == 3
    assert "6 of 36 images in" in text
    assert "more than data.max_skipped 0.1 allows" in text
    assert train(cli, broken, "data.on_error=skip", "data.max_skipped=0.2")[0] == 0


def test_a_class_with_no_image_left_stops_training(cli: Cli, broken: Path) -> None:
    for path in (broken / "photos" / "train" / "green").iterdir():
        path.write_bytes(b"x")
    code, text, _ = train(cli, broken, "data.on_error=skip", "data.max_skipped=0.9")
    assert code == 3
    assert 'no image of "green" can be read' in text
