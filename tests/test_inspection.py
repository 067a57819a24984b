"""Looking at data before training: what is found, what is not, and what training would see."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, Outcome, write_photos
from PIL import Image, ImageEnhance
from scipy.fft import dctn  # type: ignore[import-untyped]

from cnntrain.config.loading import load_config
from cnntrain.config.schema import Data
from cnntrain.data.batches import Batch
from cnntrain.data.images.similar import chance_limit, near_pairs, perceptual_hash
from cnntrain.data.prepare import prepare_data
from cnntrain.data.reporter import Silent
from cnntrain.data.sources import SOURCES
from cnntrain.data.sources.digits import DIGITS, digits
from cnntrain.insight.data_check.look import look_at
from cnntrain.insight.data_check.report import Report, inspect_data
from cnntrain.insight.data_check.samples import Sample
from cnntrain.reports.data_check.preview import first_images
from cnntrain.training.loop import train_step
from cnntrain.training.state import TrainingState


def inspect(root: Path, **settings: Any) -> Report:
    return inspect_data(Data(source="image_folder", root=str(root), **settings), Silent(), knows_size=False)


def found(report: Report) -> dict[str, list[tuple[str, ...]]]:
    """Names by finding."""
    return {finding.name: [item.names for item in finding.items] for finding in report.findings}


def severities(report: Report) -> dict[str, str]:
    return {finding.name: finding.severity for finding in report.findings}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos in train, val and test, none of them twice."""
    root = tmp_path / "photos"
    rng = np.random.default_rng(1)
    for part, count in {"train": 10, "val": 3, "test": 3}.items():
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
                picture = Image.fromarray(small).resize((80, 80), Image.Resampling.BICUBIC)
                picture.save(root / part / name / f"{part} {number}.png")
    return root


def test_clean_folders_have_no_findings(folder: Path, cli: Cli) -> None:
    assert not inspect(folder).findings
    outcome = cli("data", "check", folder)
    assert outcome.code == 0
    assert "nothing found" in outcome.out


def test_the_same_file_in_two_splits_is_a_problem(folder: Path) -> None:
    shutil.copy(folder / "train/cat/train 0.png", folder / "test/cat/other.png")
    report = inspect(folder)
    name = "the same image in several splits"
    assert found(report) == {name: [("test/cat/other.png", "train/cat/train 0.png")]} or found(report) == {
        name: [("train/cat/train 0.png", "test/cat/other.png")]
    }
    assert severities(report)[name] == "problem"


def test_the_same_image_in_two_classes_is_a_problem(folder: Path) -> None:
    shutil.copy(folder / "train/cat/train 0.png", folder / "train/dog/other.png")
    report = inspect(folder)
    name = "the same image in several classes"
    assert found(report) == {name: [("train/cat/train 0.png", "train/dog/other.png")]}
    assert severities(report)[name] == "problem"


def test_the_same_pixels_in_another_format_are_the_same_image(folder: Path) -> None:
    Image.open(folder / "train/cat/train 0.png").save(folder / "train/cat/other.bmp")
    report = inspect(folder)
    assert set(found(report)["the same image more than once"][0]) == {"train/cat/train 0.png", "train/cat/other.bmp"}
    assert report.findings[0].items[0].detail == "same pixels"
    assert report.findings[0].severity == "warning"


def reencoded(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=40)
    return Image.open(buffer)


def halved(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


def darker(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.8)


@pytest.mark.parametrize("change", [reencoded, halved, darker])
def test_changed_copies_are_found_among_real_photos_and_no_others(real_data: Path, tmp_path: Path, change: Any) -> None:
    root = tmp_path / "photos"
    shutil.copytree(real_data / "hymenoptera", root)
    planted = []
    for original in sorted((root / "train/bees").glob("*.jpg"))[:20]:
        copy = root / "val/ants" / f"copy {original.name}"
        change(Image.open(original).convert("RGB")).save(copy, quality=90)
        planted.append((f"train/bees/{original.name}", f"val/ants/{copy.name}"))
    report = inspect(root)
    for name in ("nearly the same image in several splits", "nearly the same image in several classes"):
        across = {tuple(sorted(group)) for group in found(report)[name]}
        assert across <= set(planted)
        assert len(across) >= 19
        assert severities(report)[name] == "warning"
    assert "nearly the same image more than once" not in found(report)


def test_distinct_photos_are_no_copies(real_data: Path) -> None:
    assert not [name for name in found(inspect(real_data / "hymenoptera")) if "same image" in name]


def test_handwritten_digits_are_no_copies_of_each_other(cli: Cli) -> None:
    outcome = cli("data", "check", "digits_lenet")
    assert outcome.code == 0
    assert "nothing found" in outcome.out


def test_copies_that_carving_would_part_are_a_leak_with_its_own_seed(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"": 20}, ("cat", "dog"))
    for index in range(8):
        shutil.copy(tmp_path / f"photos/cat/ {index:02d}.png", tmp_path / f"photos/cat/copy {index:02d}.png")
    for seed, group_copies in ((0, "none"), (1, "none"), (0, "exact"), (1, "near")):
        settings = {
            "root": str(tmp_path / "photos"),
            "image_size": 16,
            "split_seed": seed,
            "group_copies": group_copies,
        }
        config = Data.model_validate({"source": "image_folder", **settings})
        splits = prepare_data(config)
        where = {name: split for split in ("train", "val", "test") for name in getattr(splits, split).names}
        parted = {
            (f"cat/ {index:02d}.png", f"cat/copy {index:02d}.png")
            for index in range(8)
            if where[f"photos/cat/ {index:02d}.png"] != where[f"photos/cat/copy {index:02d}.png"]
        }
        report = inspect_data(config, Silent())
        assert bool(parted) == (group_copies == "none")
        leaks = found(report).get("the same image in several splits", [])
        assert {tuple(sorted(group)) for group in leaks} == parted
        assert {s.name: s.split for s in report.inventory.samples} == {
            name.removeprefix("photos/"): split for name, split in where.items()
        }


def test_named_sets_are_checked_for_leaks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    source = digits()
    part: Any = source.parts["train"]
    images = part.images.copy()
    images[17] = images[4]  # a one and a four of the same pixels
    changed = type(part)(part.name, images, part.labels)
    other = replace(source, parts={"train": changed})
    monkeypatch.setitem(SOURCES, "digits", replace(DIGITS, open=lambda _: other))
    report = inspect_data(Data(source="digits"), Silent())
    assert ("digits/4", "digits/17") in found(report)["the same image in several classes"]
    splits = prepare_data(Data(source="digits"))
    for name in ("train", "val", "test"):
        assert sum(counts[name] for counts in report.counts.values()) == len(getattr(splits, name))
        assert {s.name for s in report.inventory.samples if s.split == name} == set(getattr(splits, name).names)


def test_flat_images_are_no_near_copies() -> None:
    flat = np.repeat(np.arange(40, dtype=np.uint8), 16 * 16 * 3).reshape(40, 16, 16, 3)
    assert not sum(len(pairs) for pairs in near_pairs(flat, Silent()))


def test_the_hash_is_that_of_scipys_cosine_transform() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    grey = thumbnails @ np.array([0.299, 0.587, 0.114])
    spectrum = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(20, 64)
    expected = spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True)
    assert (perceptual_hash(thumbnails) == expected).mean() > 0.999


def test_near_pairs_are_all_pairs_that_a_plain_search_finds() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    noise = rng.integers(-12, 13, base.shape)
    thumbnails = np.concatenate([base, np.clip(base + noise, 0, 255).astype(np.uint8)])
    hashes = perceptual_hash(thumbnails)
    values = thumbnails.reshape(len(thumbnails), -1).astype(np.float64)
    limit = chance_limit(thumbnails)
    expected = {
        (first, second)
        for first in range(len(values))
        for second in range(first + 1, len(values))
        if (hashes[first] != hashes[second]).sum() <= 6
        and np.corrcoef(values[first], values[second])[0, 1] >= 1 - limit
    }
    pairs = [tuple(sorted(pair)) for some in near_pairs(thumbnails, Silent()) for pair in some.tolist()]
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == expected
    assert len(expected) > 250


def test_copies_are_found_where_every_image_has_one() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(20, 230, (8, 16, 16, 3))
    thumbnails = np.concatenate([base, base + rng.integers(-9, 10, base.shape)]).astype(np.uint8)
    pairs = {tuple(sorted(pair)) for some in near_pairs(thumbnails, Silent()) for pair in some.tolist()}
    assert pairs == {(index, index + 8) for index in range(8)}


def test_images_alike_by_nature_need_to_be_more_alike_to_be_copies() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 190, (16, 16, 3))
    varied = rng.integers(0, 256, (500, 16, 16, 3), dtype=np.uint8)
    alike = (scene + rng.integers(-6, 7, (500, 16, 16, 3))).astype(np.uint8)
    assert chance_limit(varied) == 0.04
    assert chance_limit(alike) < 0.01
    assert not sum(len(pairs) for pairs in near_pairs(alike, Silent()))
    alike[7] = alike[400] - 3  # darker
    assert [pair for pairs in near_pairs(alike, Silent()) for pair in pairs.tolist()] in ([[7, 400]], [[400, 7]])


NOISE = np.random.default_rng(3).integers(0, 256, (50, 50, 3), dtype=np.uint8)
ODD: dict[str, tuple[str, Any]] = {
    "no image, though named like one": ("x.jpg", b"hello"),
    "damaged, cut off or not there": ("x.png", "half"),
    "grey among colour": ("x.png", Image.effect_noise((50, 50), 90)),
    "CMYK": ("x.jpg", Image.effect_noise((50, 50), 90).convert("CMYK")),
    "with a palette": ("x.png", Image.fromarray(NOISE).quantize(64)),
    "of more than 8 bits": ("x.png", Image.fromarray(np.arange(2500, dtype=np.uint16).reshape(50, 50) * 9)),
    "with transparency": ("x é <b>.png", Image.effect_noise((50, 50), 90).convert("RGBA")),
    "very small (below 32 px)": ("x.png", Image.effect_noise((50, 20), 90).convert("RGB")),
    "long and narrow (over 3 : 1)": ("x.png", Image.effect_noise((200, 50), 90).convert("RGB")),
    "of a single colour": ("x.png", Image.new("RGB", (64, 64), "white")),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_images_are_found(folder: Path, name: str) -> None:
    file, content = ODD[name]
    path = folder / "train/cat" / file
    if content == "half":
        whole = (folder / "train/cat/train 0.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content.save(path)
    report = inspect(folder)
    assert found(report)[name] == [(f"train/cat/{file}",)]
    wanted = {"no": "problem", "damaged,": "problem", "CMYK": "warning", "long": "warning", "of a": "warning"}
    assert severities(report)[name] == next((wanted[word] for word in wanted if name.startswith(word)), "notice")


def test_images_that_training_cannot_read_are_exactly_those_reported(folder: Path, cli: Cli) -> None:
    (folder / "train/cat/empty.jpg").touch()
    whole = (folder / "train/cat/train 0.png").read_bytes()
    (folder / "train/cat/half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train/dog/lfs.png").write_text("version https://git-lfs.github.com/spec/v1")
    (folder / "val/dog/page.webp").write_text("<!DOCTYPE html>")
    names = {name for finding in inspect(folder).findings[:2] for item in finding.items for name in item.names}
    outcome = cli("train", "image_folder_resnet18", "--set", f"data.root={folder}", "--set", "data.splits=null")
    assert names == {"train/cat/empty.jpg", "train/cat/half.png", "train/dog/lfs.png", "val/dog/page.webp"}
    assert "3 of 23 images" in outcome.err  # training tells of the first folder that has any
    assert all(name in outcome.err for name in names - {"val/dog/page.webp"})


def test_with_on_error_skip_unreadable_images_are_a_warning(folder: Path) -> None:
    (folder / "train/cat/empty.jpg").touch()
    assert severities(inspect(folder, on_error="skip")) == {"no image, though named like one": "warning"}


def test_exif_rotation_and_animation_are_noticed(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((60, 50), 90).convert("RGB").save(folder / "train/cat/turned.jpg", exif=exif)
    frames = [Image.effect_noise((50, 50), 90) for _ in range(2)]
    frames[0].save(folder / "train/cat/moving.gif", save_all=True, append_images=frames[1:])
    report = inspect(folder)
    assert found(report)["turned by their EXIF data"] == [("train/cat/turned.jpg",)]
    assert found(report)["with several frames"] == [("train/cat/moving.gif",)]
    assert severities(report)["turned by their EXIF data"] == "notice"


def test_a_link_to_nothing_is_a_problem(folder: Path) -> None:
    (folder / "train/cat/gone.png").symlink_to(folder / "nowhere")
    assert found(inspect(folder))["damaged, cut off or not there"] == [("train/cat/gone.png",)]


def test_an_image_of_one_pixel_and_a_bomb_do_not_stop_it(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    one, bomb = (look_at(Sample(name, "c", "train", tmp_path / name)) for name in ("one.png", "bomb.png"))
    assert (one.fault, one.width) == ("", 1)
    assert bomb.fault.startswith("too large: 2,000 MB of memory are needed to decode 20,000 x 20,000 pixels")


def test_strays_are_found(folder: Path) -> None:
    (folder / "train/loose.png").write_bytes((folder / "train/cat/train 0.png").read_bytes())
    (folder / "train/cat/notes.txt").touch()
    (folder / "train/cat/.DS_Store").touch()
    (folder / "train/cat/__MACOSX/deep").mkdir(parents=True)
    (folder / "val/dog/empty").mkdir()
    (folder / "extra").mkdir()
    (folder / "labels.csv").touch()
    (folder / "train/dog/linked").symlink_to(folder / "val/dog")
    (folder / "train/dog/one.png").symlink_to(folder / "train/dog/train 0.png")
    names = found(inspect(folder))
    assert names["images in no class folder"] == [("train/loose.png",)]
    assert names["files that are no images"] == [("train/cat/notes.txt",), ("labels.csv",)]
    assert names["hidden files and folders"] == [("train/cat/__MACOSX/",), ("train/cat/.DS_Store",)]
    assert names["empty folders"] == [("val/dog/empty/",)]
    assert names["folders that are not used"] == [("extra/",)]
    assert names["links to folders"] == [("train/dog/linked/",)]
    assert names["links to images"] == [("train/dog/one.png",)]


def test_a_class_folder_may_be_a_link_as_in_training(folder: Path, tmp_path: Path) -> None:
    (folder / "train/dog").rename(tmp_path / "elsewhere")
    (folder / "train/dog").symlink_to(tmp_path / "elsewhere")
    report = inspect(folder)
    assert report.counts["dog"] == {"train": 10, "val": 3, "test": 3}
    assert not report.findings


def test_small_missing_and_unequal_classes_are_found(folder: Path) -> None:
    shutil.rmtree(folder / "test/dog")
    for number in range(2, 10):
        (folder / f"train/dog/train {number}.png").unlink()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"train/cat/more {number}.png")
    names = found(inspect(folder))
    assert names["missing in a split"] == [("dog",)]
    assert names["classes with few images (below 10)"] == [("dog",)]
    assert names["classes of very different size"] == [("cat",), ("dog",)]


def break_no_classes(root: Path) -> None:
    for path in list(root.rglob("*.png")):
        path.rename(root / f"{path.parent.name} {path.name}")
    remove(root, "train", "val", "test")


def touch(path: Path) -> None:
    path.parent.mkdir()
    path.touch()


def remove(root: Path, *patterns: str) -> None:
    for path in [path for pattern in patterns for path in root.glob(pattern)]:
        shutil.rmtree(path)


BROKEN: dict[str, tuple[Any, str, int]] = {
    "no train": (lambda root: remove(root, "train"), "has no folder train/", 12),
    "a class of its own": (
        lambda root: (root / "test/cat").rename(root / "test/Cat"),
        'lacks: "Cat"; "cat" differs only in case',
        32,
    ),
    "one class": (lambda root: remove(root, "*/dog"), 'one class only ("cat")', 16),
    "no classes": (break_no_classes, "holds images but no class folders", 32),
    "nothing": (lambda root: remove(root, "*"), "is empty", 0),
    "a class without images": (lambda root: touch(root / "train/cow/list.csv"), 'no images of "cow"', 32),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_layout_that_training_refuses_is_a_finding(folder: Path, cli: Cli, name: str) -> None:
    damage, message, num_images = BROKEN[name]
    damage(folder)
    report = inspect(folder)
    assert report.findings[0].name == "training would refuse this folder"
    assert message in report.findings[0].items[0].names[0]
    assert len(report.inventory.samples) == num_images
    outcome = cli("data", "check", folder)
    assert outcome.code == 3
    assert message in outcome.out


def test_a_configuration_says_which_images_are_too_small(folder: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("model: resnet20\ndata: {source: image_folder, root: photos, image_size: 96}\n")
    arguments = ["data", "check", tmp_path / "my.yaml", "--data-root", tmp_path]
    assert "smaller than the network's image_size (96 px)" in cli(*arguments).out
    assert "nothing found" in cli(*arguments, "--set", "data.image_size=64").out


def exit_codes(cli: Cli, folder: Path) -> tuple[int, int]:
    return cli("data", "check", folder, "--quiet").code, cli("data", "check", folder, "--quiet", "--strict").code


def test_exit_codes_follow_the_worst_severity(folder: Path, cli: Cli) -> None:
    assert exit_codes(cli, folder) == (0, 0)
    (folder / "train/cat/notes.txt").touch()
    assert exit_codes(cli, folder) == (0, 0)
    shutil.copy(folder / "train/cat/train 0.png", folder / "train/cat/copy.png")
    assert exit_codes(cli, folder) == (0, 3)
    (folder / "train/cat/empty.png").touch()
    assert exit_codes(cli, folder) == (3, 3)


def test_json_lists_every_file(folder: Path, cli: Cli) -> None:
    for number in range(30):
        (folder / f"train/cat/empty {number}.png").touch()
    outcome = cli("data", "check", folder, "--json")
    report = json.loads(outcome.out)
    assert outcome.code == 3
    (finding,) = report["findings"]
    assert (finding["severity"], finding["count"], len(finding["items"])) == ("problem", 30, 30)
    assert finding["items"][0] == {
        "detail": "not an image but an empty file",
        "members": [{"name": "train/cat/empty 0.png", "class": "cat", "split": "train"}],
    }
    assert report["classes"]["dog"] == {"train": 10, "val": 3, "test": 3}
    assert report["sizes"]["width"] == {"min": 80, "median": 80.0, "max": 80}
    assert "... and 25 more" in cli("data", "check", folder).out


def test_names_that_cannot_be_shown_are_written_out(folder: Path, cli: Cli, tmp_path: Path) -> None:
    for raw in (b"\xff.png", b"two\nlines.png", b"\x1b[31mred.png"):
        with open(bytes(folder) + b"/train/cat/" + raw, "wb"):  # noqa: PTH123 (bytes that are no UTF-8)
            pass
    outcome = cli("data", "check", folder, "--page", tmp_path / "check.html")
    assert outcome.code == 3
    for name in ("\\udcff.png", "two\\nlines.png", "\\x1b[31mred.png"):
        assert f"train/cat/{name}" in outcome.out
        assert f"train/cat/{name}" in (tmp_path / "check.html").read_text()
    assert cli("data", "check", folder, "--json").code == 3


def test_the_page_shows_pairs_and_escapes_names(folder: Path, cli: Cli, tmp_path: Path) -> None:
    evil = '<b>"dogs" & co'
    for part in ("train", "val", "test"):
        (folder / part / "dog").rename(folder / part / evil)
    shutil.copy(folder / "train/cat/train 0.png", folder / "test" / evil / "other.png")
    outcome = cli("data", "check", folder, "--page", tmp_path / "check.html")
    page = (tmp_path / "check.html").read_text()
    assert outcome.code == 3
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert page.count("<img") == 2 + 2 + 2  # a pair in two findings, and a sample of two classes
    assert page.count("<img") == page.count(' alt="')
    assert "http" not in page.replace("https://", "http://").replace("http://www.w3.org", "")


def test_a_hundred_classes_fit_text_and_page(tmp_path: Path, cli: Cli) -> None:
    write_photos(tmp_path / "photos", {"train": 3, "test": 1}, tuple(f"class {index:03d}" for index in range(100)))
    outcome = cli("data", "check", tmp_path / "photos", "--page", tmp_path / "check.html")
    assert outcome.code in (0, 3)
    assert len(outcome.out.splitlines()) < 80
    assert (tmp_path / "check.html").read_text().count("class 099") >= 2


def previewed(cli: Cli, tmp_path: Path, *arguments: object) -> tuple[Outcome, Image.Image]:
    outcome = cli("data", "preview", *arguments, "--out", tmp_path / "preview.png")
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "preview.png") as picture:
        return outcome, picture.copy()


AUGMENTED = """
model: lenet5
data:
  source: digits
  augment: [{random_crop: {padding: 3}}, {rotation: {degrees: 20}}, mixup]
recipe: {epochs: 2, batch_size: 48}
run: {seed: 5}
"""


def test_the_preview_is_the_first_batch_of_training(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my.yaml").write_text(AUGMENTED)
    batches = []

    def step(state: TrainingState, batch: Batch, *rest: Any, **more: Any) -> Any:
        batches.append((batch.images.clone(), batch.targets.clone()))
        return train_step(state, batch, *rest, **more)

    monkeypatch.setattr("cnntrain.training.loop.train_step", step)
    assert cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs").code == 0
    config = load_config(str(tmp_path / "my.yaml")).config
    splits = prepare_data(config.data)
    for epoch, (images, targets) in ((1, batches[0]), (2, batches[len(batches) // 2])):
        preview = first_images(config, Silent(), num_images=32, epoch=epoch)
        assert np.array_equal(preview.after, splits.preprocessing.show(images[:32]).numpy())
        for text, target, label in zip(preview.targets, targets, preview.labels, strict=False):
            shares = {splits.class_names[k]: float(target[k]) for k in target.nonzero().flatten().tolist()}
            assert label in shares
            for line in text.splitlines() if "%" in text else ():
                share, _, name = line.partition(" % ")
                assert abs(shares[name] - float(share) / 100) < 0.006
    assert any("%" in text for text in preview.targets)


def test_before_are_the_images_as_they_are_stored(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(AUGMENTED)
    config = load_config(str(tmp_path / "my.yaml")).config
    splits = prepare_data(config.data)
    preview = first_images(config, Silent(), num_images=60)  # more than a batch
    names = list(splits.train.names)
    positions = [names.index(name) for name in preview.names]
    assert len(set(positions)) == 60
    assert np.array_equal(preview.before, splits.train.items(positions))
    assert preview.labels == [splits.class_names[k] for k in splits.train.targets[torch.tensor(positions)].tolist()]


def test_the_preview_is_a_png_of_pairs_and_says_where(cli: Cli, tmp_path: Path, photos: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "model: resnet20\ndata: {source: image_folder, root: photos, image_size: 24, stored_size: 30, "
        "augment: [random_crop, cutmix]}\nrecipe: {progressive_resizing: {initial_size: 16}, epochs: 9}\n"
    )
    config = load_config(str(tmp_path / "my.yaml"), [f"run.data_root={tmp_path}"]).config
    sizes = [first_images(config, Silent(), num_images=6, epoch=epoch).after.shape[1] for epoch in (1, 9)]
    assert sizes == [16, 24]
    outcome, picture = previewed(cli, tmp_path, tmp_path / "my.yaml", "--data-root", tmp_path, "--images", 6)
    assert picture.size == (8 * 100 + 4, picture.height)
    assert f"wrote {tmp_path / 'preview.png'}: 6 images" in outcome.out
    previewed(cli, tmp_path, tmp_path / "my.yaml", "--data-root", tmp_path, "--images", 500)  # may be replaced


def test_somebody_elses_picture_is_not_replaced(cli: Cli, tmp_path: Path) -> None:
    for name in ("mine.png", "broken.png"):
        (tmp_path / name).write_bytes(b"mine")
    Image.new("RGB", (9, 9)).save(tmp_path / "mine.png")
    for name in ("mine.png", "broken.png"):
        before = (tmp_path / name).read_bytes()
        outcome = cli("data", "preview", "digits_lenet", "--out", tmp_path / name)
        assert outcome.code == 2
        assert (tmp_path / name).read_bytes() == before


def test_a_photo_that_is_cut_off_before_its_pixels_is_damaged_and_no_stranger(folder: Path) -> None:
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(whole, "JPEG")
    (folder / "train/cat/cut.jpg").write_bytes(whole.getvalue()[:40])
    assert found(inspect(folder))["damaged, cut off or not there"] == [("train/cat/cut.jpg",)]


def test_a_refusal_is_told_beside_what_may_be_wrong_with_the_classes(tmp_path: Path) -> None:
    for place, colour in (("animals/cat", "red"), ("plants/tree", "green")):
        (tmp_path / place).mkdir(parents=True)
        for index in range(3):  # copies, which stay together, so that none is left for test
            Image.new("RGB", (16, 16), colour).save(tmp_path / place / f"{index}.png")
    report = inspect(tmp_path)
    assert report.findings[0].severity == "problem"
    assert {"training would refuse this folder", "classes that may not be what you mean"} <= set(severities(report))
