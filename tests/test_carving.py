"""Copies of an image never part when splits are carved, and are named where the user's own folders part them."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_REPORT, Cli, write_photos
from PIL import Image, ImageOps

from cnntrain.config.schema import Data
from cnntrain.data.carve import carve
from cnntrain.data.copies import connected, joined
from cnntrain.data.prepare import prepare_data, prepare_split
from cnntrain.data.reporter import Silent
from cnntrain.data.splits import Splits
from cnntrain.errors import DataError
from cnntrain.insight.data_check.report import inspect_data
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, seal
from cnntrain.runtime.seeds import generator
from cnntrain.trained import load

SPLITS = ("train", "val", "test")


def prepare(root: Path, **options: object) -> Splits:
    return prepare_data(Data.model_validate({"source": "image_folder", "root": str(root), "image_size": 16, **options}))


def where(splits: Splits) -> dict[str, str]:
    return {name: split for split in SPLITS for name in getattr(splits, split).names}


def parted(splits: Splits) -> set[str]:
    """The images of which a copy (`copy NAME`, in any format) is in another split."""
    found = {Path(name): split for name, split in where(splits).items()}
    by_name: dict[str, set[str]] = {}
    for path, split in found.items():
        by_name.setdefault(f"{path.parent}/{path.stem.removeprefix('copy ')}", set()).add(split)
    return {name for name, some in by_name.items() if len(some) > 1}


def copy_all(root: Path, suffix: str = ".png", **how: Any) -> None:
    for path in sorted(root.rglob("*.png")):
        copy = path.with_name(f"copy {path.stem}{suffix}")
        if how or suffix != ".png":
            Image.open(path).save(copy, **how)
        else:
            shutil.copy(path, copy)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", {"": 20})


@pytest.mark.parametrize(
    ("suffix", "how"),
    [(".png", {}), (".png", {"compress_level": 1}), (".tiff", {}), (".bmp", {}), (".webp", {"lossless": True})],
    ids=str,
)
@pytest.mark.parametrize("storage", ["memory", "stream"])
def test_no_copy_is_in_another_split(photos: Path, suffix: str, how: dict[str, Any], storage: str) -> None:
    copy_all(photos, suffix, **how)
    assert parted(prepare(photos, group_copies="none"))
    splits = prepare(photos, storage=storage)
    assert not parted(splits)
    assert [len(splits.train), len(splits.val), len(splits.test)] == [
        90,
        6,
        24,
    ]  # 3 of each class for val: a pair, or two
    for split in (splits.train, splits.val, splits.test):
        assert len(set(split.targets.bincount().tolist())) == 1  # and as many of each class
    assert splits.identity()["test"]["same_pixels_in_train"] == 0
    assert prepare(photos).identity() == splits.identity()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_large_jpeg_and_a_png_of_its_pixels_are_copies_whatever_the_png_is_called(
    tmp_path: Path, suffix: str
) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for index in range(8):
            small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
            path = tmp_path / "p" / name / f"{name} {index}.jpg"
            small.resize((160, 120)).save(path)  # decoded at a quarter for images of 16 px
            Image.open(path).save(path.with_name(f"copy {path.stem}{suffix}"), format="PNG")
    assert parted(prepare(tmp_path / "p", group_copies="none"))
    assert not parted(prepare(tmp_path / "p"))
    shutil.move(tmp_path / "p", tmp_path / "train")  # a folder beside it, all of copies
    for path in (tmp_path / "train").rglob(f"copy *{suffix}"):
        (tmp_path / "test" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.move(path, tmp_path / "test" / path.parent.name / path.name)
    named = inspect_data(Data(source="image_folder", root=str(tmp_path), image_size=16), Silent()).findings
    assert ("the same image in several splits", "problem") in {(one.name, one.severity) for one in named}


def test_an_image_turned_by_its_exif_data_is_a_copy_of_the_upright_one(photos: Path) -> None:
    for path in sorted(photos.rglob("*.png")):
        image, exif = Image.open(path), Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        image.transpose(Image.Transpose.ROTATE_90).save(path.with_name(f"copy {path.stem}.tiff"), exif=exif)
    assert parted(prepare(photos, group_copies="none"))
    assert not parted(prepare(photos))


@pytest.mark.parametrize("grey", [{"channels": 1}, {"mean": [0.5], "std": [0.5]}], ids=str)
@pytest.mark.parametrize("size", [24, 200])
def test_where_training_sees_grey_a_colour_image_and_its_grey_version_are_copies_for_data_check_too(
    photos: Path, grey: dict[str, Any], size: int
) -> None:
    for path in sorted(photos.rglob("*.png")):
        image = Image.open(path).resize((size, size))
        image.save(path)
        image.convert("L").save(path.with_name(f"copy {path.name}"))
    splits = prepare(photos, **grey)
    assert not parted(splits)
    config = Data.model_validate({"source": "image_folder", "root": str(photos), "image_size": 16, **grey})
    report = inspect_data(config, Silent())
    assert {f"photos/{sample.name}": sample.split for sample in report.inventory.samples} == where(splits)
    names = {finding.name for finding in report.findings}
    assert "the same image more than once" in names
    assert "the same image in several splits" not in names


def test_copies_in_several_classes_stay_together_and_are_said(photos: Path) -> None:
    for index in range(0, 20, 2):
        name = f" {index:02d}.png"
        shutil.copy(photos / "red" / name, photos / "blue" / f"red{name}")
    splits = prepare(photos)
    found = where(splits)
    for index in range(0, 20, 2):
        assert found[f"photos/red/ {index:02d}.png"] == found[f"photos/blue/red {index:02d}.png"]
    (notice,) = splits.notices
    assert "10 images are in several classes, such as photos/blue/red" in notice
    assert "and 7 more" in notice


def test_near_copies_stay_together_where_that_is_asked_for(tmp_path: Path, real_data: Path) -> None:
    for name in ("ants", "bees"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for path in sorted((real_data / "hymenoptera" / "train" / name).iterdir())[:12]:
            shutil.copy(path, tmp_path / "p" / name / f"{path.stem}.jpg")
            image = Image.open(path)
            image.resize((image.width * 2 // 3, image.height * 2 // 3)).save(
                tmp_path / "p" / name / f"copy {path.stem}.jpg", quality=80
            )
    assert parted(prepare(tmp_path / "p"))
    splits = prepare(tmp_path / "p", group_copies="near")
    assert not parted(splits)
    assert len(splits.test) == 8
    assert prepare(tmp_path / "p", group_copies="near").identity() == splits.identity()


class CountsBars(Silent):
    """Knows of which loops a bar was asked for."""

    def __init__(self) -> None:
        self.bars: list[str] = []

    def progress(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        self.bars.append(what)
        return items


@pytest.mark.parametrize("carved", [True, False])
def test_all_images_are_compared_once_however_often_groups_are_asked_for(photos: Path, carved: bool) -> None:
    if not carved:
        for part in SPLITS:
            shutil.copytree(photos, photos.parent / "given" / part)
    reporter = CountsBars()
    values = {"source": "image_folder", "root": str(photos if carved else photos.parent / "given"), "image_size": 16}
    prepare_data(Data.model_validate({**values, "group_copies": "near"}), reporter=reporter)
    assert reporter.bars.count("comparing images") == 1


def test_images_are_together_where_any_chain_of_pairs_connects_them() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 30):
        pairs = rng.integers(0, count, (count // 2, 2))
        reached = np.eye(count, dtype=bool)
        reached[pairs[:, 0], pairs[:, 1]] = reached[pairs[:, 1], pairs[:, 0]] = True
        for _ in range(count):  # by plain search: whatever is reached from what is reached
            reached = reached @ reached
        first = reached.argmax(axis=1)  # of each row, the first that is true
        assert connected([pairs[:3], pairs[3:]], count).tolist() == first.tolist()
        assert joined(connected([pairs[3:]], count), connected([pairs[:3]], count)).tolist() == first.tolist()
    assert connected([], 3).tolist() == [0, 1, 2]


def test_near_copies_across_given_folders_are_named_and_carving_agrees_with_itself(
    tmp_path: Path, real_data: Path, cli: Cli
) -> None:
    for name in ("ants", "bees"):
        found = sorted((real_data / "hymenoptera" / "train" / name).iterdir())[:12]
        for part in ("train", "test"):
            (tmp_path / "p" / part / name).mkdir(parents=True)
        for index, path in enumerate(found):
            shutil.copy(path, tmp_path / "p/train" / name / path.name)
            image = Image.open(path)
            small = image.resize((image.width * 2 // 3, image.height * 2 // 3))
            small.save(tmp_path / "p/train" / name / f"copy {path.name}", quality=80)
            if index < 3:
                small.save(tmp_path / "p/test" / name / f"near {path.name}", quality=60)
            else:
                ImageOps.mirror(image).rotate(90).save(tmp_path / "p/test" / name / f"other {path.name}")
    splits = prepare(tmp_path / "p", group_copies="near")
    (notice, _) = splits.notices  # the other one is about what resize: crop cuts
    assert notice.startswith("6 of 24 test images are also in the training set (nearly the same image or its copy): ")
    config = Data.model_validate(
        {"source": "image_folder", "root": str(tmp_path / "p"), "image_size": 16, "group_copies": "near"}
    )
    for name in SPLITS:  # alone, as evaluate has it
        split, _, _ = prepare_split(config, name, preprocessing=splits.preprocessing)
        assert split.identity()["sha256"] == splits.identity()[name]["sha256"]
    report = inspect_data(config, Silent())
    where_checked = {sample.name: sample.split for sample in report.inventory.samples}
    assert where_checked == where(splits)
    assert ("nearly the same image in several splits", "problem") in {(f.name, f.severity) for f in report.findings}


def carve_without_groups(labels: np.ndarray, fraction: float, *, seed: int, purpose: str) -> list[int]:
    """Carving as it was before copies were kept together."""
    rng, taken = generator(f"split {purpose}", seed), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        taken += rng.permutation(members)[:count].tolist()
    return sorted(taken)


@pytest.mark.parametrize("seed", range(20))
def test_without_copies_carving_is_what_it_was(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, fraction = rng.integers(0, 7, 200), float(rng.uniform(0.01, 0.9))
    wanted = carve_without_groups(labels, fraction, seed=seed, purpose="val")
    for groups in (None, np.arange(200), rng.permutation(200)):
        assert carve(labels, fraction, seed=seed, purpose="val", groups=groups).taken.tolist() == wanted
    # A copy in one class moves nothing in another.
    groups = np.arange(200)
    first, second = np.flatnonzero(labels == 3)[:2]
    groups[second] = first
    taken = carve(labels, fraction, seed=seed, purpose="val", groups=groups).taken
    assert [i for i in taken.tolist() if labels[i] != 3] == [i for i in wanted if labels[i] != 3]


@pytest.mark.parametrize("seed", range(40))
def test_groups_are_taken_whole_and_each_class_gets_its_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_images = int(rng.integers(20, 300))
    groups = rng.integers(0, int(num_images * rng.uniform(0.3, 1)), num_images)
    labels = (groups if seed % 2 else rng.integers(0, 1000, num_images)) % int(rng.integers(1, 6))
    fraction = float(rng.uniform(0.05, 0.6))
    kept, taken = carve(labels, fraction, seed=seed, purpose="test", groups=groups)
    assert sorted([*kept.tolist(), *taken.tolist()]) == list(range(num_images))
    assert not set(groups[kept].tolist()) & set(groups[taken].tolist())
    largest = max(Counter(groups.tolist()).values())
    for label, size in Counter(labels.tolist()).items():
        number = int((labels[taken] == label).sum())
        assert number < size  # one is left for training
        assert abs(number - fraction * size) <= largest * (1 if seed % 2 else 2)
    assert carve(labels, fraction, seed=seed, purpose="test", groups=groups).taken.tolist() == taken.tolist()


def test_the_splits_of_real_sets_are_those_of_older_versions(real_data: Path) -> None:
    """Sha256 of version 0.1, which knew of no copies."""
    digits = prepare_data(Data(source="digits")).identity()
    assert {name: found["sha256"][:16] for name, found in digits.items()} == {
        "train": "ccf1893a45e081f8", "val": "107474a650399b08", "test": "f4d5dcde835be253",
    }  # fmt: skip
    photos = prepare(real_data / "hymenoptera" / "train", image_size=64).identity()
    assert {name: found["sha256"][:16] for name, found in photos.items()} == {
        "train": "2c713a6b1848a1fd", "val": "5347bc89ea61875f", "test": "a016235e1ccde63f",
    }  # fmt: skip


def test_what_has_copies_only_cannot_be_carved(photos: Path) -> None:
    for folder in photos.iterdir():
        first = sorted(folder.iterdir())[0]
        for path in folder.iterdir():
            path.write_bytes(first.read_bytes())
    with pytest.raises(DataError, match=r"none is left for test .* and copies stay together"):
        prepare(photos)


def write_config(tmp_path: Path, root: Path, **data: object) -> Path:
    path = tmp_path / "my.yaml"
    settings = {"source": "image_folder", "root": str(root), "image_size": 32, **data}
    recipe = {"epochs": 1, "batch_size": 16}
    run = {"tensorboard": False, "output": str(tmp_path / "runs")}
    path.write_text(json.dumps({"model": {"name": "lenet5"}, "data": settings, "recipe": recipe, "run": run}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_copies_across_given_folders_are_named(tmp_path: Path, cli: Cli, suffix: str) -> None:
    root = write_photos(tmp_path / "photos", {"train": 8, "val": 4, "test": 5})
    for path in sorted((root / "test").rglob("*.png"))[:7]:
        Image.open(path).save(root / "train" / path.parent.name / f"twin {path.stem}{suffix}")
    shutil.copy(root / "val/red/val 00.png", root / "test/red/twin.png")
    config = write_config(tmp_path, root)
    for command in (("check", config), ("train", config, *NO_REPORT)):
        done = cli(*command)
        assert done.code == 0
        assert (
            "7 of 16 test images are also in the training set (the same pixels): test/blue/test 00.png = " in done.err
        )
        assert f"test/blue/test 00.png = train/blue/twin test 00{suffix}" in done.err
        assert "and 4 more" in done.err
        assert "1 of 16 test images are also in the validation set (the same pixels): test/red/twin.png = " in done.err
    (results,) = (tmp_path / "runs").glob("*/2*/results.json")
    found = json.loads(results.read_text())["splits"]["test"]
    assert found["same_pixels_in_train"] == 7
    assert found["also_in_train"] == (7 if suffix == ".png" else 0)  # byte for byte, as ever
    checked = cli("data", "check", root)
    assert checked.code == 3
    assert "the same image in several splits" in checked.out


def test_a_run_of_an_older_version_keeps_its_images(tmp_path: Path, photos: Path, cli: Cli) -> None:
    copy_all(photos)
    config = write_config(tmp_path, photos)
    assert cli("train", config, *NO_REPORT, "--set", "data.group_copies=none").code == 0
    (run,) = (tmp_path / "runs").glob("*/2*/")
    best = run / "checkpoints" / "best.safetensors"
    make_older(best)
    done = cli("evaluate", run, "--json")
    assert done.code == 0
    assert json.loads(done.out)["same_images_as_in_training"]
    resumed = cli("train", config, "--resume", run, "--epochs", "2", *NO_REPORT)
    assert resumed.code == 0, resumed.err
    assert json.loads((run / "results.json").read_text())["epochs_run"] == 2


def make_older(path: Path) -> None:
    """Takes what older versions did not know of out of a checkpoint's header."""
    import safetensors
    import safetensors.torch

    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    (key,) = set(metadata) - {DIGEST_KEY}
    header = json.loads(metadata[key])
    del header["config"]["data"]["group_copies"]
    content = safetensors.torch.save(safetensors.torch.load_file(path), {key: json.dumps(header), DIGEST_KEY: UNSEALED})
    path.write_bytes(seal(content))
    assert load(path, torch.device("cpu")).header.config.data.group_copies == "none"


def test_photos_that_are_all_jpegs_are_not_decoded_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng, decoded = np.random.default_rng(0), list[Path]()
    for name in ("cat", "dog"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for index in range(8):
            path = tmp_path / "p" / name / f"{name} {index}.jpg"
            Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)).resize((160, 120)).save(path)
            shutil.copy(path, path.with_name(f"copy {path.stem}.jpg"))
    monkeypatch.setattr("cnntrain.data.images.digests.decode_image", lambda *args: decoded.append(args[2]))
    assert not parted(prepare(tmp_path / "p"))
    assert not decoded
