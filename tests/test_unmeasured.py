"""Training on everything: without validation, without a test, and without either."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import NO_REPORT, Cli
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ZERO = {"val": ("--set", "data.val_fraction=0"), "test": ("--set", "data.test_fraction=0")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from cnntrain.cli import main

    found = {}
    for zero in ("val", "test", "val test"):
        output = tmp_path_factory.mktemp("runs")
        flags = [flag for name in zero.split() for flag in ZERO[name]]
        fixed = ["--epochs", "2", "--output", str(output), "--quiet"]
        assert main(["train", "digits_lenet", *fixed, *flags, *NO_REPORT]) == 0
        found[zero] = (output / "latest").resolve()
    return found


@pytest.mark.parametrize("zero", ["val", "test", "val test"])
def test_results_say_what_was_not_measured(runs: dict[str, Path], zero: str) -> None:
    results = json.loads((runs[zero] / "results.json").read_text())
    for name in ("val", "test"):
        assert (results[name] is None) == (name in zero.split())
        assert (results["splits"][name]["num_images"] == 0) == (name in zero.split())
    assert results["splits"]["train"]["num_images"] == {"val": 1438, "test": 1618, "val test": 1797}[zero]
    assert results["best_epoch"] == (2 if "val" in zero else results["best_epoch"])
    lines = [json.loads(line) for line in (runs[zero] / "metrics.jsonl").read_text().splitlines()]
    assert all(bool(line["val"]) == ("val" not in zero) for line in lines)


@pytest.mark.parametrize("zero", ["val", "test", "val test"])
def test_what_was_kept_apart_from_nothing_is_not_evaluated(runs: dict[str, Path], zero: str, cli: Cli) -> None:
    for name in ("train", "val", "test"):
        done = cli("evaluate", runs[zero], "--split", name, "--json")
        if name in zero.split():
            assert done.code == 3
            assert f"there are no {name} images: the network was trained with data.{name}_fraction 0" in done.err
            assert "--split train" in done.err
        else:
            assert done.code == 0
            assert json.loads(done.out)["same_images_as_in_training"]


@pytest.mark.parametrize("zero", ["val", "test", "val test"])
def test_everything_downstream_works(runs: dict[str, Path], zero: str, cli: Cli, tmp_path: Path) -> None:
    run = runs[zero]
    page = tmp_path / "report.html"
    done = cli("report", run, "--out", page)
    assert done.code == 0, done.err
    missing = [word for name, word in (("test", "test"), ("val", "validation")) if name in zero.split()]
    assert f"no {' and no '.join(missing)} images" in page.read_text()
    assert "nan" not in page.read_text()
    assert cli("report", run, "--out", page, "--json").code == 0
    compared = cli("report", run, runs["val"] if zero != "val" else runs["test"], "--out", page)
    assert compared.code == 4
    assert "no test result to compare" in compared.err
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / "one.png")
    assert cli("predict", tmp_path / "one.png", "--run", run).code == 0
    exported = cli("export", run, "--format", "safetensors", "--out", tmp_path / f"{zero}.safetensors")
    assert exported.code == 0, exported.err


def test_an_export_is_compared_on_images_that_there_are(runs: dict[str, Path], cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    done = cli("export", runs["val test"], "--out", tmp_path / "net.onnx")
    assert done.code == 0, done.err
    assert "training images" in done.out + done.err + (tmp_path / "net.onnx.json").read_text()


def test_the_last_epochs_weights_are_kept_and_early_stopping_is_off(cli: Cli, tmp_path: Path) -> None:
    done = cli(
        "train", "digits_lenet", "--epochs", 3, "--output", tmp_path, *ZERO["val"], *NO_REPORT,
        "--set", "recipe.early_stopping={metric: accuracy, patience: 1}",
    )  # fmt: skip
    assert done.code == 0
    assert "recipe.early_stopping is off, and the weights of the last epoch are kept" in done.err
    run = (tmp_path / "latest").resolve()
    assert json.loads((run / "results.json").read_text())["best_epoch"] == 3
    events = EventAccumulator(str(run)).Reload()
    assert "train/loss" in events.Tags()["scalars"]
    assert not [tag for tag in events.Tags()["scalars"] if tag.startswith("val/")]


def test_more_epochs_go_on_as_if_they_had_been_asked_for(cli: Cli, tmp_path: Path) -> None:
    constant = ("--set", "recipe.schedule.name=constant", "--set", "recipe.schedule.warmup_fraction=0")
    zero = (*ZERO["val"], *ZERO["test"], *constant, *NO_REPORT)
    for name, epochs in (("whole", 3), ("parts", 2)):
        assert cli("train", "digits_lenet", "--epochs", epochs, "--output", tmp_path / name, *zero).code == 0
    parts, whole = ((tmp_path / name / "latest").resolve() for name in ("parts", "whole"))
    resumed = cli("train", "--resume", parts, "--epochs", 3)
    assert resumed.code == 0, resumed.err
    from safetensors.numpy import load_file

    first, second = (load_file(run / "checkpoints" / "best.safetensors") for run in (parts, whole))
    assert all(np.array_equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("recipe.schedule.name=reduce_on_plateau", "reduce_on_plateau watches validation"),
        ("recipe.temperature_scaling=true", "a temperature is fitted on validation"),
    ],
)
def test_what_needs_validation_is_refused(cli: Cli, setting: str, expected: str) -> None:
    done = cli("check", "digits_lenet", *ZERO["val"], "--set", setting)
    assert done.code == 2
    assert expected in done.err
    assert "data.val_fraction" in done.err


@pytest.mark.parametrize("zero", ["val", "test", "val test"])
def test_other_commands_do_without_them(cli: Cli, zero: str) -> None:
    flags = [flag for name in zero.split() for flag in ZERO[name]]
    assert cli("check", "digits_lenet", *flags).code == 0
    checked = cli("data", "check", "digits_lenet", *flags)
    assert checked.code == 0
    assert f"none (data.{zero.split()[0]}_fraction: 0)" in checked.out
    assert "missing in a split" not in checked.out


def test_a_band_without_a_test_is_not_reproduced(cli: Cli, tmp_path: Path) -> None:
    done = cli("reproduce", "digits_lenet", "--epochs", 1, "--output", tmp_path, *ZERO["test"], *NO_REPORT)
    assert done.code == 8
    assert "nothing was tested" in done.err


def test_many_classes_of_two_images_can_be_trained(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(300):
        (tmp_path / "p" / f"{number:03d}").mkdir(parents=True)
        for index in range(2):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "p" / f"{number:03d}" / f"{index}.png")
    config = tmp_path / "my.yaml"
    config.write_text(
        f"model: {{name: lenet5}}\ndata: {{source: image_folder, root: '{tmp_path / 'p'}', image_size: 32, "
        f"val_fraction: 0, test_fraction: 0}}\nrecipe: {{epochs: 1}}\nrun: {{output: '{tmp_path / 'runs'}'}}\n"
    )
    done = cli("train", config, *NO_REPORT)
    assert done.code == 0, done.err
    refused = cli("train", config, *NO_REPORT, "--set", "data.test_fraction=0.2", "--set", "data.val_fraction=0.1")
    assert refused.code == 3
    assert "do without (data.val_fraction: 0)" in refused.err
