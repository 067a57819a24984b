"""Files of ours are checked once, when they are read; what makes no sense is refused with exit 4, by file and key."""

import io
import json
import math
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_REPORT, Cli
from mutations import valid_json
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from cnntrain.errors import CheckpointError
from cnntrain.models.weights_file import read_tensors
from cnntrain.runs.artifacts.training import SumValues
from cnntrain.runs.files import json_text, to_json
from cnntrain.runs.run_records import read_records
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, seal

Change = Callable[[dict[str, Any], dict[str, Tensor]], object]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "image.png")
    return tmp_path / "image.png"


def foreign(run: Path, path: Path, change: Change) -> Path:
    """A checkpoint of a run, changed and sealed again."""
    best = run / "checkpoints" / "best.safetensors"
    with safe_open(best, framework="pt") as file:
        header = json.loads(file.metadata()["cnntrain"])
    tensors = load_file(best)
    change(header, tensors)
    path.write_bytes(seal(save(tensors, {"cnntrain": json.dumps(header), DIGEST_KEY: UNSEALED})))
    return path


def within(section: str, key: str, value: object) -> Change:
    return lambda header, _: header[section].update({key: value})


def at_top(key: str, value: object) -> Change:
    return lambda header, _: header.update({key: value})


def weights(name: str, change: Callable[[Tensor], Tensor]) -> Change:
    return lambda _, tensors: tensors.update({name: change(tensors[name]).contiguous()})


def spoilt(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[3] = value
        return tensor

    return change


HEADERS: list[tuple[Change, str]] = [
    (within("preprocessing", "image_size", "28"), "preprocessing.image_size: must be a whole number (got '28')"),
    (within("preprocessing", "image_size", 10**9), "preprocessing.image_size: must be at most 10000"),
    (within("preprocessing", "stored_size", 8), "preprocessing.stored_size: must be at least image_size, 32 (got 8)"),
    (within("preprocessing", "image_size", 24), "contradicts itself: preprocessing.image_size is 24, config.data.image_size is 32"),
    (within("preprocessing", "std", []), "preprocessing.std: must have a value for each of 1 channels (got [])"),
    (within("preprocessing", "std", [0.0]), "preprocessing.std.0: must be at least 0.0001 (got 0.0)"),
    (within("preprocessing", "mean", [0.1, 0.2, 0.3]), "preprocessing.mean: must have a value for each of 1 channels"),
    (within("preprocessing", "channels", 2), "preprocessing.channels: must be one of 1 or 3 (got 2)"),
    (at_top("class_names", list(range(10))), "class_names.0: must be text (got 0)"),
    (at_top("class_names", ["a"] * 10), "class_names: must be different names (got 'a' more than once)"),
    (at_top("class_names", ["a", ""]), "class_names.1: "),
    (at_top("temperature", float("nan")), "damaged: no JSON"),
    (at_top("temperature", 0), "temperature: must be at least 0.001 (got 0)"),
    (at_top("temperature", -1), "temperature: must be at least 0.001 (got -1)"),
    (at_top("splits", {"test": 3}), "splits.test: must be a mapping of keys to values (got 3)"),
    (at_top("epoch", True), "epoch: must be a whole number (got True)"),
    (within("preprocessing", "channels", True), "preprocessing.channels: must be a whole number (got True)"),
    (within("preprocessing", "crop", 1), "preprocessing.crop: unknown key"),
    (at_top("temperature", "\ud800"), r"temperature: must be a number (got \ud800)"),
    (at_top("splits", {"test": {"num_images": 3, "sha256": "\ud800"}}), "splits.test.sha256: "),
    (at_top("task", "regression"), "task: unknown key"),
    (within("config", "model", {"name": "lenet6"}), "config: "),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), HEADERS, ids=[message[:40] for _, message in HEADERS])
def test_a_sealed_header_that_makes_no_sense_is_refused_by_key(
    change: Change, message: str, cli: Cli, tmp_path: Path, trained_run: Path, image: Path
) -> None:
    path = foreign(trained_run, tmp_path / "x.safetensors", change)
    for arguments in (["predict", image, "--run", path], ["evaluate", path, "--json"]):
        refused = cli(*arguments)
        assert refused.code == 4
        assert f"{path}: " in refused.err
        assert message in refused.err


WEIGHTS: list[tuple[Change, str]] = [
    (weights("features.0.weight", spoilt(float("nan"))), "features.0.weight holds values that are not finite"),
    (weights("features.0.weight", spoilt(float("inf"))), "features.0.weight holds values that are not finite"),
    (weights("features.0.weight", Tensor.double), "features.0.weight is float64 (6, 1, 5, 5), and must be float32 (6, 1, 5, 5)"),
    (weights("features.0.weight", Tensor.int), "features.0.weight is int32"),
    (weights("features.0.weight", lambda tensor: tensor.to(torch.complex64)), "features.0.weight is complex64"),
    (weights("features.0.weight", lambda tensor: tensor.to(torch.float8_e4m3fn)), "features.0.weight is float8_e4m3fn"),
    (weights("features.0.weight", lambda tensor: tensor[:5]), "features.0.weight is float32 (5, 1, 5, 5), and must be"),
    (lambda _, tensors: tensors.pop("features.0.weight"), "features.0.weight not in the file"),
    (lambda _, tensors: tensors.update(more=torch.zeros(1)), "more not in the network"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), WEIGHTS, ids=[message[:50] for _, message in WEIGHTS])
def test_weights_that_tell_nothing_are_refused_by_every_command(
    change: Change, message: str, cli: Cli, tmp_path: Path, trained_run: Path, image: Path
) -> None:
    path = foreign(trained_run, tmp_path / "x.safetensors", change)
    for arguments in (
        ["predict", image, "--run", path, "--json"],
        ["evaluate", path],
        ["explain", image, "--run", path, "--out", tmp_path / "out"],
        ["export", path, "--format", "safetensors", "--out", tmp_path / "out.safetensors"],
        ["serve", path, "--port", 0],
    ):
        refused = cli(*arguments)
        assert refused.code == 4, arguments
        assert message in refused.err
        assert not refused.out


def test_finite_weights_whose_outputs_are_not_are_refused_where_they_are_used(
    cli: Cli, tmp_path: Path, trained_run: Path, image: Path
) -> None:
    path = foreign(trained_run, tmp_path / "x.safetensors", weights("features.0.weight", lambda tensor: tensor * 1e38))
    for arguments in (["predict", image, "--run", path, "--json"], ["evaluate", path, "--json"]):
        refused = cli(*arguments)
        assert refused.code == 4
        assert "the network's outputs are not finite numbers" in refused.err
        assert not refused.out


def test_a_header_of_a_huge_network_is_refused_before_it_is_built(
    cli: Cli, tmp_path: Path, trained_run: Path, image: Path
) -> None:
    layers = ["flatten", {"linear": {"out_features": 10**7}}, {"linear": {"out_features": 10**7}}, "linear"]
    huge = within("config", "model", {"name": "sequential", "layers": layers})
    started = time.perf_counter()
    refused = cli("predict", image, "--run", foreign(trained_run, tmp_path / "x.safetensors", huge))
    assert refused.code == 4
    assert "its weights do not fit its own configuration" in refused.err
    assert time.perf_counter() - started < 5


def test_a_small_file_cannot_stand_for_huge_weights(tmp_path: Path, cli: Cli) -> None:
    torch.save({"weight": torch.zeros(1).expand(10**12)}, tmp_path / "view.pt")
    refused = cli("check", "digits_lenet", "--set", f"model.weights={tmp_path / 'view.pt'}")
    assert refused.code == 4
    assert "weight is no tensor of weights" in refused.err

    buffer, packed = io.BytesIO(), tmp_path / "packed.pt"
    torch.save({"weight": torch.zeros(10**6)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in whole.infolist():
            archive.writestr(member.filename, whole.read(member))
    with pytest.raises(CheckpointError, match=r"packed\.pt: not a file of weights that PyTorch wrote: it would unfold"):
        read_tensors(packed)


def test_what_is_no_finite_number_is_null_in_json() -> None:
    values = {"a": [1.5, float("nan"), (float("inf"), "NaN")], "b": {"c": -float("inf")}, "d": [1, 2]}
    expected = {"a": [1.5, None, [None, "NaN"]], "b": {"c": None}, "d": [1, 2]}
    assert valid_json(json_text(values)) == valid_json(to_json(values)) == expected


def test_what_a_configuration_may_say_its_own_records_may_hold(cli: Cli, tmp_path: Path) -> None:
    largest = ["--seed", str(2**63 - 1), "--set", "data.mean=[1.0]", "--set", "data.std=[0.0001]"]
    assert cli("train", "digits_lenet", "--epochs", "1", *largest, *NO_REPORT, "--output", str(tmp_path)).code == 0
    (run,) = (tmp_path / "digits_lenet").iterdir()
    assert read_records(run).results["seed"] == 2**63 - 1


@pytest.mark.parametrize("value", [1e30, torch.tensor(3e38), 2**60])
def test_a_training_checkpoint_may_hold_sums_of_any_size(value: object) -> None:
    sums = {"loss": value, "weight": 1.0, "correct": 1, "num_images": 1, "seconds": 1.0, "data_seconds": 0.0}
    TypeAdapter(SumValues).validate_python(sums)


@pytest.mark.parametrize("value", [math.inf, math.nan, torch.tensor(math.inf), 1e300, 2**63, 10**400, "1", True])
def test_sums_that_are_no_finite_numbers_are_refused(value: object) -> None:
    sums = {"loss": value, "weight": 1.0, "correct": 1, "num_images": 1, "seconds": 1.0, "data_seconds": 0.0}
    with pytest.raises(ValidationError, match="loss"):
        TypeAdapter(SumValues).validate_python(sums)
