"""`cnntrain bench`: what it measures adds up, and it leaves nothing behind."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from torch._dynamo.testing import CompileCounter

from cnntrain.config.loading import load_config
from cnntrain.data.batches import eval_batches, train_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import CnntrainError, DeviceError
from cnntrain.insight.bench import Figures, consistent, measure, report
from cnntrain.insight.bench.measuring import _shares, seconds_to_first_step
from cnntrain.insight.bench.report import advise
from cnntrain.runs.console import Console
from cnntrain.runtime.compiling import compiled
from cnntrain.runtime.machine import available_cores
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.setup import build_training


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnntrain.insight.bench.parts.SECONDS", 0.05)
    monkeypatch.setattr("cnntrain.insight.bench.measuring.seconds_to_first_step", lambda _: 3.0)


@pytest.fixture
def figures(quick: None) -> Figures:
    return measure(load_config("digits_lenet", ["recipe.batch_size=32"]).config, Console(quiet=True), rounds=1)


PLAUSIBLE: dict[str, Any] = {
    "contention": None, "bare_step_rate": 1000.0, "train_rate": 900.0, "train_ratio": 0.9, "data_rate": 9000.0,
    "forward_rate": 3000.0, "evaluate_rate": 2950.0, "evaluate_ratio": 0.97,
    "shares": {"forward": 0.3, "backward": 0.5, "update": 0.05, "data": 0.1, "loop": 0.05},
}  # fmt: skip


def test_memory_is_that_of_all_images_and_of_the_process(figures: Figures) -> None:
    assert figures.image_bytes == 1797 * 32 * 32
    assert figures.peak_memory_bytes is not None
    assert figures.peak_memory_bytes > 50 * 2**20


def test_a_slow_data_path_is_found(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    made = train_batches

    def slowly(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for batch in made(*args, **kwargs):
            time.sleep(0.05)
            yield batch

    monkeypatch.setattr("cnntrain.training.loop.train_batches", slowly)
    found = measure(load_config("digits_lenet").config, Console(quiet=True), rounds=1)
    assert found.data_rate < 64 / 0.05
    assert found.train_ratio < 0.6
    assert found.shares["data"] > 0.4


def test_where_images_are_decoded_meanwhile_the_data_s_share_is_the_time_waited() -> None:
    seconds = {"training_forward": 3, "update": 1, "bare_step": 8, "data": 9, "train": 10}
    found = _shares({name: 1 / second for name, second in seconds.items()}, data_share=0.15)
    assert found == pytest.approx({"forward": 0.3, "backward": 0.4, "update": 0.1, "data": 0.15, "loop": 0.05})


@pytest.mark.parametrize("storage", ["memory", "cache", "stream"])
def test_where_images_are_read_meanwhile_the_time_waited_is_what_counts(
    quick: None, photos: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = list[float | None]()

    def watched(rate: dict[str, float], data_share: float | None) -> dict[str, float]:
        waited.append(data_share)
        return _shares(rate, data_share)

    monkeypatch.setattr("cnntrain.insight.bench.measuring._shares", watched)
    settings = [f"data.root={photos}", f"data.storage={storage}", "data.image_size=32", "recipe.batch_size=5"]
    found = measure(load_config("image_folder_resnet18", [*settings, "model=lenet5"]).config, Console(quiet=True), 1)
    assert [share is None for share in waited] == [storage == "memory"]
    assert 0 <= found.shares["data"] <= 1
    assert found.streamed == (storage == "stream")


@pytest.mark.parametrize("batch_size", [600, 5000])
def test_fewer_batches_than_usual_can_be_measured(quick: None, batch_size: int) -> None:
    config = load_config("digits_lenet", [f"recipe.batch_size={batch_size}"]).config
    found = measure(config, Console(quiet=True), rounds=1)
    assert found.train_rate > 0
    assert found.batch_size == min(batch_size, 1295)


def test_the_first_step_is_that_of_a_command_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert 0.5 < seconds_to_first_step(load_config("digits_lenet").config) < 60
    assert list(tmp_path.iterdir()) == []
    config = load_config("digits_lenet").config
    broken = config.model_copy(update={"run": config.run.model_copy(update={"device": "cuda:99"})})
    with pytest.raises(CnntrainError, match=r"^device 'cuda:99' (is not available|does not exist)"):
        seconds_to_first_step(broken)


@pytest.mark.parametrize("wrong", [["--device", "cuda:99"], ["--set", "data.source=image_folder"]])
def test_a_mistake_is_one_message(cli: Cli, wrong: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed = cli("bench", "digits_lenet", *wrong)
    assert failed.code in (2, 3, 5)
    assert failed.err.startswith("error: ")
    assert "Traceback" not in failed.err


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
    assert "bare step" in done.out
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
        ({"shares": {"data": 0.5, "loop": 0.0, "update": 0.0}, "streamed": True}, "cache"),
        ({"shares": {"data": 0.0, "loop": 0.3, "update": 0.0}}, "larger recipe.batch_size makes fewer"),
        ({"shares": {"data": 0.0, "loop": 0.0, "update": 0.3}}, "updates less often"),
        ({"shares": {"data": 0.0, "loop": 0.0, "update": 0.0}}, "arithmetic"),
        ({"shares": {"data": 0.5, "loop": -0.4, "update": 0.0}}, "do not add up"),
    ],
)
def test_advice_names_what_would_help_most(figures: Figures, changes: dict[str, Any], word: str) -> None:
    figures = replace(figures, **{**PLAUSIBLE, **changes})
    assert word in advise(figures)
    assert word in "\n".join(report(figures))


@pytest.mark.parametrize(
    ("ratio", "advice"),
    [
        (0.5, "one process with a thread on each core is 2.00 times as fast as these 4: start it once"),
        (1.3, "these 4 processes are 1.30 times as fast as one with a thread on each core: keep them"),
        (1.0, ""),
        (None, ""),
    ],
)
def test_several_processes_are_advised_against_where_one_is_faster(
    figures: Figures, ratio: float | None, advice: str
) -> None:
    several = {"num_processes": 4, "one_process_rate": 250.0, "scaling_efficiency": 0.9, "communication_share": 0.07}
    assert not {"one process", "communicating", "on each core"} & set("\n".join(report(figures)).split("  "))
    figures = replace(figures, **{**PLAUSIBLE, **several, "all_cores_ratio": ratio})
    text = "\n".join(report(figures))
    assert "4 are 3.60 times as fast: scaling efficiency 90.0%" in text
    assert "7% of a bare step" in text
    assert advice in text
    assert advice or "on each core" not in text


TRAINING = {"bare_step_rate", "train_rate", "train_ratio", "shares"}
EVALUATION = {"forward_rate", "evaluate_rate", "evaluate_ratio"}
BUSY_SHARES = {"forward": 1.25, "backward": -0.65, "update": 0.1, "data": 0.1, "loop": 0.2}


@pytest.mark.parametrize(
    ("measured", "withheld", "why"),
    [
        ({}, set(), ""),
        ({"train_rate": 1030.0, "train_ratio": 1.03, "evaluate_ratio": 1.04}, set(), ""),  # noise
        ({"train_rate": 1250.0, "train_ratio": 1.25}, TRAINING, "training came out 1.25 times as fast as the bare"),
        ({"train_ratio": 1.25}, TRAINING, "training came out 1.25 times as fast as the bare step"),
        ({"train_rate": 1600.0}, TRAINING, "training came out 1.60 times as fast as the bare step"),
        ({"evaluate_rate": 6000.0}, EVALUATION, "evaluation came out 2.00 times as fast as its bare forward pass"),
        ({"data_rate": 300.0}, {"train_rate", "train_ratio", "data_rate", "shares"}, "3.00 times as fast as its data"),
        ({"shares": BUSY_SHARES}, {"shares"}, "the shares of training came out between -65% and 125%"),
        ({"shares": {"forward": 1.2, "loop": -0.01}}, {"shares"}, "between -1% and 120%"),
    ],
)
@pytest.mark.parametrize("contention", [None, 0.4])
def test_what_cannot_be_is_withheld_and_it_is_said_why(
    figures: Figures, measured: dict[str, Any], withheld: set[str], why: str, contention: float | None
) -> None:
    figures = replace(figures, **{**PLAUSIBLE, **measured, "contention": contention})
    text, found = "\n".join(report(figures)), consistent(figures)
    assert {name for name in PLAUSIBLE if found[name] is None and name != "contention"} == withheld
    assert bool(found["withheld"]) == bool(withheld)
    assert why in " ".join(found["withheld"])
    assert why in text
    assert text.count("withheld because") == bool(withheld)
    for name in withheld - {"shares"}:
        shown = f"{getattr(figures, name):.1%}" if name.endswith("ratio") else f"{getattr(figures, name):,.0f} "
        assert shown not in text.replace(why, "")
    if "shares" in withheld:
        assert "backward" not in text.partition("training is")[2]
    assert ("--set run.threads=1" in text) == (contention is not None and figures.num_threads > 1)
    assert ("measure again" in text) == bool(withheld or contention)


def test_the_threads_that_are_asked_for_compute(
    quick: None, cli: Cli, trained_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = torch.get_num_threads()
    monkeypatch.setattr(
        "cnntrain.insight.bench.measuring.seconds_to_first_step", lambda config: float(config.run.threads)
    )
    try:
        found = json.loads(cli("bench", "digits_lenet", "--rounds", 1, "--set", "run.threads=2", "--json").out)
        assert found["device"] == "cpu, 2 threads"
        assert found["first_step_seconds"] == 2  # the command of its own was told too
        torch.set_num_threads(usual)
        checked = cli("check", "digits_lenet", "--set", "run.threads=2", "--show-config")
        assert "cpu, 2 threads" in checked.err
        assert "threads: 2" in checked.out
        threads = list[int]()
        monkeypatch.setattr(
            "cnntrain.trained.evaluate.evaluate",
            lambda *arguments: threads.append(torch.get_num_threads()) or evaluate(*arguments),  # type: ignore[func-returns-value]
        )
        for here in (4, 1):
            torch.set_num_threads(here)
            assert cli("evaluate", trained_run).code == 0
            assert torch.get_num_threads() == min(here, available_cores())  # put back
        assert threads == [1, 1]  # as many as the run had
    finally:
        torch.set_num_threads(usual)


def test_what_cannot_be_compiled_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def refuse(*_: object, **__: object) -> Any:
        def run(_: torch.Tensor) -> None:
            raise InvalidCxxCompiler

        return run

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(DeviceError, match=r"needs a C\+\+ compiler .* set run\.compile: false"):
        compiled(torch.nn.Identity(), torch.device("cpu"), accumulates=False)(torch.zeros(1))


def test_other_errors_of_a_compiled_network_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    with pytest.raises(RuntimeError, match="shapes"):
        compiled(torch.nn.Linear(3, 1), torch.device("cpu"), accumulates=False)(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("device", "accumulates", "mode"),
    [("cuda", False, "reduce-overhead"), ("cuda", True, None), ("cpu", False, None), ("cpu", True, None)],
)
def test_passes_are_recorded_on_a_gpu_unless_gradients_add_up(
    device: str, accumulates: bool, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = list[str | None]()
    monkeypatch.setattr(torch, "compile", lambda _, *, mode, **__: modes.append(mode))
    compiled(torch.nn.Identity(), torch.device(device), accumulates=accumulates)
    assert modes == [mode]


def test_every_size_of_growing_images_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    compile_ = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda model, *, dynamic, **_: compile_(model, dynamic=dynamic, backend=counter)
    )
    torch._dynamo.reset()
    forward = compiled(torch.nn.Conv2d(1, 1, 3), torch.device("cpu"), accumulates=False)
    for size in range(8, 24):
        forward(torch.zeros(1, 1, size, size))
    assert counter.frame_count == 16


def test_run_compile_reaches_training_and_leaves_evaluation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[bool]()

    def compile_(model: torch.nn.Module, **_: object) -> Any:
        def run(images: torch.Tensor) -> Any:
            calls.append(model.training)
            return model(images)

        return run

    monkeypatch.setattr(torch, "compile", compile_)
    config = load_config("digits_lenet", ["run.compile=true"]).config
    splits = prepare_data(config.data)
    state, how, _ = build_training(config, splits, torch.device("cpu"))
    begin_epoch(state.network, how, 1)
    train_step(state, next(epoch_batches(splits, how, 1)), how)
    assert calls == [True]
    evaluate(state.kept, eval_batches(splits.val, splits.preprocessing, 64), how.task)
    assert calls == [True]
