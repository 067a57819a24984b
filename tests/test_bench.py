"""`cnntrain bench`: what it measures adds up, and it leaves nothing behind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli

from cnntrain.bench import Figures, measure, report
from cnntrain.bench.measuring import _shares
from cnntrain.bench.report import advise
from cnntrain.config import load_config
from cnntrain.errors import DeviceError
from cnntrain.learner import build_learner
from cnntrain.records.console import Console
from cnntrain.runtime.compiling import compiled


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnntrain.bench.measuring.SECONDS", 0.05)
    monkeypatch.setattr("cnntrain.bench.measuring._first_step_seconds", lambda _: 3.0)


@pytest.fixture
def figures(quick: None) -> Figures:
    return measure(load_config("digits_lenet", ["recipe.batch_size=32"]).config, Console(quiet=True), rounds=1)


def test_the_parts_of_the_time_add_up(figures: Figures) -> None:
    assert sum(figures.shares.values()) == pytest.approx(1)
    assert figures.train_ratio == pytest.approx(figures.train_rate / figures.bare_step_rate)
    assert figures.evaluate_ratio == pytest.approx(figures.evaluate_rate / figures.forward_rate)
    assert figures.image_bytes == 1797 * 32 * 32
    assert figures.peak_memory_bytes > 50 * 2**20


def test_shares_are_those_of_the_seconds_of_an_image() -> None:
    seconds = {"training_forward": 3, "update": 1, "bare_step": 8, "data": 1, "train": 10}
    found = _shares({name: 1 / second for name, second in seconds.items()})
    assert found == pytest.approx({"forward": 0.3, "backward": 0.4, "update": 0.1, "data": 0.1, "loop": 0.1})


def test_bench_prints_a_table_or_json_and_writes_no_run(
    quick: None, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("bench", "digits_lenet", "--rounds", 1)
    assert done.code == 0, done.err
    assert "of the bare step" in done.out
    assert "advice" in done.out
    found = json.loads(cli("bench", "digits_lenet", "--rounds", 1, "--json").out)
    assert found["network"] == "lenet5"
    assert list(tmp_path.iterdir()) == []


def test_averaging_dropout_and_mixing_can_be_measured(quick: None) -> None:
    settings = [
        "recipe.averaging=ema",
        "data.augment=[mixup, {random_crop: {padding: 2}}]",
        "model={name: sequential, layers: [{conv2d: 4}, relu, {max_pool2d: 4}, flatten, {dropout: 0.5}, {linear: 10}]}",
        "recipe.micro_batch=16",
    ]
    config = load_config("digits_lenet", settings).config
    assert measure(config, Console(quiet=True), rounds=2).train_rate > 0


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"contention": 0.4}, "other processes"),
        ({"shares": {"data": 0.5, "loop": 0.0, "update": 0.0}}, "data.augment"),
        ({"shares": {"data": 0.5, "loop": 0.0, "update": 0.0}, "images_held": "decoded anew in every epoch"}, "cache"),
        ({"shares": {"data": 0.0, "loop": 0.3, "update": 0.0}}, "larger recipe.batch_size makes fewer"),
        ({"shares": {"data": 0.0, "loop": 0.0, "update": 0.3}}, "updates less often"),
        ({"shares": {"data": 0.0, "loop": 0.0, "update": 0.0}}, "arithmetic"),
    ],
)
def test_advice_names_what_would_help_most(figures: Figures, changes: dict[str, Any], word: str) -> None:
    figures = replace(figures, **{"contention": None, "images_held": "held in memory", **changes})
    assert word in advise(figures)
    assert word in report(figures)


def test_what_cannot_be_compiled_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def refuse(*_: object, **__: object) -> Any:
        def run(_: torch.Tensor) -> None:
            raise InvalidCxxCompiler

        return run

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(DeviceError, match=r"needs a C\+\+ compiler .* set run\.compile: false"):
        compiled(torch.nn.Identity(), torch.device("cpu"))(torch.zeros(1))


def test_other_errors_of_a_compiled_network_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    with pytest.raises(RuntimeError, match="shapes"):
        compiled(torch.nn.Linear(3, 1), torch.device("cpu"))(torch.zeros(1, 2))


def test_run_compile_reaches_training_and_leaves_evaluation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnntrain.data import prepare_data

    config = load_config("digits_lenet", ["run.compile=true"]).config
    learner = build_learner(config, prepare_data(config.data), torch.device("cpu"))
    assert learner.forward is not learner.model
    assert not hasattr(learner.kept, "_orig_mod")
