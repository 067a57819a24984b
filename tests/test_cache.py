"""What was decoded is believed only as long as it fits its seal; whatever happens to the cache, the same is trained on."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos
from PIL import Image, ImageOps

from cnntrain.config.schema import Data
from cnntrain.data import cache
from cnntrain.data.prepare import prepare_data
from cnntrain.data.reporter import Silent
from cnntrain.data.splits import Splits


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_photos(tmp_path / "photos", {"train": 12})
    return tmp_path / "photos"


class Listening(Silent):
    """A reporter that remembers the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def say(self, *lines: str) -> None:
        self.notes += [line for line in lines if "note:" in line]


def prepare(root: Path, kind: str) -> tuple[Splits, list[str]]:
    reporter = Listening()
    config = Data.model_validate({"source": "image_folder", "root": str(root), "image_size": 16, "storage": kind})
    return prepare_data(config, reporter=reporter), reporter.notes


def entry_file(name: str) -> Path:
    (found,) = cache.folder().glob(f"*/{name}")
    return found


def change(start: int, replacement: bytes) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        content = bytearray(path.read_bytes())
        start_ = start % len(content)
        content[start_ : start_ + len(replacement)] = replacement
        path.write_bytes(content)

    return apply


def invert(path: Path) -> None:
    content = np.fromfile(path, dtype=np.uint8)
    content[min(200, len(content) - 1) :] ^= 255
    content.tofile(path)


def swap_two_images(path: Path) -> None:
    content = bytearray(path.read_bytes())
    size = 16 * 16 * 3
    last = content[-size:]
    content[-size:], content[-2 * size : -size] = content[-2 * size : -size], last
    path.write_bytes(content)


def save(array: np.ndarray) -> Callable[[Path], object]:
    def apply(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, array)

    return apply


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    """Reading it would wait for somebody to write."""
    path.unlink()
    os.mkfifo(path)


def save_archive(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, images=np.zeros((36, 16, 16, 3), dtype=np.uint8))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "inverted": invert,
    "one bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
    "two images swapped": swap_two_images,
    "header": change(20, b"u1"),
    "Fortran order": lambda path: path.write_bytes(path.read_bytes().replace(b"False", b"True ", 1)),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "empty": lambda path: path.write_bytes(b""),
    "another shape": save(np.zeros((36, 8, 8, 3), dtype=np.uint8)),
    "fewer images": save(np.zeros((35, 16, 16, 3), dtype=np.uint8)),
    "another type": save(np.zeros((36, 16, 16, 3), dtype=np.float32)),
    "foreign": lambda path: path.write_text("something else"),
    "an archive": save_archive,
    "a folder": make_folder,
    "a pipe": make_pipe,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize(("kind", "name"), [("memory", "images.npy"), ("cache", "images.npy"), ("memory", "seals.npy")])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_anew_with_one_line(photos: Path, kind: str, name: str, damage: str) -> None:
    before, notes = prepare(photos, kind)
    assert not notes
    wanted = before.train.items().copy()
    DAMAGES[damage](entry_file(name))
    again, notes = prepare(photos, kind)
    np.testing.assert_array_equal(again.train.items(), wanted)
    assert again.identity() == before.identity()
    assert again.preprocessing == before.preprocessing
    assert len(notes) == 1
    assert "is damaged" in notes[0]
    assert "made anew from the files" in notes[0]
    after, notes = prepare(photos, kind)  # and then it is whole again
    np.testing.assert_array_equal(after.train.items(), wanted)
    assert not notes


@pytest.mark.parametrize("kind", ["memory", "cache", "stream"])
@pytest.mark.parametrize(
    "damage", ["inverted", "one bit", "cut off", "another shape", "foreign", "a folder", "a pipe", "missing"]
)
def test_damaged_digests_and_levels_are_made_anew(photos: Path, kind: str, damage: str) -> None:
    before, _ = prepare(photos, kind)
    arrays = list(cache.folder().glob("*/array.npy"))
    assert arrays
    for path in arrays:
        DAMAGES[damage](path)
    again, notes = prepare(photos, kind)
    assert again.identity() == before.identity()
    assert again.preprocessing == before.preprocessing
    assert len(notes) == len(arrays)
    assert not prepare(photos, kind)[1]


def test_an_entry_of_other_images_is_not_taken_for_these(photos: Path, tmp_path: Path) -> None:
    prepare(photos, "memory")
    mine = entry_file("images.npy").parent
    write_photos(tmp_path / "others", {"train": 12})
    for path in (tmp_path / "others").rglob("*.png"):
        ImageOps.invert(Image.open(path)).save(path)
    wanted = prepare(tmp_path / "others", "memory")[0].train.items().copy()
    (others,) = [path.parent for path in cache.folder().glob("*/images.npy") if path.parent != mine]
    shutil.rmtree(others)
    shutil.copytree(mine, others)
    again, notes = prepare(tmp_path / "others", "memory")
    np.testing.assert_array_equal(again.train.items(), wanted)
    assert len(notes) == 1


def test_what_is_damaged_while_it_is_mapped_is_decoded_as_it_is_read(photos: Path) -> None:
    wanted = prepare(photos, "memory")[0].train
    splits, notes = prepare(photos, "cache")
    order = torch.arange(27)
    list(splits.train.read(order, [slice(0, 27)]))
    assert not notes
    path = entry_file("images.npy")
    with path.open("r+b") as file:  # in place, as a failing disk would
        file.seek(200)
        file.write(bytes(16 * 16 * 3 * 20))
    (batch,) = splits.train.read(order, [slice(0, 27)])
    np.testing.assert_array_equal(batch[0].numpy(), wanted.items())
    assert len(notes) == 1
    assert not path.exists()  # so that the next start makes all of it anew


def test_a_user_is_told_when_training_starts_with_a_damaged_entry(photos: Path, cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "my.yaml"
    config.write_text(
        f"model: {{name: lenet5}}\ndata: {{source: image_folder, root: '{photos}', image_size: 32}}\n"
        "recipe: {epochs: 1, batch_size: 8}\nrun: {tensorboard: false, name: my}\n"
    )
    assert cli("check", config).code == 0
    invert(entry_file("images.npy"))
    done = cli("check", config)
    assert done.code == 0
    assert done.err.count("is damaged (36 of 36 images are not what was written)") == 1
