"""The doctor: each verdict is provoked by a small training that deserves it, and a healthy one hears nothing."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

from cnntrain.config.loading import load_config
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.data.stores import ResidentStore
from cnntrain.errors import CheckpointError
from cnntrain.insight.doctor import Observations, Verdict, examine
from cnntrain.runs.console import Console
from cnntrain.runs.run_records import read_records
from cnntrain.ten_steps import take_ten_steps
from cnntrain.training.setup import Built, build_training

CONSTANT = ["recipe.schedule=constant", "recipe.averaging=null", "data.image_size=8", "data.augment=[]"]


def network(*layers: str) -> str:
    return f"model={{name: sequential, layers: [{', '.join([*layers, 'linear'])}]}}"


def dense(features: int, activation: str) -> str:
    return f"{{linear: {{out_features: {features}, activation: {activation}}}}}"


class Told(Console):
    """A console that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        self.lines.append("\n".join(lines))


def trained(tmp_path: Path, *settings: str) -> tuple[dict[str, dict[str, Any]], list[str], Path]:
    """The digits, learnt: verdicts by kind, what the doctor said on the console, and the run folder."""
    console = Told()
    config = load_config("digits_lenet", [f"run.output={tmp_path}/runs", *settings]).config
    finished = take_ten_steps(config, console)
    folder, results = finished.folder, finished.results
    verdicts = results["verdicts"]
    assert [asdict(verdict) for verdict in examine(read_records(folder).for_doctor)] == verdicts
    for verdict in verdicts:
        assert set(verdict) == {"kind", "severity", "finding", "evidence", "advice"}
        assert verdict["finding"].endswith(".")
        assert "recipe." in verdict["advice"] or "data." in verdict["advice"] or "model." in verdict["advice"]
    return {verdict["kind"]: verdict for verdict in verdicts}, [x for x in console.lines if "doctor" in x], folder


def changing_the_network(patch: pytest.MonkeyPatch, change: Callable[[Any], object]) -> None:
    """Before the first step."""

    def build(*arguments: Any, **options: Any) -> Built:
        built = build_training(*arguments, **options)
        with torch.no_grad():
            change(built.state.network)
        return built

    patch.setattr("cnntrain.training.setup.build_training", build)


def test_vanishing_gradients_are_found_in_a_deep_sigmoid_network(tmp_path: Path) -> None:
    deep = network("flatten", *[dense(64, "sigmoid")] * 6)
    found, said, folder = trained(tmp_path, deep, "recipe.epochs=4", *CONSTANT)
    verdict = found["vanishing_gradients"]
    assert verdict["severity"] == "problem"
    assert "layers.1.0 and 2 more of 7 layers" in verdict["finding"]
    assert "relu instead of sigmoid" in verdict["advice"]
    assert set(found) <= {"vanishing_gradients", "small_validation_set"}
    assert sum("Hardly any gradient" in line for line in said) == 2  # when it appeared, and at the end
    assert "try" not in next(line for line in said if "at the end" in line)

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    [shown] = events.Tensors("doctor/vanishing_gradients")
    assert b"Hardly any gradient reaches layers.1.0" in shown.tensor_proto.string_val[0]


def test_a_deep_relu_network_does_not_vanish(tmp_path: Path) -> None:
    deep = network("flatten", *[dense(64, "relu")] * 6)
    found, _, _ = trained(
        tmp_path, deep, "recipe.epochs=6", "model.init=kaiming", "recipe.optimizer.lr=0.01", *CONSTANT
    )
    assert not found


def test_exploding_gradients_are_found_where_weights_begin_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing_the_network(
        monkeypatch, lambda model: [weights.mul_(8) for weights in model.parameters() if weights.ndim > 1]
    )
    deep = network("flatten", *[dense(64, "relu")] * 4)
    found, _, _ = trained(tmp_path, deep, "recipe.epochs=2", "recipe.optimizer.lr=1e-8", *CONSTANT)
    assert found["exploding_gradients"]["evidence"]["largest_norm"] > 100
    assert "recipe.clip_grad_norm" in found["exploding_gradients"]["advice"]
    assert "initial_loss" in found


def test_dead_relus_are_found_by_layer_and_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(model: Any) -> None:
        model.layers[2][0].bias[:60] = -1e3

    changing_the_network(monkeypatch, kill)
    layers = network("flatten", dense(64, "relu"), dense(64, "relu"))
    found, _, _ = trained(tmp_path, layers, "recipe.epochs=3", "recipe.optimizer.weight_decay=0", *CONSTANT)
    verdict = found.pop("dead_relus")
    assert verdict["severity"] == "problem"
    assert verdict["evidence"]["epoch"] == 3
    assert 0.9 < verdict["evidence"]["dead_shares"]["layers.2.0"] < 1
    assert "of the units of layers.2.0 are dead after epoch 3" in verdict["finding"]
    assert not found


def test_a_last_layer_that_begins_too_large_is_found_by_the_first_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing_the_network(monkeypatch, lambda model: model.layers[-1].weight.mul_(50))
    layers = network("flatten", dense(64, "tanh"))
    found, _, _ = trained(tmp_path, layers, "recipe.epochs=3", "recipe.optimizer.lr=0.001", *CONSTANT)
    assert found["initial_loss"]["evidence"]["chance_loss"] == pytest.approx(np.log(10))
    assert found["initial_loss"]["evidence"]["initial_loss"] > 4.6
    assert "model.init" in found["initial_loss"]["advice"]
    assert set(found) == {"initial_loss"}


def test_a_rate_ten_times_too_high_is_found(tmp_path: Path) -> None:
    found, said, _ = trained(tmp_path, "recipe.epochs=3", "recipe.optimizer.lr=0.5")
    assert found["learning_rate_too_high"]["severity"] == "problem"
    assert found["learning_rate_too_high"]["evidence"]["largest_update_ratio"] > 0.3
    assert "cnntrain lr-find" in found["learning_rate_too_high"]["advice"]
    assert not {"learning_rate_too_low", "underfitting"} & set(found)
    assert len([line for line in said if "learning rate is too high" in line and "at the end" not in line]) == 1


def test_a_loss_that_rises_again_is_a_rate_too_high(tmp_path: Path) -> None:
    layers = network("flatten", dense(32, "tanh"))
    grows = ["recipe.schedule={name: one_cycle, warmup_fraction: 0.95}", "recipe.averaging=null", "data.image_size=8"]
    found, _, _ = trained(tmp_path, layers, "recipe.epochs=8", "recipe.optimizer.lr=30", *grows)
    assert "rose from" in found["learning_rate_too_high"]["finding"]


def test_a_rate_far_too_low_is_found(tmp_path: Path) -> None:
    found, _, _ = trained(tmp_path, "recipe.epochs=3", "recipe.optimizer.lr=5e-7", "data.image_size=16")
    assert set(found) == {"learning_rate_too_low"}
    assert found["learning_rate_too_low"]["evidence"]["median_update_ratio"] < 1e-6


def noise(root: Path, counts: dict[str, int]) -> None:
    """Photos that say nothing about their class."""
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / "train" / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / f"train/{name}/{number}.png")


def photos(root: Path) -> list[str]:
    return ["data.source=image_folder", f"data.root={root}", "data.resize=squash", *CONSTANT]


def test_a_memorised_set_is_overfitted_since_its_best_epoch(tmp_path: Path) -> None:
    noise(tmp_path / "photos", {"a": 60, "b": 60})
    layers = network("flatten", dense(64, "relu"))
    more = [
        "recipe.epochs=20",
        "recipe.batch_size=16",
        "recipe.loss=cross_entropy",
        "recipe.optimizer={name: adam, lr: 3e-3}",
        "data.val_fraction=0.4",
    ]
    found, _, folder = trained(tmp_path, layers, *more, *photos(tmp_path / "photos"))
    losses = [json.loads(line)["val"]["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert found["overfitting"]["evidence"]["epoch"] == 1 + int(np.argmin(losses))
    assert found["overfitting"]["finding"].startswith(f"Overfitting since epoch {1 + int(np.argmin(losses))}: ")
    assert "recipe.early_stopping: {metric: loss" in found["overfitting"]["advice"]
    assert "underfitting" not in found


def test_a_network_too_small_for_its_images_underfits(tmp_path: Path) -> None:
    tiny = network("{adaptive_avg_pool2d: 2}", "flatten", dense(2, "tanh"))
    found, said, _ = trained(tmp_path, tiny, "recipe.epochs=25", *CONSTANT)
    assert set(found) == {"underfitting"}
    assert found["underfitting"]["evidence"]["train_loss"] > 0.5 * np.log(10)
    assert "a larger network" in found["underfitting"]["advice"]
    assert len(said) == 1  # that it learns no more is known at the end


class SlowImages(ResidentStore):
    """Images that take their time."""

    def read(self, *arguments: Any) -> Iterator[torch.Tensor]:
        for images in super().read(*arguments):
            time.sleep(0.15)
            yield images


def test_a_training_that_waits_for_its_images_is_data_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: Any, **how: Any) -> Splits:
        splits = prepare_data(*arguments, **how)
        images = torch.from_numpy(splits.train.items())
        store = SlowImages(images, torch.device("cpu"))
        return replace(splits, train=replace(splits.train, store=store, positions=torch.arange(len(images))))

    monkeypatch.setattr("cnntrain.training.setup.prepare_data", slow)
    found, _, _ = trained(tmp_path, network("flatten"), "recipe.epochs=1", "recipe.batch_size=150", *CONSTANT)
    assert found["data_bound"]["evidence"]["data_share"] > 0.5
    assert "data.storage" in found["data_bound"]["advice"]


def test_rare_classes_that_accuracy_hides_are_named(tmp_path: Path) -> None:
    noise(tmp_path / "photos", {"common": 285, "<rare>": 15})
    more = ["recipe.epochs=4", "recipe.batch_size=32", "data.val_fraction=0.25", "recipe.optimizer.lr=0.01"]
    mean_colour = network("{adaptive_avg_pool2d: 1}", "flatten")
    found, _, _ = trained(tmp_path, mean_colour, *more, *photos(tmp_path / "photos"))
    verdict = found["class_imbalance"]
    assert verdict["evidence"]["accuracy"] > 0.9
    assert verdict["evidence"]["balanced_accuracy"] == pytest.approx(0.5)
    assert list(verdict["evidence"]["classes"]) == ["<rare>"]
    assert "<rare> (0% of 3 found, 9 training images)" in verdict["finding"]
    assert "recipe.balance: weights" in verdict["advice"]


def test_twenty_validation_images_are_too_few(tmp_path: Path) -> None:
    more = ["data.val_fraction=0.014", "recipe.epochs=12", "recipe.optimizer.lr=0.02"]
    found, _, _ = trained(tmp_path, network("flatten", dense(32, "relu")), *more, *CONSTANT)
    verdict = found["small_validation_set"]
    assert verdict["severity"] == "notice"
    assert verdict["evidence"]["num_images"] <= 25
    assert "validation images cannot tell these epochs apart" in verdict["finding"]
    assert "data.val_fraction" in verdict["advice"]


HEALTHY = {
    "digits_lenet": ["recipe.epochs=12"],
    "one epoch": ["recipe.epochs=1"],
    "residual, batch norm": ["recipe.epochs=3", "model=resnet20", "data.image_size=8"],
    "adamw, tanh": ["recipe.epochs=8", "recipe.optimizer={name: adamw, lr: 3e-3}", "model.activation=tanh"],
    "everything": ["recipe.epochs=8", "data.augment=[{random_crop: {padding: 2}}, mixup]", "recipe.balance=sampler",
                   "recipe.clip_grad_norm=1.0", "recipe.optimizer={name: adamw, lr: 3e-3}", "recipe.early_stopping={patience: 5}"],
}  # fmt: skip


@pytest.mark.parametrize("settings", HEALTHY.values(), ids=HEALTHY.keys())
def test_a_healthy_training_hears_nothing(tmp_path: Path, settings: list[str]) -> None:
    found, said, _ = trained(tmp_path, *settings)
    assert (found, said) == ({}, [])


@pytest.mark.parametrize("name", ["mnist_lenet", "mnist_fast"])
def test_shipped_trainings_of_real_digits_hear_nothing(name: str, real_data: Path, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("train", name, "--data-root", real_data, "--output", tmp_path, "--epochs", 1)
    assert outcome.code == 0
    assert "doctor" not in outcome.err
    assert json.loads((tmp_path / "latest" / "results.json").read_text())["verdicts"] == []


def test_each_verdict_is_told_once_though_training_is_resumed(cli: Cli, tmp_path: Path) -> None:
    more = ["--set", "recipe.optimizer.lr=5e-7", "--set", "data.image_size=16"]
    begun = cli("train", "digits_lenet", "--output", tmp_path, "--epochs", 3, *more)
    assert begun.err.count("learning rate is too low") == 2
    assert begun.err.count("try a higher recipe.optimizer.lr") == 1
    further = cli("train", "--resume", tmp_path / "latest", "--epochs", 5, "--allow-changes")
    assert further.code == 0, further.err
    assert further.err.count("learning rate is too low") == 1
    assert "doctor, at the end: The training loss went from" in further.err


def test_runs_of_older_versions_are_silent_where_they_have_no_records(tmp_path: Path, trained_run: Path) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(trained_run, old)
    (old / "signals.jsonl").unlink()
    results = json.loads((old / "results.json").read_text())
    for key in ("verdicts", "chance_loss", "class_counts"):
        del results[key]
    (old / "results.json").write_text(json.dumps(results))
    lines = [json.loads(line) for line in (old / "metrics.jsonl").read_text().splitlines()]
    (old / "metrics.jsonl").write_text(
        "".join(json.dumps({k: v for k, v in line.items() if k != "dead_relus"}) + "\n" for line in lines)
    )
    assert examine(read_records(old).for_doctor) == []
    assert read_records(tmp_path / "nothing").for_doctor == Observations(epochs=[], steps=[])
    assert examine(Observations()) == []
    (old / "metrics.jsonl").write_text("{")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: damaged"):
        read_records(old)


def test_the_doctor_needs_no_torch() -> None:
    code = "import sys, cnntrain.insight.doctor; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Near misses, by hand: a healthy training of 10 epochs, 60 steps, 3 layers and 10 classes, with one thing changed.


def healthy() -> Observations:
    layers = {"first": 0.5, "second": 1.0, "head": 0.8}
    steps = [
        {"step": 1 + 10 * index, "epoch": 1, "loss": 2.3 / (1 + index), "learning_rate": 0.1, "gradient_norm": layers,
         "update_ratio": dict.fromkeys(layers, 2e-3)}
        for index in range(60)
    ]  # fmt: skip
    epochs = [
        {"epoch": 1 + index, "train": {"loss": 2.0 / (1 + index)}, "seconds": 20.0, "data_share": 0.1,
         "val": {"loss": 2.0 / (1 + index), "accuracy": 0.5 + 0.04 * index, "balanced_accuracy": 0.49 + 0.04 * index}}
        for index in range(10)
    ]  # fmt: skip
    rows = [{"class": str(number), "recall": 0.86, "support": 20} for number in range(10)]
    val = {"num_images": 200, "accuracy": 0.86, "balanced_accuracy": 0.85, "per_class": rows}
    counts = {str(number): 180 for number in range(10)}
    return Observations(
        epochs, steps, val, 2.3026, counts, {"metric": "accuracy", "patience": 5, "min_delta": 0.0}, True
    )


def kinds(observed: Observations) -> set[str]:
    return {verdict.kind for verdict in examine(observed)}


def in_steps(change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Observations:
    observed = healthy()
    return replace(observed, steps=[{**line, **change(dict(line), index)} for index, line in enumerate(observed.steps)])


def in_epochs(change: Callable[[dict[str, Any], int], dict[str, Any]]) -> Observations:
    observed = healthy()
    return replace(
        observed, epochs=[{**line, **change(dict(line), index)} for index, line in enumerate(observed.epochs)]
    )


def losses(train: list[float], val: list[float] | None = None) -> Observations:
    val = val or train
    return in_epochs(lambda line, index: {"train": {"loss": train[index]}, "val": {**line["val"], "loss": val[index]}})


def test_a_healthy_training_is_called_healthy() -> None:
    assert examine(healthy()) == []


@pytest.mark.parametrize(("first", "found"), [(9e-4, True), (1.1e-3, False), (0.0, False)])
def test_a_gradient_vanishes_below_a_thousandth(first: float, found: bool) -> None:
    observed = in_steps(lambda line, _: {"gradient_norm": {**line["gradient_norm"], "first": first}})
    assert kinds(observed) == ({"vanishing_gradients"} if found else set())


def test_a_gradient_that_recovers_does_not_vanish() -> None:
    early = in_steps(
        lambda line, index: {"gradient_norm": {**line["gradient_norm"], "first": 1e-6 if index < 29 else 0.1}}
    )
    assert kinds(early) == set()


def test_layers_that_were_frozen_at_first_do_not_vanish() -> None:
    observed = in_steps(lambda line, index: {"gradient_norm": {"head": 1.0} if index < 50 else line["gradient_norm"]})
    assert kinds(observed) == set()


@pytest.mark.parametrize(
    ("norm", "num_steps", "found"), [(101, 6, True), (101, 5, False), (1e9, 5, False), (99, 60, False)]
)
def test_gradients_explode_in_a_tenth_of_the_steps(norm: float, num_steps: int, found: bool) -> None:
    observed = in_steps(
        lambda line, index: {"gradient_norm": {"first": norm if index < num_steps else 1.0, "head": 1.0}}
    )
    assert kinds(observed) == ({"exploding_gradients"} if found else set())


@pytest.mark.parametrize(("share", "severity"), [(0.49, None), (0.5, "warning"), (0.9, "problem")])
def test_half_of_a_layers_relus_may_be_dead(share: float, severity: str | None) -> None:
    found = examine(in_epochs(lambda _, index: {"dead_relus": {"first": 0.1, "second": share}} if index == 7 else {}))
    assert [(verdict.kind, verdict.severity) for verdict in found] == ([("dead_relus", severity)] if severity else [])


def test_the_first_epoch_does_not_decide_about_relus() -> None:
    first = in_epochs(lambda _, index: {"dead_relus": {"first": 1.0}} if index == 0 else {})
    assert kinds(replace(first, epochs=first.epochs[:1], finished=False)) == set()
    assert kinds(replace(first, epochs=first.epochs[:1])) == {"dead_relus"}


def test_relus_that_came_alive_again_are_not_held_against_a_training() -> None:
    assert kinds(in_epochs(lambda _, index: {"dead_relus": {"first": 1.0 if index < 3 else 0.2}})) == set()


@pytest.mark.parametrize(("loss", "found"), [(4.5, False), (4.7, True), (0.01, False)])
def test_the_first_loss_may_be_twice_that_of_guessing(loss: float, found: bool) -> None:
    assert kinds(in_steps(lambda line, index: {"loss": loss if index == 0 else 1.0})) == (
        {"initial_loss"} if found else set()
    )


STUCK = [2.3] * 10


@pytest.mark.parametrize(("ratio", "num_steps", "found"), [(0.2, 3, True), (0.2, 2, False), (0.09, 60, False)])
def test_a_loss_stuck_at_chance_after_wild_updates_is_a_rate_too_high(
    ratio: float, num_steps: int, found: bool
) -> None:
    steps = in_steps(lambda _, index: {"update_ratio": {"first": ratio if index < num_steps else 1e-3}}).steps
    assert kinds(replace(losses(STUCK), steps=steps)) == {"learning_rate_too_high" if found else "underfitting"}
    assert kinds(replace(healthy(), steps=steps)) == set()  # a training that learns may have some


@pytest.mark.parametrize(("last", "found"), [(0.72, False), (0.76, True)])
def test_a_training_loss_that_rises_by_half_is_a_rate_too_high(last: float, found: bool) -> None:
    rising = [2.0, 1.5, 1.0, 0.8, 0.6, 0.5, 0.5, 0.5, 0.5, last]
    assert kinds(losses(rising)) == ({"learning_rate_too_high"} if found else set())


def test_small_losses_may_vary() -> None:
    assert kinds(losses([1.0, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001, 0.001, 0.1])) == set()


@pytest.mark.parametrize(("ratio", "found"), [(9e-5, True), (2e-4, False)])
def test_a_loss_that_hardly_falls_with_tiny_updates_is_a_rate_too_low(ratio: float, found: bool) -> None:
    steps = in_steps(lambda line, _: {"update_ratio": {"first": ratio / 9, "head": ratio}}).steps
    assert kinds(replace(losses(STUCK), steps=steps)) == {"learning_rate_too_low" if found else "underfitting"}
    assert kinds(replace(healthy(), steps=steps)) == set()  # fine-tuning moves little, and learns


def test_a_warm_up_is_not_a_rate_too_low() -> None:
    steps = in_steps(
        lambda _, index: {"learning_rate": 1e-3 * (1 + index), "update_ratio": {"first": 1e-6 * index}}
    ).steps
    warming = replace(losses(STUCK), steps=steps, finished=False)
    assert kinds(replace(warming, epochs=warming.epochs[:3])) == set()


@pytest.mark.parametrize(("now", "found"), [(0.59, False), (0.63, True)])
def test_overfitting_is_a_validation_loss_that_rose_while_the_training_loss_fell(now: float, found: bool) -> None:
    train = [2.0, 1.5, 1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    val = [2.0, 1.5, 1.0, 0.7, 0.5, 0.5, 0.55, now, now, now]
    assert kinds(losses(train, val)) == ({"overfitting"} if found else set())
    if found:
        assert "since epoch 5" in examine(losses(train, val))[0].finding


def test_easy_data_are_not_overfitted_by_hundredths_of_a_loss() -> None:
    assert (
        kinds(
            losses(
                [0.1 / (1 + index) for index in range(10)], [0.04, 0.02, *[0.03 + 0.01 * index for index in range(8)]]
            )
        )
        == set()
    )


def test_a_network_that_does_not_know_its_own_images_is_not_overfitted() -> None:
    train = [1.0, 0.9, 0.8, 0.75, 0.7, 0.65, 0.6, 0.6, 0.6, 0.6]
    assert kinds(losses(train, [0.65, 0.7, 0.8, 0.8, 0.85, 0.85, 0.85, 0.9, 0.9, 0.9])) == set()


def test_a_validation_loss_that_rises_with_the_training_loss_is_not_overfitting() -> None:
    rising = [0.5, 0.5, 0.5, 0.5, 0.6, 0.6, 0.6, 0.7, 0.7, 0.7]
    assert kinds(losses(rising, [1.4 * loss for loss in rising])) == set()


def test_underfitting_is_judged_when_training_is_over_and_flat() -> None:
    flat, falling = [1.6] * 10, [1.9 - 0.05 * index for index in range(10)]
    assert kinds(losses(flat)) == {"underfitting"}
    assert kinds(replace(losses(flat), finished=False)) == set()
    assert kinds(losses(falling)) == set()
    assert kinds(losses([1.1] * 10)) == set()  # less than half of the loss at chance
    assert kinds(losses(flat, [2.1] * 10)) == set()  # it knows its own images better than others
    assert kinds(losses(flat, [0.9] * 10)) == set()  # mixed labels are hard to fit


@pytest.mark.parametrize(("share", "seconds", "found"), [(0.51, 1.1, True), (0.49, 60.0, False), (0.9, 0.9, False)])
def test_data_bound_is_half_of_an_epoch_that_takes_a_second(share: float, seconds: float, found: bool) -> None:
    observed = in_epochs(lambda _, __: {"data_share": share, "seconds": seconds})
    assert kinds(observed) == ({"data_bound"} if found else set())


def test_a_slow_first_epoch_is_not_data_bound() -> None:
    assert kinds(in_epochs(lambda _, index: {"data_share": 0.9 if index == 0 else 0.1})) == set()


def unbalanced(recall: float, count: int, support: int = 20, balanced: float = 0.7) -> Observations:
    observed = healthy()
    rows = [*observed.val["per_class"][:9], {"class": "9", "recall": recall, "support": support}]
    val = {**observed.val, "per_class": rows, "balanced_accuracy": balanced}
    return replace(observed, val=val, class_counts={**observed.class_counts, "9": count})


def test_accuracy_hides_a_class_that_is_rare_and_missed() -> None:
    assert kinds(unbalanced(0.2, 40)) == {"class_imbalance"}
    assert kinds(unbalanced(0.2, 50)) == set()  # not rare
    assert kinds(unbalanced(0.7, 40)) == set()  # not missed
    assert kinds(unbalanced(0.2, 40, support=2)) == set()  # too few to say so
    assert kinds(unbalanced(0.2, 40, balanced=0.82)) == set()  # hardly hidden
    assert kinds(replace(unbalanced(0.2, 40), finished=False)) == set()  # the epochs before were balanced


@pytest.mark.parametrize(("num_images", "found"), [(20, True), (40, True), (100, False)])
def test_a_validation_set_is_small_where_epochs_differ_by_less_than_its_accuracy_is_certain(
    num_images: int, found: bool
) -> None:
    observed = healthy()
    assert kinds(replace(observed, val={**observed.val, "num_images": num_images})) == (
        {"small_validation_set"} if found else set()
    )


def test_a_min_delta_of_less_than_an_image_means_nothing() -> None:
    for min_delta, metric, found in ((0.004, "accuracy", True), (0.006, "accuracy", False), (0.004, "loss", False)):
        observed = replace(healthy(), early_stopping={"metric": metric, "min_delta": min_delta})
        assert kinds(observed) == ({"small_validation_set"} if found else set())


def test_the_worst_comes_first() -> None:
    observed = replace(
        in_epochs(lambda _, __: {"dead_relus": {"first": 1.0}, "data_share": 0.9}),
        early_stopping={"metric": "accuracy", "min_delta": 1e-9},
    )
    assert [verdict.severity for verdict in examine(observed)] == ["problem", "warning", "notice"]
    assert all(isinstance(verdict, Verdict) for verdict in examine(observed))


def test_epochs_whose_steps_were_all_left_out_are_passed_over() -> None:
    observed = in_epochs(lambda line, index: {"train": {} if index in (4, 9) else line["train"]})
    assert kinds(observed) == set()
