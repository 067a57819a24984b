import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

from cnntrain.config.loading import load_config
from cnntrain.data.batches import eval_batches
from cnntrain.data.prepare import prepare_data, prepare_split
from cnntrain.tasks.evaluation import evaluate
from cnntrain.trained import load


@pytest.fixture(scope="session")
def test_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test images of the digits as files, each named by its position and class."""
    folder = tmp_path_factory.mktemp("digits")
    split = prepare_data(load_config("digits_lenet").config.data).test
    for index, (image, label) in enumerate(zip(split.items(), split.targets.tolist(), strict=True)):
        Image.fromarray(image.squeeze(-1)).save(folder / f"{index:03d} {label}.png")
    return folder


def test_evaluate_and_predict_agree_to_the_last_digit_printed(trained_run: Path, test_images: Path, cli: Cli) -> None:
    trained = load(trained_run / "checkpoints/best.safetensors", torch.device("cpu"))
    split, _, _ = prepare_split(trained.header.data_options, "test", preprocessing=trained.preprocessing)
    found = evaluate(trained.network, eval_batches(split, trained.preprocessing, 64), trained.task)
    lines = [
        line for line in cli("predict", test_images, "--run", trained_run, "--top", 1).out.splitlines() if "%" in line
    ]
    assert len(lines) == len(split) == 359
    expected = [
        f"  {100 * share:6.2f} %  {trained.task.class_names[index]}"
        for share, index in zip(found.confidences.tolist(), found.predictions, strict=True)
    ]
    assert lines == expected


def test_one_image_alone_is_predicted_as_among_others(trained_run: Path, test_images: Path, cli: Cli) -> None:
    first = sorted(test_images.iterdir())[0]
    alone = cli("predict", first, "--run", trained_run).out
    among = cli("predict", test_images, "--run", trained_run).out
    assert among.startswith(alone)
    assert alone.splitlines()[0] == str(first)


def test_evaluate_repeats_the_final_test(trained_run: Path, cli: Cli) -> None:
    results = json.loads((trained_run / "results.json").read_text())
    for split in ("test", "val"):
        summary = json.loads(cli("evaluate", trained_run, "--split", split, "--json").out)
        assert {key: summary[key] for key in results[split]} == results[split]
        assert summary["sha256"] == results["splits"][split]["sha256"]
        assert summary["same_images_as_in_training"]


def test_evaluate_prints_every_figure_as_text(trained_run: Path, cli: Cli) -> None:
    text = cli("evaluate", trained_run).out
    for word in ("loss", "top-1", "top-5", "balanced", "precision", "recall", "F1", "support", "macro average"):
        assert word in text
    assert "most confused" in text
    assert "\x1b" not in text


def test_probabilities_are_ranked_and_add_up(trained_run: Path, test_images: Path, cli: Cli) -> None:
    first = sorted(test_images.iterdir())[0]
    [item] = json.loads(cli("predict", first, "--run", trained_run, "--json", "--top", 99).out)
    shares = [p["probability"] for p in item["predictions"]]
    assert len(shares) == 10
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert len(cli("predict", first, "--run", trained_run, "--top", 3).out.splitlines()) == 4


def test_files_folders_and_globs(trained_run: Path, test_images: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.png", "b.JPG", "deep/c.png", "odd[1].png"):
        shutil.copy(sorted(test_images.iterdir())[0], tmp_path / name)
    (tmp_path / "notes.txt").write_text("x")

    def names(*arguments: object) -> list[str]:
        outcome = cli("predict", *arguments, "--run", trained_run, "--json")
        assert outcome.code == 0, outcome.err
        return [str(Path(item["image"]).relative_to(tmp_path)) for item in json.loads(outcome.out)]

    assert names(tmp_path) == ["a.png", "b.JPG", "deep/c.png", "odd[1].png"]
    assert names(f"{tmp_path}/*.png") == ["a.png", "odd[1].png"]
    assert names(f"{tmp_path}/**/c.png") == ["deep/c.png"]
    assert names(tmp_path / "odd[1].png") == ["odd[1].png"]


def test_unreadable_images_are_named_and_the_others_predicted(
    trained_run: Path, test_images: Path, cli: Cli, tmp_path: Path
) -> None:
    good = sorted(test_images.iterdir())[0]
    (tmp_path / "bad.png").write_bytes(b"nothing")
    outcome = cli(
        "predict", tmp_path / "bad.png", good, tmp_path / "gone.png", "x*y.png", "--run", trained_run, "--json"
    )
    assert outcome.code == 3
    assert [item["image"] for item in json.loads(outcome.out)] == [str(good)]
    for expected in ("bad.png: not an image", "gone.png: cannot be read", "x*y.png: no file matches", "3 of 4 images"):
        assert expected in outcome.err


def test_colour_rotated_and_sixteen_bit_images_are_predicted_alike(
    trained_run: Path, test_images: Path, cli: Cli, tmp_path: Path
) -> None:
    grey = Image.open(sorted(test_images.iterdir())[7])
    exif = Image.Exif()
    exif[0x0112] = 3
    grey.convert("RGB").save(tmp_path / "a.png")
    grey.convert("RGBA").save(tmp_path / "b.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / "c.png")
    grey.rotate(180).save(tmp_path / "d.png", exif=exif)
    grey.quantize(256).save(tmp_path / "e.png")
    found = json.loads(cli("predict", tmp_path, "--run", trained_run, "--json").out)
    assert len(found) == 5
    for item in found[1:]:
        assert [p["class"] for p in item["predictions"]] == [p["class"] for p in found[0]["predictions"]]
        assert item["predictions"][0]["probability"] == pytest.approx(
            found[0]["predictions"][0]["probability"], rel=0.02
        )


def test_the_checkpoint_file_alone_is_enough(trained_run: Path, test_images: Path, cli: Cli, tmp_path: Path) -> None:
    first = sorted(test_images.iterdir())[0]
    expected = cli("predict", first, "--run", trained_run).out
    for source in [
        trained_run / "checkpoints/best.safetensors",
        *sorted(trained_run.glob("checkpoints/step-*.pt"))[-1:],
    ]:
        for file in (source, *source.parent.glob(f"{source.stem}.json")):  # a training checkpoint has its manifest
            shutil.copy(file, tmp_path)
        assert cli("predict", first, "--run", tmp_path / source.name).out == expected


def test_runs_are_found_by_folder_name_and_newest(trained_run: Path, test_images: Path, cli: Cli) -> None:
    first, output = sorted(test_images.iterdir())[0], trained_run.parents[1]
    expected = cli("predict", first, "--run", trained_run).out
    for arguments in ([], ["--run", "digits_lenet"], ["--run", output / "latest"], ["--run", output / "digits_lenet"]):
        assert cli("predict", first, "--output", output, *arguments).out == expected


def test_evaluation_does_not_depend_on_the_batch_size(trained_run: Path) -> None:
    trained = load(trained_run / "checkpoints/best.safetensors", torch.device("cpu"))
    split, _, _ = prepare_split(trained.header.data_options, "test", preprocessing=trained.preprocessing)
    first, second = (
        evaluate(trained.network, eval_batches(split, trained.preprocessing, size), trained.task) for size in (1, 359)
    )
    np.testing.assert_array_equal(first.predictions, second.predictions)
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-3, atol=1e-5)


def test_photos_stored_larger_than_the_network_sees_them(photos: Path, cli: Cli, tmp_path: Path) -> None:
    settings = [
        "data.image_size=16",
        "data.stored_size=20",
        "data.augment=[random_resized_crop]",
        "recipe.batch_size=8",
    ]
    data = f"data={{source: image_folder, root: {photos.name}}}"
    assignments = [part for setting in [data, *settings] for part in ("--set", setting)]
    output = ["--output", tmp_path / "runs"]
    train = cli("train", "digits_lenet", "--data-root", photos.parent, "--epochs", 2, *assignments, *output)
    assert train.code == 0, train.err
    assert "images of 20x20x3, cropped to 16" in train.err
    summary = json.loads(cli("evaluate", "--split", "train", "--json", *output).out)
    found = json.loads(cli("predict", photos / "train", "--json", *output).out)
    right = [Path(item["image"]).parent.name == item["predictions"][0]["class"] for item in found]
    assert len(found) == 36
    assert summary["num_images"] == 27
    assert sum(right) >= summary["accuracy"] * 27  # the same images and nine more


def test_hidden_files_are_not_predicted(trained_run: Path, test_images: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "__MACOSX").mkdir()
    shutil.copy(sorted(test_images.iterdir())[0], tmp_path / "a.png")
    for name in ("._a.png", "__MACOSX/a.png"):
        (tmp_path / name).write_bytes(b"x")
    outcome = cli("predict", tmp_path, "--run", trained_run, "--json")
    assert outcome.code == 0
    assert len(json.loads(outcome.out)) == 1
