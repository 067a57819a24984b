"""Training as a whole: it learns, repeats, keeps its splits apart and writes down what it did."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from conftest import SHORT, Cli
from torch import nn

from cnntrain.config.loading import Config, load_config
from cnntrain.data.batches import Batch, eval_batches, train_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.data.split import Split
from cnntrain.data.splits import Splits
from cnntrain.data.stores import ResidentStore
from cnntrain.errors import NumericalError
from cnntrain.runs.checkpoints import Header, save_training
from cnntrain.runs.console import Console
from cnntrain.ten_steps import events, take_ten_steps
from cnntrain.trained import load
from cnntrain.training.loop import train_step
from cnntrain.training.setup import Built, build_training
from cnntrain.training.state import TrainingState

CPU = torch.device("cpu")


def digits(*assignments: str) -> tuple[Config, Splits]:
    config = load_config("digits_lenet", ["recipe.precision=float32", *assignments]).config
    return config, prepare_data(config.data)


def first_batch(config: Config, splits: Splits, size: int) -> Batch:
    pipeline = splits.preprocessing.augmentation(config.data.augment, splits.num_classes)
    return next(train_batches(splits.train, pipeline, size, seed=0, epoch=1))


def learn(tmp_path: Path, *assignments: str) -> dict[str, Any]:
    settings = ["recipe.epochs=2", f"run.output={tmp_path}/runs", "data.image_size=16", *assignments]
    return take_ten_steps(load_config("digits_lenet", settings).config, Console(quiet=True)).results


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in results.items() if not key.endswith(("seconds", "second", "share"))}


RECIPES = {
    "adam, squared error": ["recipe.optimizer=adam", "recipe.loss=squared_error"],
    "everything at once": [
        "data.augment=[{random_crop: {padding: 2}}, horizontal_flip, affine, random_erasing, mixup, cutmix]",
        "recipe.optimizer={name: adamw, decay_norms_and_biases: false}",
        "recipe.averaging=ema",
        "recipe.balance=weights",
        "recipe.clip_grad_norm=1.0",
        "recipe.micro_batch=16",
        "recipe.schedule={name: cosine, warmup_fraction: 0.1}",
        "recipe.loss={name: cross_entropy, label_smoothing: 0.1}",
        "recipe.early_stopping={patience: 5}",
    ],
    "balanced sampler, plateau": ["recipe.balance=sampler", "recipe.schedule=reduce_on_plateau"],
    "bfloat16, steps": ["recipe.precision=bfloat16", "recipe.schedule={name: step, every_epochs: 1, factor: 0.5}"],
    "float16": ["recipe.precision=float16", "recipe.optimizer=adamw"],
    "resnet": ["model={name: resnet20}", "recipe.epochs=1", "recipe.schedule={name: multi_step, milestones: [1]}"],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_part_of_a_recipe_trains(recipe: str, tmp_path: Path) -> None:
    results = learn(tmp_path, *RECIPES[recipe])
    assert math.isfinite(results["test"]["loss"])
    lines = (tmp_path / "runs" / "latest" / "metrics.jsonl").read_text().splitlines()
    at_chance = 0.9 if "squared" in recipe else math.log(10)
    assert json.loads(lines[-1])["train"]["loss"] < at_chance


def test_the_same_seed_gives_the_same_results_to_the_last_bit(tmp_path: Path) -> None:
    settings = RECIPES["everything at once"]
    first, again, other = (
        learn(tmp_path / name, *settings, f"run.seed={seed}") for name, seed in [("a", 3), ("b", 3), ("c", 4)]
    )
    assert without_times(first) == without_times(again)
    assert first["test"]["loss"] != other["test"]["loss"]
    assert first["splits"] == other["splits"]  # another run.seed moves no image


def test_the_loss_falls_to_zero_on_a_tiny_set() -> None:
    config, splits = digits("data.augment=[]", "recipe.loss.label_smoothing=0", "recipe.optimizer={name: adam, lr: 1e-3}", "recipe.schedule=constant")  # fmt: skip
    state, settings, _ = build_training(config, splits, CPU)
    batch = first_batch(config, splits, 32)
    losses = [train_step(state, batch, settings).loss for _ in range(150)]
    assert losses[0] == pytest.approx(2.3026, abs=0.1)
    assert losses[-1] < 0.01


def test_a_loop_that_was_cut_off_in_a_step_says_so_instead_of_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    training = events("digits_lenet", {"epochs": 1}, quiet=True)
    next(training)
    monkeypatch.setattr("cnntrain.training.loop.cut_up", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(training)
    with pytest.raises(ValueError, match="cut off in the middle of a step"):
        next(training)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("balance", ["none", "weights"])
def test_micro_batches_take_the_same_step_as_the_whole_batch(loss: str, balance: str) -> None:
    def step(*more: str) -> tuple[TrainingState, float]:
        config, splits = digits(f"recipe.loss={loss}", f"recipe.balance={balance}", "data.augment=[mixup]", *more)
        state, settings, _ = build_training(config, splits, CPU)
        return state, train_step(state, first_batch(config, splits, 50), settings).loss

    (whole, whole_loss), (parts, parts_loss) = step(), step("recipe.micro_batch=16")
    assert parts_loss == pytest.approx(whole_loss, rel=1e-5)
    for ours, expected in zip(parts.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_a_step_is_what_plain_pytorch_does() -> None:
    config, splits = digits("recipe.optimizer={name: sgd, lr: 0.1, momentum: 0, nesterov: false, weight_decay: 0}", "recipe.schedule=constant", "recipe.loss=cross_entropy", "recipe.clip_grad_norm=0.05")  # fmt: skip
    (state, settings, _), batch = build_training(config, splits, CPU), first_batch(config, splits, 20)
    oracle = build_training(config, splits, CPU).state.network
    nn.functional.cross_entropy(oracle(batch.images), batch.targets).backward()
    nn.utils.clip_grad_norm_(oracle.parameters(), 0.05)
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.1)
    optimizer.step()
    train_step(state, batch, settings)
    for ours, expected in zip(state.network.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)


def test_the_average_takes_in_every_step_with_its_own_decay() -> None:
    config, splits = digits("recipe.averaging={decay: 0.15}", "recipe.schedule=constant")
    state, settings, _ = build_training(config, splits, CPU)
    expected = [parameter.detach().clone() for parameter in state.network.parameters()]
    for step in range(1, 6):
        train_step(state, first_batch(config, splits, 16), settings)
        decay = min(0.15, (1 + step) / (10 + step))
        for average, parameter in zip(expected, state.network.parameters(), strict=True):
            average.mul_(decay).add_(parameter.detach(), alpha=1 - decay)
    for ours, average in zip(state.kept.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, average)


def test_a_training_checkpoint_is_enough_to_go_on(tmp_path: Path) -> None:
    settings = [*RECIPES["everything at once"], "data.image_size=16"]
    config, splits = digits(*settings)

    def steps(built: Built, first: int, last: int) -> None:
        pipeline = splits.preprocessing.augmentation(config.data.augment, splits.num_classes)
        batches = list(train_batches(splits.train, pipeline, 64, seed=0, epoch=1))
        for index in range(first, last):
            train_step(built.state, batches[index], built.settings)
        built.state.stopping.update(1, {"accuracy": 0.5, "loss": 1.0})

    whole, first, second = (build_training(config, splits, CPU) for _ in range(3))
    steps(whole, 0, 4)
    steps(whole, 4, 8)
    steps(first, 0, 4)
    header = Header(config, splits.class_names, splits.preprocessing, splits.identity(), step=4)
    save_training(tmp_path, first.state.state_dict(), header)
    second.state.load_state_dict(torch.load(tmp_path / "step-00000004.pt", weights_only=True))
    steps(second, 4, 8)
    ours, theirs = second.state, whole.state
    assert ours.step == theirs.step == 8
    assert ours.stopping == theirs.stopping
    assert ours.learning_rate == theirs.learning_rate
    for network in ("network", "kept"):
        pairs = zip(getattr(ours, network).parameters(), getattr(theirs, network).parameters(), strict=True)
        for parameter, expected in pairs:
            assert torch.equal(parameter, expected)


@pytest.mark.parametrize(
    ("num_images", "micro_batch", "sizes"), [(17, 16, [9, 8]), (3, 2, [3]), (5, 2, [3, 2]), (8, 100, [8])]
)
def test_micro_batches_never_leave_a_single_image(num_images: int, micro_batch: int, sizes: list[int]) -> None:
    config, splits = digits(f"recipe.micro_batch={micro_batch}", "model={name: resnet20}", "data.image_size=8")
    state, settings, _ = build_training(config, splits, CPU)
    seen: list[int] = []
    state.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    train_step(state, first_batch(config, splits, num_images), settings)
    assert seen == sizes


def test_norms_are_of_whole_layers() -> None:
    config, splits = digits()
    state, settings, _ = build_training(config, splits, CPU)
    measured = train_step(state, first_batch(config, splits, 8), settings, measured=True).norms
    assert measured
    for norms in measured.by_layer().values():
        assert list(norms) == ["features.0", "features.3", "classifier.1", "classifier.3", "classifier.5"]
        assert all(norm > 0 for norm in norms.values())


def test_test_images_change_nothing_but_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = learn(tmp_path / "honest")

    def tampered(*args: Any, **kwargs: Any) -> Splits:
        splits = prepare_data(*args, **kwargs)
        black = ResidentStore(torch.zeros(1797, 32, 32, 1, dtype=torch.uint8), CPU)
        return replace(splits, test=replace(splits.test, store=black))

    monkeypatch.setattr("cnntrain.training.setup.prepare_data", tampered)
    blind = learn(tmp_path / "blind")
    assert blind["test"]["accuracy"] != honest["test"]["accuracy"]
    assert blind["val"] == honest["val"]
    weights = [
        load(next((tmp_path / name).glob("runs/*/*/checkpoints/best.safetensors")), CPU).network
        for name in ("honest", "blind")
    ]
    for first, second in zip(weights[0].parameters(), weights[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_the_test_split_is_evaluated_once_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def watched(split: Split, *how: Any) -> Any:
        seen.append(split.identity()["sha256"])
        return eval_batches(split, *how)

    for module in ("cnntrain.training.loop", "cnntrain.tasks.evaluation"):
        monkeypatch.setattr(f"{module}.eval_batches", watched)
    splits = learn(tmp_path)["splits"]
    assert seen == [splits["val"]["sha256"]] * 2 + [splits["test"]["sha256"]]


def test_early_stopping_ends_the_run_and_the_best_epoch_is_tested(tmp_path: Path) -> None:
    results = learn(
        tmp_path, "recipe.epochs=30", "recipe.early_stopping={metric: loss, patience: 2}", "recipe.optimizer.lr=1.0"
    )
    assert results["epochs_run"] < 30
    assert "validation loss has not improved" in results["stopped_because"]
    assert results["epochs_run"] - results["best_epoch"] >= 2
    lines = next(tmp_path.glob("runs/*/*/metrics.jsonl")).read_text().splitlines()
    losses = [json.loads(line)["val"]["loss"] for line in lines]
    assert results["val"]["loss"] == losses[results["best_epoch"] - 1]


def test_a_loss_that_explodes_stops_the_run_and_leaves_no_folder(tmp_path: Path) -> None:
    settings = ["recipe.optimizer={name: sgd, lr: 1e30}", "recipe.schedule=constant"]
    with pytest.raises(NumericalError, match=r"lower recipe\.optimizer\.lr"):
        learn(tmp_path, *settings)
    assert not (tmp_path / "runs").exists()


def test_averaged_weights_are_what_is_kept(tmp_path: Path) -> None:
    learn(tmp_path, "recipe.averaging={decay: 0.99}")
    folder = (tmp_path / "runs" / "latest").resolve()
    state = torch.load(sorted(folder.glob("checkpoints/step-*.pt"))[-1], weights_only=True)
    network = load(folder / "checkpoints" / "best.safetensors", CPU).network
    for name, value in network.state_dict().items():
        assert torch.equal(value, state["kept"][name])
        assert not torch.equal(value, state["model"][name])


def test_the_run_folder_holds_everything(trained_run: Path) -> None:
    results = json.loads((trained_run / "results.json").read_text())
    assert set(results["test"]) >= {"accuracy", "loss", "num_images", "per_class", "confusion", "top5_accuracy"}
    for key in (
        "val", "best_epoch", "epochs_run", "stopped_because", "train_seconds", "images_per_second", "parameters", "seed",
    ):  # fmt: skip
        assert key in results
    assert set(results["versions"]) == {"python", "torch", "torchvision", "numpy", "pillow", "cnntrain"}
    assert [results["splits"][name]["num_images"] for name in ("train", "val", "test")] == [1295, 143, 359]
    assert all(len(results["splits"][name]["sha256"]) == 64 for name in ("train", "val", "test"))
    assert results["parameters"] == 61_706
    assert len((trained_run / "metrics.jsonl").read_text().splitlines()) == 3
    assert len(list((trained_run / "checkpoints").glob("step-*.pt"))) == 2
    assert not [path for path in trained_run.rglob("*") if "partial" in path.name]


def test_the_resolved_config_repeats_the_run(trained_run: Path, tmp_path: Path, cli: Cli) -> None:
    assert cli("train", trained_run / "config.yaml", "--output", tmp_path / "again", "--quiet").code == 0
    first, again = (
        json.loads((folder / "results.json").read_text()) for folder in (trained_run, tmp_path / "again" / "latest")
    )
    assert without_times(first) == without_times(again)


def test_tensorboard_has_the_curves_and_pictures(trained_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained_run))
    events.Reload()
    tags = events.Tags()
    assert {
        "train/loss", "train/accuracy", "val/loss", "val/accuracy", "learning_rate", "speed/images_per_second",
        "speed/data_share", "gradient_norm/features.0", "final/test/accuracy",
    } <= set(tags["scalars"])  # fmt: skip
    assert set(tags["images"]) == {"train/augmented", "test/confusion", "test/worst_mistakes"}
    assert [event.step for event in events.Scalars("val/loss")] == [21, 42, 63]
    assert events.SummaryMetadata("_hparams_/session_start_info").plugin_data.plugin_name == "hparams"


def test_real_mnist_is_learnt_within_an_epoch(real_data: Path, tmp_path: Path, cli: Cli) -> None:
    outcome = cli("train", "mnist_lenet", "--data-root", real_data, "--output", tmp_path, "--epochs", 1, "--quiet")
    assert outcome.code == 0, outcome.err
    results = json.loads((tmp_path / "latest" / "results.json").read_text())
    assert results["test"]["num_images"] == 10_000
    assert results["test"]["accuracy"] > 0.97


def test_a_temperature_is_saved_and_evaluated_with(cli: Cli, tmp_path: Path) -> None:
    plain = cli("train", "digits_lenet", *SHORT, "--output", tmp_path / "plain")
    scaled = cli(
        "train", "digits_lenet", *SHORT, "--output", tmp_path / "scaled", "--set", "recipe.temperature_scaling=true"
    )
    assert (plain.code, scaled.code) == (0, 0)
    assert "calibrated on 143 validation images" in scaled.err
    before, after = (json.loads((tmp_path / name / "latest/results.json").read_text()) for name in ("plain", "scaled"))
    assert after["test"]["confusion"] == before["test"]["confusion"]
    assert after["val"]["loss"] < before["val"]["loss"]  # it minimises just that
    for split in ("val", "test"):
        found = json.loads(cli("evaluate", tmp_path / "scaled/latest", "--split", split, "--json").out)
        assert found["loss"] == after[split]["loss"]
    header = load(tmp_path / "scaled/latest/checkpoints/best.safetensors", CPU).header
    assert header.temperature != 1
    assert header.val["loss"] == after["val"]["loss"]
