"""`cnntrain reproduce`, its bands, and the table of results that scripts/reproduce writes."""

import argparse
import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from pydantic import ValidationError

from cnntrain.config.loading import dump_config, load_config, parse_config
from cnntrain.config.schema import Expect
from cnntrain.config.shipped import shipped_configs
from cnntrain.runs.reproduce import changed_keys, compare
from cnntrain.trained import load

ROOT = Path(__file__).parent.parent
QUICK = ["--epochs", "1", "--set", "run.tensorboard=false", "--quiet"]


def band(low: float, high: float) -> list[str]:
    return ["--set", f"expect={{accuracy: [{low}, {high}], basis: measured, note: From a test.}}"]


@pytest.mark.parametrize(
    ("accuracy", "reproduced", "text"),
    [
        (0.99167, True, "reproduced: test accuracy 99.17 %, within 98.60 to 99.60 % (measured)"),
        (0.986, True, "reproduced: test accuracy 98.60 %, within 98.60 to 99.60 % (measured)"),
        (0.996, True, "reproduced: test accuracy 99.60 %, within 98.60 to 99.60 % (measured)"),
        (0.98, False, "not reproduced: test accuracy 98.00 %, below 98.60 to 99.60 % (measured)"),
        (1.0, False, "not reproduced: test accuracy 100.00 %, above 98.60 to 99.60 % (measured)"),
    ],
)
def test_the_ends_of_a_band_are_inside(accuracy: float, reproduced: bool, text: str) -> None:
    test = {"accuracy": accuracy, "top5_accuracy": 0.1}  # no band for it is stated
    assert compare(test, Expect(accuracy=(0.986, 0.996), basis="measured")) == (reproduced, text)


def test_top5_accuracy_counts_where_it_is_stated() -> None:
    expect = Expect(accuracy=(0.5, 0.6), top5_accuracy=(0.8, 0.9), basis="published")
    within = compare({"accuracy": 0.55, "top5_accuracy": 0.9}, expect)
    assert within.reproduced
    assert within.text.endswith("within 50.00 to 60.00 %; top-5 accuracy 90.00 %, within 80.00 to 90.00 % (published)")
    assert not compare({"accuracy": 0.55, "top5_accuracy": 0.7}, expect).reproduced
    missing = compare({"accuracy": 0.55}, expect)
    assert not missing.reproduced
    assert "no top-5 accuracy, which needs more than 5 classes; expected 80.00 to 90.00 %" in missing.text


@pytest.mark.parametrize("accuracy", [(0.9, 0.8), (98.6, 99.6), (0.9,), (-0.1, 0.5)])
def test_a_band_is_two_ascending_fractions(accuracy: tuple[float, ...]) -> None:
    for bands in ({"accuracy": accuracy}, {"accuracy": (0, 1), "top5_accuracy": accuracy}):
        with pytest.raises(ValidationError):
            Expect.model_validate({**bands, "basis": "measured"})


def test_shipped_bands_survive_the_resolved_config() -> None:
    for name in shipped_configs():
        config = load_config(name).config
        assert parse_config(dump_config(config), "dumped").expect == config.expect
    assert load_config("digits_lenet").config.expect is not None


@pytest.mark.parametrize(
    ("assignments", "changed"),
    [
        ([], []),
        (["recipe.epochs=60"], []),  # as in the file
        (["recipe.epochs=2", "recipe.optimizer.lr=0.1"], ["recipe.epochs", "recipe.optimizer"]),
        (["model={name: sequential, layers: [flatten]}"], ["model.name", "model.variant"]),
        (["data.image_size=28", "data.augment=[]"], ["data.image_size", "data.augment"]),
        (["data.source=image_folder", "data.root=photos", "data.splits={test: val}"], []),
        (["data.source=mnist"], ["data.source"]),
        (["run.seed=3", "run.device=cpu", "expect=null"], []),
    ],
)
def test_only_what_changes_the_result_counts_as_changed(assignments: list[str], changed: list[str]) -> None:
    found = changed_keys(load_config("digits_lenet").config, load_config("digits_lenet", assignments).config)
    assert found[: len(changed)] == changed
    assert bool(found) == bool(changed)


def test_a_result_within_the_band_is_reproduced(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("reproduce", "digits_lenet", *QUICK, *band(0, 1), "--seed", 4, "--output", tmp_path)
    assert outcome.code == 0, outcome.err
    trained, _, verdict, note = outcome.out.splitlines()
    assert trained.startswith("test accuracy ")
    assert verdict.startswith("reproduced: test accuracy ")
    assert verdict.endswith(" %, within 0.00 to 100.00 % (measured)")
    assert note.startswith("note: the band is for ")
    assert note.endswith("digits_lenet.yaml as it stands; changed here: recipe.epochs")
    assert json.loads((tmp_path / "latest/results.json").read_text())["seed"] == 4
    # the band is kept with the run and with its weights
    expect = load_config(str(tmp_path / "latest/config.yaml")).config.expect
    assert expect == Expect(accuracy=(0, 1), basis="measured", note="From a test.")
    header = load(tmp_path / "latest/checkpoints/best.safetensors", torch.device("cpu")).header
    assert header.config.expect == expect


def test_a_result_outside_the_band_is_an_error_and_the_run_is_kept(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("reproduce", "digits_lenet", *QUICK, *band(0.999, 1), "--output", tmp_path)
    assert outcome.code == 8
    assert "error: not reproduced: test accuracy " in outcome.err
    assert " %, below 99.90 to 100.00 % (measured); the run is kept: cnntrain evaluate " in outcome.err
    assert "changed here: recipe.epochs" in outcome.err
    assert outcome.err.endswith("the band: From a test.\n")
    assert len(outcome.out.splitlines()) == 2
    assert (tmp_path / "latest/results.json").exists()


# What follows is about the scripts.


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names in scripts/reproduce and in the table that it imports."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return runpy.run_path(str(ROOT / "scripts/results_table.py")) | runpy.run_path(str(ROOT / "scripts/reproduce"))


def described(name: str, *assignments: str) -> dict[str, Any]:
    """As scripts/reproduce asks for it."""
    stated, used = load_config(name).config, load_config(name, assignments).config
    changes = {key: getattr(used.recipe, key.partition(".")[2]) for key in changed_keys(stated, used)}
    return {"stated": stated.model_dump(mode="json"), "used": used.model_dump(mode="json"), "changes": changes}


def result(seed: int, accuracy: float) -> dict[str, Any]:
    return {
        "test": {"accuracy": accuracy, "top5_accuracy": 1.0},
        "seed": seed,
        "epochs_run": 60,
        "train_seconds": 6.0 + seed,
        "images_per_second": 17_000.4,
        "parameters": 61_706,
        "precision": "bfloat16",
        "device": "cpu, 2 threads",
        "versions": {"torch": "2.10.0"},
    }


def record(script: dict[str, Any], *accuracies: float, settings: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    results = [result(seed, accuracy) for seed, accuracy in enumerate(accuracies)]
    made = script["build_record"]("digits_lenet", described("digits_lenet", *settings), results, None)
    return {**made, "machine": "a machine", "commit": "abc1234", "date": "2026-01-31", **more}


def test_the_script_asks_cnntrain_how_configurations_are_used(
    script: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    describe = script["describe"]
    monkeypatch.setitem(describe.__globals__, "PYTHON", sys.executable)
    found = describe(["digits_lenet"], ["recipe.epochs=2", "data.source=mnist"])
    assert list(found) == list(shipped_configs())
    assert found["digits_lenet"]["changes"] == {"data.source": "mnist", "recipe.epochs": 2}
    assert found["digits_lenet"]["used"]["data"]["source"] == "mnist"
    assert found["digits_lenet"]["stated"] == load_config("digits_lenet").config.model_dump(mode="json")
    assert found["mnist_lenet"]["changes"] == {}
    with pytest.raises(subprocess.CalledProcessError):
        describe(["digits_lenet"], ["recipe.epochs=two"])
    assert capfd.readouterr().err == (
        "error: --set recipe.epochs=two: recipe.epochs: must be a whole number (got 'two')\n"
    )


def test_a_record_holds_every_seed_and_their_summary(script: dict[str, Any]) -> None:
    made = record(script, 0.98, 0.99, 0.5)
    assert made["data"] == "digits (scikit-learn)"
    assert made["network"] == "LeNet-5"
    assert made["seeds"] == [0, 1, 2]
    assert made["test_accuracies"] == [0.98, 0.99, 0.5]
    assert made["mean"] == pytest.approx(0.823333)
    assert made["standard_deviation"] == pytest.approx(0.280060)
    assert made["within_band"] == [True, True, False]
    assert made["training_minutes"] == pytest.approx(7 / 60, abs=1e-3)
    assert record(script, 0.9)["standard_deviation"] is None


def test_a_changed_recipe_has_a_record_of_its_own_without_a_band(script: dict[str, Any]) -> None:
    stated = record(script, 0.98)
    short = record(script, 0.9, settings=("recipe.epochs=2",))
    other = record(script, 0.9, settings=("recipe.batch_size=9",))
    assert (short["within_band"], short["epochs"], short["changes"]) == (None, 2, {})
    assert other["changes"] == {"recipe.batch_size": 9}
    records: list[dict[str, Any]] = []
    for one in (stated, short, other, {**stated, "date": "2026-02-01"}):
        records = script["with_record"](records, one)
    assert [one["epochs"] for one in records] == [2, 60, 60]
    assert [one["date"] for one in records if one["changes"] == {} and one["epochs"] == 60] == ["2026-02-01"]
    text = script["to_json"](records)
    assert json.loads(text) == records
    assert '"seeds": [0],' in text


def test_the_table_has_a_row_for_each_record_and_each_unmeasured_configuration(script: dict[str, Any]) -> None:
    shipped = {name: load_config(name).config.model_dump(mode="json") for name in ("cifar10_resnet20", "digits_lenet")}
    records = [
        record(script, 0.98, 0.99, 0.5),
        record(script, 0.9, settings=("recipe.epochs=2",), epochs_run=2),
        record(script, 0.9, settings=("recipe.batch_size=9",), epochs_run=31, training_minutes=99.96),
        record(script, 0.9, config="gone", data="a|b"),
    ]
    assert script["table"](records, shipped).splitlines() == [
        "| data set | network (parameters) | epochs | test accuracy | minutes | images/s | machine | commit | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| CIFAR-10 | [ResNet-20](configs/cifar10_resnet20.yaml) | 160 | not measured |  |  |  |  |  |",
        "| digits (scikit-learn) | [LeNet-5](configs/digits_lenet.yaml) (61,706) | 2 instead of 60 | 90.00 % (1 seed) | 0.10 | 17,000 | a machine | abc1234 | 2026-01-31 |",
        "| digits (scikit-learn) | [LeNet-5](configs/digits_lenet.yaml) (61,706), recipe.batch_size: 9 | 31 of 60 | 90.00 % (1 seed) | 100.0 | 17,000 | a machine | abc1234 | 2026-01-31 |",
        "| digits (scikit-learn) | [LeNet-5](configs/digits_lenet.yaml) (61,706) | 60 | 82.33 ± 28.01 % (3 seeds, 50.00 to 99.00, 1 outside the expected band) | 0.12 | 17,000 | a machine | abc1234 | 2026-01-31 |",
        "| a\\|b | LeNet-5 (61,706) | 60 | 90.00 % (1 seed, 1 outside the expected band) | 0.10 | 17,000 | a machine | abc1234 | 2026-01-31 |",
    ]


def test_every_shipped_network_and_data_set_has_a_name(script: dict[str, Any]) -> None:
    for name in shipped_configs():
        config = load_config(name).config.model_dump(mode="json")
        assert script["network_name"](config["model"])[0].isupper()
        assert script["data_name"](config["data"])
    assert script["network_name"]({"name": "alexnet", "variant": "small"}) == "AlexNet small"
    assert script["network_name"]({"name": "resnet110"}) == "ResNet-110"


def test_the_table_goes_between_the_markers_and_nothing_else_changes(script: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text()
    before, after = readme.split("<!-- results -->")[0], readme.split("<!-- /results -->")[1]
    once = script["between_markers"](readme, "| new |")
    assert once == f"{before}<!-- results -->\n\n| new |\n\n<!-- /results -->{after}"
    assert script["between_markers"](once, "| new |") == once
    with pytest.raises(SystemExit, match="there is no place for the table"):
        script["between_markers"]("no markers", "| new |")


def run_script(script: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Runs the script on files in a folder, with trainings that need no time; MNIST is missing, CIFAR-10 diverges."""
    (folder / "README.md").write_text("<!-- results -->\n<!-- /results -->\n")

    def train(name: str, seed: int, _: argparse.Namespace) -> dict[str, Any]:
        if "mnist" in name or "folder" in name:
            raise script["TrainingFailed"](f"seed {seed}: error: mnist is not in DATA", 3)
        if "cifar" in name and seed == 1:
            raise script["TrainingFailed"](f"seed {seed}: error: the loss is nan", 6)
        return result(seed, 0.98)

    main = script["main"]
    stand_ins = {
        "README": folder / "README.md",
        "RECORDS": folder / "docs/results.json",
        "train": train,
        "describe": lambda names, settings: {name: described(name) for name in shipped_configs()},
        "git_commit": lambda: "abc1234",
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setitem(main.__globals__, name, stand_in)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)  # scripts/setup
    monkeypatch.setattr("sys.argv", ["reproduce", *arguments])
    return int(main())


def test_a_failed_training_does_not_lose_the_records_of_the_others(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_script(script, tmp_path, monkeypatch, "--seeds", "2") == 1
    records = json.loads((tmp_path / "docs/results.json").read_text())
    assert "digits_lenet" in {one["config"] for one in records}
    assert not {"cifar10_lenet", "mnist_lenet"} & {one["config"] for one in records}
    said = capsys.readouterr().err
    assert "cifar10_lenet: seed 1: error: the loss is nan" in said
    assert "skipped, their data cannot be had: fashion_mnist_lenet, image_folder_" in said
    assert "error: failed, and not recorded: cifar10_" in said
    assert "98.00 ± 0.00 % (2 seeds" in (tmp_path / "README.md").read_text()
    assert {path.name for path in tmp_path.rglob("*")} == {"README.md", "docs", "results.json"}


def test_a_configuration_that_was_named_must_have_its_data(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_script(script, tmp_path, monkeypatch, str(ROOT / "configs/mnist_lenet.yaml")) == 1
    assert run_script(script, tmp_path, monkeypatch, "mnist_lenet", "digits_lenet") == 1
    assert len(json.loads((tmp_path / "docs/results.json").read_text())) == 1
    assert run_script(script, tmp_path, monkeypatch, "digit_lenet") == 2


def test_the_table_alone_trains_nothing(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_script(script, tmp_path, monkeypatch, "--table") == 0
    assert not (tmp_path / "docs").exists()
    assert (tmp_path / "README.md").read_text().count("not measured") == len(shipped_configs())


@pytest.mark.parametrize(
    "arguments", [["--seeds", "0"], ["--table", "digits_lenet"], ["--data-label", "x"], ["--table", "--epochs", "3"]]
)
def test_wrong_use_of_the_script_is_explained(
    script: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_script(script, tmp_path, monkeypatch, *arguments)
    assert caught.value.code == 2
