"""One's own folders: what is found, what is carved, and what is said about it."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos
from PIL import Image
from platformdirs import user_cache_path

from cnntrain.config.schema import Data
from cnntrain.data import cache
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.errors import DataError


def prepare(root: Path, **options: object) -> Splits:
    options = {"image_size": 16, **options}
    return prepare_data(Data(source="image_folder", root=str(root), **options))  # type: ignore[arg-type]


def add(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.write_text("x")


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def overlap(first: Sequence[str], second: Sequence[str]) -> set[str]:
    return set(first) & set(second)


def test_training_images_alone_give_three_splits(photos: Path) -> None:
    splits = prepare(photos)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [27, 3, 6]  # of 36: 0.2 test, 0.1 of the rest val
    assert not overlap(splits.train.names, splits.val.names)
    assert not overlap([*splits.train.names, *splits.val.names], splits.test.names)
    assert splits.class_names == ("blue", "green", "red")
    for split in (splits.val, splits.test):
        assert torch.bincount(split.targets).tolist() == [len(split) // 3] * 3


def test_class_folders_alone_are_enough(photos: Path) -> None:
    splits = prepare(photos / "train")
    assert splits.class_names == ("blue", "green", "red")
    assert len(splits.train) == 27


def test_folders_play_their_parts(tmp_path: Path) -> None:
    splits = prepare(write_photos(tmp_path / "p", {"train": 5, "val": 3, "test": 2}))
    assert [len(splits.train), len(splits.val), len(splits.test)] == [15, 9, 6]
    assert splits.test.names[0] == "test/blue/test 00.png"
    assert not splits.notices


def test_val_without_test_says_what_it_does_with_it(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 10, "val": 3})
    splits = prepare(root)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [24, 9, 6]
    assert "data.splits: {test: val}" in splits.notices[0]
    splits = prepare(root, splits={"test": "val"})
    assert [len(splits.train), len(splits.val), len(splits.test)] == [27, 3, 9]
    assert all(name.startswith("val/") for name in splits.test.names)
    assert all(name.startswith("train/") for name in splits.val.names)
    assert not splits.notices


def test_another_seed_moves_images_and_the_same_does_not(photos: Path) -> None:
    first, again, other = prepare(photos), prepare(photos), prepare(photos, split_seed=1)
    assert first.identity() == again.identity()
    assert list(first.test.names) != list(other.test.names)


def test_another_val_fraction_leaves_the_test_images_where_they_are(photos: Path) -> None:
    assert prepare(photos).test.identity() == prepare(photos, val_fraction=0.3).test.identity()


def test_the_hash_is_of_images_and_labels_and_not_of_their_size(photos: Path) -> None:
    small, large = prepare(photos), prepare(photos, image_size=20)
    assert small.identity() == large.identity()
    victim = next((photos / "train" / "red").iterdir())
    Image.new("RGB", (9, 9)).save(victim)
    assert prepare(photos).identity() != small.identity()


def test_what_is_no_image_is_named_and_left_out(photos: Path) -> None:
    (photos / "train" / "red" / "notes.txt").write_text("x")
    (photos / "train" / "red" / ".DS_Store").write_text("x")
    (photos / "train" / "list.csv").write_text("x")
    (photos / "train" / ".hidden").mkdir()
    (photos / "train" / "__MACOSX").mkdir()
    splits = prepare(photos)
    assert splits.class_names == ("blue", "green", "red")
    text = "\n".join(splits.notices)
    assert 'being no images: "list.csv", "red/notes.txt"' in text
    assert "being hidden: " in text
    assert ".DS_Store" not in text


def test_images_are_found_at_any_depth_and_with_any_case(photos: Path) -> None:
    deep = photos / "train" / "red" / "more" / "still more"
    deep.mkdir(parents=True)
    Image.new("RGB", (9, 9), "red").save(deep / "LOUD.PNG")
    splits = prepare(photos)
    assert len(splits.train) + len(splits.val) + len(splits.test) == 37


def test_a_class_missing_from_the_test_set_is_named(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 5})
    write_photos(root, {"test": 2}, classes=("blue", "red"))
    splits = prepare(root)
    assert 'no images of "green"' in splits.notices[0]
    assert splits.test.targets.tolist() == [0, 0, 2, 2]  # labels do not shift


@pytest.mark.parametrize(
    "names", [("train", "valid", "test"), ("Train", "VALIDATION", "Test"), ("training", "dev", "testing")]
)
def test_folders_of_the_usual_names_are_the_splits_in_any_case(tmp_path: Path, names: tuple[str, str, str]) -> None:
    splits = prepare(write_photos(tmp_path / "p", dict(zip(names, (5, 3, 2), strict=True))))
    assert [len(splits.train), len(splits.val), len(splits.test)] == [15, 9, 6]
    assert f'"{names[1]}" is taken for val' in splits.notices[0]
    assert '"train" is taken' not in splits.notices[0]


def test_where_data_splits_says_something_nothing_else_is_taken(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 10, "val": 3, "valid": 3, "test": 2})
    splits = prepare(root, splits={"val": "val"})
    assert splits.val.names[0].startswith("val/")
    assert "to use them, set data.splits: {train: train, test: test, val: valid}" in splits.notices[0]


def test_photos_with_spaces_and_umlauts_in_their_names(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "my photos", {"train": 6}, classes=("Käfer und so", "Vögel"))
    assert prepare(root).class_names == ("Käfer und so", "Vögel")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "is empty: it should hold a folder of images for each class"),
        (lambda root: write_photos(root, {"train": 3}, ("cat",)), 'has one class only ("cat")'),
        (lambda root: (root / "train/cat").mkdir(parents=True) or (root / "train/dog").mkdir(), "its class folders hold no images"),
        (lambda root: write_photos(root, {"train": 3}) and add(root / "train/cat/list.csv"), 'no images of "cat" in'),
        (lambda root: write_photos(root, {"train": 3, "test": 2}) and empty(root / "train/red"), 'test has images of "red", of which the training folder has none'),
        (lambda root: write_photos(root, {"train": 3}, ("cat", "dog")) and empty(root / "train/dog"), 'has one class only ("cat", besides the empty folders "dog")'),
        (
            lambda root: write_photos(root, {"train": 3}) and write_photos(root, {"test": 1}, ("grean",)),
            "has classes that the training folder lacks: \"grean\"; did you mean 'green'?",
        ),
        (lambda root: write_photos(root, {"train": 3, "val": 2, "Valid": 2}), 'has "Valid", "val", each of which may be meant for val; say which with data.splits, such as {val: Valid}'),
        (lambda root: write_photos(root, {"Train": 3, "training": 2}), 'has "Train", "training", each of which may be meant for train'),
        (lambda root: write_photos(root, {"val": 3, "test": 2}), "has no folder train/"),
        (lambda root: write_photos(root, {"train": 1}), "too few images: none is left for test"),
    ],
)  # fmt: skip
def test_folders_that_cannot_work_say_why(tmp_path: Path, build: object, expected: str) -> None:
    assert callable(build)
    build(tmp_path / "p")
    with pytest.raises(DataError) as caught:
        prepare(tmp_path / "p")
    assert expected in str(caught.value)


def test_links_to_nothing_and_to_folders_are_named(photos: Path) -> None:
    (photos / "train" / "red" / "linked").symlink_to(photos / "train" / "blue")
    assert "red/linked (a link)" in prepare(photos).notices[0]
    (photos / "train" / "red" / "dangling.png").symlink_to(photos / "gone.png")
    with pytest.raises(DataError, match=r"red/dangling\.png: cannot be read: No such file"):
        prepare(photos)


def test_copies_of_training_images_are_pointed_out(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "val": 3, "test": 4})
    assert prepare(root).identity()["test"]["also_in_train"] == 0
    for index in range(2):
        shutil.copy(root / f"train/red/train 0{index}.png", root / f"test/red/test 0{index}.png")
    splits = prepare(root)
    assert splits.identity()["test"]["also_in_train"] == 2
    assert (
        "2 of 12 test images are also in the training set (the same pixels): test/red/test 00.png = train/red/"
        in (splits.notices[0])
    )


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"test": "vla"}, 'no such folder (data.splits.test); found: "train", "val"'),
        ({"train": "train", "test": "train"}, "must not share images"),
    ],
)
def test_wrong_split_folders_are_refused(tmp_path: Path, said: dict[str, str], expected: str) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "val": 3})
    with pytest.raises(DataError) as caught:
        prepare(root, splits=said)
    assert expected in str(caught.value)


def test_unreadable_images_are_all_named(photos: Path) -> None:
    for name in ("blue/train 00.png", "red/train 03.png"):
        (photos / "train" / name).write_bytes(b"broken")
    with pytest.raises(DataError) as caught:
        prepare(photos)
    text = str(caught.value)
    assert "2 of 36 images" in text
    assert "blue/train 00.png: not an image" in text
    assert "red/train 03.png: not an image" in text


def test_decoded_images_are_cached_until_a_file_changes(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(photos)
    monkeypatch.setattr("cnntrain.data.images.folder_part.fit_content", lambda *_: pytest.fail("decoded again"))
    again = prepare(photos)
    np.testing.assert_array_equal(first.train.items(), again.train.items())
    assert first.identity() == again.identity()
    victim = next((photos / "train" / "red").iterdir())
    os.utime(victim, ns=(time.time_ns(), time.time_ns()))
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        prepare(photos)


def test_a_damaged_cache_is_built_again(photos: Path) -> None:
    first = prepare(photos)
    entries = user_cache_path("cnntrain") / "decoded"
    for length in (100, 0):
        for entry in entries.glob("*/images.npy"):
            entry.write_bytes(entry.read_bytes()[:length])
        np.testing.assert_array_equal(prepare(photos).train.items(), first.train.items())


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_images", refuse)
    assert len(prepare(photos).train) == 27


def test_resize_modes_reach_the_images(photos: Path) -> None:
    wide = np.zeros((16, 48, 3), dtype=np.uint8)
    wide[:, 15:33] = 255
    for folder in (photos / "train").iterdir():
        for file in folder.iterdir():
            Image.fromarray(wide).save(file)
    means = {
        mode: float(prepare(photos, resize=mode, group_copies="none").train.items().mean())
        for mode in ("crop", "squash")
    }
    assert means["crop"] == 255
    assert means["squash"] == pytest.approx(255 * 18 / 48, abs=5)


def test_real_photos_of_ants_and_bees(real_data: Path) -> None:
    splits = prepare(real_data / "hymenoptera", image_size=64, splits={"test": "val"})
    assert splits.class_names == ("ants", "bees")
    assert sum(found["num_images"] for found in splits.identity().values()) == 158
    assert splits.preprocessing.mean[0] == pytest.approx(0.5, abs=0.1)


@pytest.fixture
def as_nobody(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes folders unreadable, for root too, who runs tests in containers."""
    closed: set[str] = set()
    real = os.scandir

    def scandir(path: str | Path = ".") -> Any:
        if str(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return lambda folder: closed.add(str(folder))


@pytest.mark.parametrize(
    "below", ["train/red", "train/red/more", "train/red/more/deep", "test/blue/more", "train", "."]
)
def test_folders_that_cannot_be_read_stop_training(
    tmp_path: Path, as_nobody: Callable[[Path], None], below: str
) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "val": 3, "test": 4})
    (root / "train/red/more/deep").mkdir(parents=True)
    (root / "test/blue/more").mkdir()
    as_nobody(root / below)
    with pytest.raises(DataError, match="Permission denied") as caught:
        prepare(root)
    assert str(root / below) in str(caught.value)


def test_folders_that_cannot_be_read_are_counted_where_they_may_be_skipped(
    tmp_path: Path, as_nobody: Callable[[Path], None]
) -> None:
    root = write_photos(tmp_path / "p", {"train": 15})
    (root / "train/red/more").mkdir()
    as_nobody(root / "train/red/more")
    splits = prepare(root, on_error="skip")
    assert splits.skipped == {"train": [f"{root}/train/red/more: cannot be read: Permission denied"]}
    with pytest.raises(DataError, match=r"0 of 45 images and 1 folder in .* more than data.max_skipped 0.01 allows"):
        prepare(root, on_error="skip", max_skipped=0.01)
    as_nobody(root / "train/red")
    with pytest.raises(DataError, match='no image of "red" can be read'):
        prepare(root, on_error="skip", max_skipped=0.5)


def test_one_empty_class_folder_is_left_out_with_a_note_unless_asked_to_stop(photos: Path) -> None:
    splits = prepare(photos)
    for folder in ("train/ cat", "train/.hidden only/x", "train/deep/er"):
        (photos / folder).mkdir(parents=True)
    again = prepare(photos)
    assert again.class_names == splits.class_names
    assert again.identity() == splits.identity()
    assert 'being empty: " cat", "deep"' in "\n".join(again.notices)
    with pytest.raises(DataError, match='no images of " cat", "deep" in'):
        prepare(photos, on_error="stop")


def test_an_empty_folder_of_a_class_that_training_lacks_too_does_no_harm(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "val": 3, "test": 4})
    empty(root / "test/cat")
    assert prepare(root).class_names == ("blue", "green", "red")
    with pytest.raises(DataError, match='has classes that the training folder lacks: "cat"'):
        prepare(root, on_error="stop")


def test_a_class_of_photos_that_cannot_be_read_here_is_not_empty(photos: Path) -> None:
    (photos / "train/cat").mkdir()
    for number in range(3):
        (photos / f"train/cat/{number}.JXL").write_bytes(b"\xff\x0a" + b"\0" * 40)
    with pytest.raises(DataError, match=r"0.JXL: a JPEG XL image, which is not read"):
        prepare(photos)
    with pytest.raises(DataError, match='no image of "cat" can be read'):
        prepare(photos, on_error="skip")


@pytest.mark.parametrize("place", ["train", "test"])
def test_class_folders_whose_names_are_not_utf8_are_refused_at_once(tmp_path: Path, place: str) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "val": 3, "test": 4})
    try:
        (root / place / "red").rename(root / place / os.fsdecode(b"caf\xe9"))
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(DataError, match=r'class folders "caf\\udce9" are not UTF-8'):
        prepare(root)


def test_files_and_folders_below_whose_names_are_not_utf8_are_read(photos: Path) -> None:
    try:
        (photos / "train/red" / os.fsdecode(b"d\xe9j\xe0")).mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    image = next((photos / "train/red").glob("*.png"))
    image.rename(photos / "train/red" / os.fsdecode(b"d\xe9j\xe0/vu\xff.png"))
    splits = prepare(photos)
    names = [*splits.train.names, *splits.val.names, *splits.test.names]
    assert len(names) == 36
    assert r"train/red/d\udce9j\udce0/vu\udcff.png" in names


NESTED = {
    "groups of classes": (["animals/cat", "animals/dog", "plants/tree"], "move them up: mv"),
    "a class in each group": (["animals/cat", "plants/tree"], '"animals/cat", "plants/tree"'),
    "some classes in groups": (["animals/cat", "animals/dog", "tree"], '"animals" are taken for the classes'),
    "splits below the classes": (["cat/train", "cat/test", "dog/train", "dog/Test"], "make them the upper folders: <split>/<class>/*"),
    "names that differ in case": (["Cat", "cat", "dog"], '"Cat", "cat" are 2 classes'),
    "names that differ in their encoding": (["K\u00e4fer", "Ka\u0308fer", "dog"], "are 2 classes, whose names differ only"),
    "names that differ in a space": (["cat", "cat ", "dog"], '"cat", "cat " are 2 classes'),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTED)
def test_classes_that_may_not_be_meant_are_pointed_out(tmp_path: Path, cli: Cli, name: str) -> None:
    classes, expected = NESTED[name]
    root = write_photos(tmp_path / "p", {"train": 6}, tuple(classes))
    if len(list((root / "train").iterdir())) < len({path.split("/")[0] for path in classes}):
        pytest.skip("this file system does not tell these names apart")
    assert expected in "\n".join(prepare(root).notices)
    outcome = cli("data", "check", root)
    assert expected in outcome.out
    assert "classes that may not be what you mean" in outcome.out


@pytest.mark.parametrize(
    "classes", [["cat/images", "dog/images"], ["cat", "dog/more"], ["cat/2024", "cat/2025", "dog/2024", "dog/2025"]]
)
def test_folders_below_classes_that_say_nothing_are_not_pointed_out(tmp_path: Path, classes: list[str]) -> None:
    assert not prepare(write_photos(tmp_path / "p", {"train": 6}, tuple(classes))).notices


def test_what_crop_cuts_is_found_in_the_last_class_too(tmp_path: Path) -> None:
    for name, width in (("cat", 64), ("dog", 256)):
        folder = tmp_path / "p" / name
        folder.mkdir(parents=True)
        for number in range(60):
            pixels = np.random.default_rng(number).integers(0, 255, (64, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    (notice,) = prepare(tmp_path / "p").notices
    assert "crop cuts 38 % of the images' area away on average" in notice
    assert "at worst 75 %" in notice
    assert "images were looked at" in notice


def test_what_crop_cuts_away_is_said_with_what_keeps_it(tmp_path: Path, cli: Cli) -> None:
    for name in ("cat", "dog"):
        folder = tmp_path / "p" / name
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 255, (64, 128, 3), dtype=np.uint8)
            Image.fromarray(pixels[:, :, :] if name == "cat" else pixels[::-1]).save(folder / f"{number}.png")
    (notice,) = prepare(tmp_path / "p").notices
    assert "data.resize: crop cuts 50 % of the images' area away on average, and at worst 50 % (\"" in notice
    assert "letterbox keeps all of them, with black borders; squash keeps all, out of proportion" in notice
    assert not prepare(tmp_path / "p", resize="letterbox").notices
    assert not prepare(tmp_path / "p", resize="squash").notices
    outcome = cli("data", "check", tmp_path / "p")
    assert "cut by data.resize: crop, 50 % of the area at worst, 50 % on average of all" in outcome.out
    assert "50 % of 128 x 64" in outcome.out
    (tmp_path / "my.yaml").write_text("model: lenet5\ndata: {source: image_folder, root: p, image_size: 16}\n")
    for command in (("check",), ("data", "preview")):
        out = ("--out", tmp_path / "preview.png") if "preview" in command else ()
        outcome = cli(*command, tmp_path / "my.yaml", "--data-root", tmp_path, *out)
        assert outcome.code == 0, outcome.err
        assert "crop cuts 50 %" in outcome.err
