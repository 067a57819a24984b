"""One's own folders: what is found, what is carved, and what is said about it."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_photos
from PIL import Image
from platformdirs import user_cache_path

from cnntrain.config.schema import Data
from cnntrain.data import Splits, cache, prepare_data
from cnntrain.errors import DataError


def prepare(root: Path, **options: object) -> Splits:
    options = {"image_size": 16, **options}
    return prepare_data(Data(source="image_folder", root=str(root), **options))  # type: ignore[arg-type]


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
    assert "being no images: list.csv, red/notes.txt" in text
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
    assert "no images of green" in splits.notices[0]
    assert splits.test.targets.tolist() == [0, 0, 2, 2]  # labels do not shift


def test_unused_split_like_folders_are_named(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "p", {"train": 5, "valid": 3, "test": 2})
    assert "data.splits: {train: train, test: test, val: valid}" in prepare(root).notices[0]


def test_photos_with_spaces_and_umlauts_in_their_names(tmp_path: Path) -> None:
    root = write_photos(tmp_path / "my photos", {"train": 6}, classes=("Käfer und so", "Vögel"))
    assert prepare(root).class_names == ("Käfer und so", "Vögel")


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "is empty: it should hold a folder of images for each class"),
        (lambda root: write_photos(root, {"train": 3}, ("cat",)), "has one class only (cat)"),
        (lambda root: (root / "train/cat").mkdir(parents=True) or (root / "train/dog").mkdir(), "its class folders hold no images"),
        (lambda root: write_photos(root, {"train": 3}) and (root / "train/cat").mkdir(), "no images of cat"),
        (
            lambda root: write_photos(root, {"train": 3}) and write_photos(root, {"test": 1}, ("grean",)),
            "has classes that the training folder lacks: grean; did you mean 'green'?",
        ),
        (lambda root: write_photos(root, {"Train": 3, "Test": 2}), "data.splits: {train: Train, test: Test}"),
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
        ({"test": "vla"}, "no such folder (data.splits.test); found: train, val"),
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
    monkeypatch.setattr("cnntrain.data.folder_part.fit_content", lambda *_: pytest.fail("decoded again"))
    again = prepare(photos)
    np.testing.assert_array_equal(first.train.pixels(), again.train.pixels())
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
        np.testing.assert_array_equal(prepare(photos).train.pixels(), first.train.pixels())


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
        mode: float(prepare(photos, resize=mode, group_copies="none").train.pixels().mean())
        for mode in ("crop", "squash")
    }
    assert means["crop"] == 255
    assert means["squash"] == pytest.approx(255 * 18 / 48, abs=5)


def test_real_photos_of_ants_and_bees(real_data: Path) -> None:
    splits = prepare(real_data / "hymenoptera", image_size=64, splits={"test": "val"})
    assert splits.class_names == ("ants", "bees")
    assert sum(found["num_images"] for found in splits.identity().values()) == 158
    assert splits.preprocessing.mean[0] == pytest.approx(0.5, abs=0.1)
