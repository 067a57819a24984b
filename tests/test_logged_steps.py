"""What is measured of a network while it trains: norms in a step, dead ReLUs, and their record in the run folder."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, split_of
from torch import nn

from cnntrain.config.loading import load_config
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.inputs import image_inputs
from cnntrain.data.prepare import prepare_data
from cnntrain.insight.dead_relus import dead_relus, spread
from cnntrain.models import build_model
from cnntrain.runs.console import Console
from cnntrain.runs.logged_steps import MAX_LINES, LoggedSteps
from cnntrain.ten_steps import take_ten_steps
from cnntrain.training.events import StepDone
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.setup import build_training
from cnntrain.training.state import TrainingState
from cnntrain.training.step_norms import StepNorms

CPU = torch.device("cpu")
GREY = Preprocessing(1, 8, 8, "crop", (0.5,), (0.5,))


def steps(*assignments: str, watched: bool) -> tuple[TrainingState, list[torch.Tensor], StepDone]:
    """Three steps: the state, its weights before the last one, and what the last one left."""
    config = load_config("digits_lenet", ["recipe.schedule=constant", *assignments]).config
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, CPU)
    begin_epoch(state.network, settings, 1)
    for batch, _ in zip(epoch_batches(splits, settings, 1), range(3), strict=False):
        before = [parameter.detach().clone() for parameter in state.network.parameters()]
        done = train_step(state, batch, settings, measured=watched)
    return state, before, done


def norms_of(done: StepDone) -> dict[str, dict[str, float]]:
    """By kind and layer."""
    assert done.norms is not None
    return done.norms.by_layer()


RECIPES = [
    ["recipe.optimizer=adamw", "recipe.clip_grad_norm=0.1"],
    ["recipe.precision=bfloat16", "model={name: resnet20}", "recipe.micro_batch=16"],
    ["recipe.precision=float16", "recipe.on_nonfinite=skip", "recipe.averaging=ema"],
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_that_is_measured_is_the_same_to_the_last_bit(recipe: list[str]) -> None:
    plain, measured = (steps(*recipe, watched=watched)[0].state_dict() for watched in (False, True))
    assert measured["step"] == plain["step"] == 3
    for part in ("model", "kept"):
        for name, tensor in plain[part].items():
            assert torch.equal(tensor, measured[part][name]), name


@pytest.mark.parametrize("recipe", RECIPES[:2])
def test_update_ratios_are_those_of_the_weights_themselves(recipe: list[str]) -> None:
    state, before, done = steps(*recipe, watched=True)
    ratios = norms_of(done)["update_ratio"]
    moved: dict[str, list[np.ndarray[Any, Any]]] = {}
    for (name, after), old in zip(state.network.named_parameters(), before, strict=True):
        pair = np.stack([(after.detach() - old).numpy().ravel(), old.numpy().ravel()])
        moved.setdefault(name.rpartition(".")[0], []).append(pair)
    expected = {
        layer: np.linalg.norm(np.hstack(pairs)[0]) / np.linalg.norm(np.hstack(pairs)[1])
        for layer, pairs in moved.items()
    }
    assert ratios == pytest.approx(expected, rel=1e-4)
    assert list(ratios) == list(norms_of(done)["gradient_norm"])


def test_gradient_norms_are_those_before_clipping() -> None:
    free, clipped = (steps(f"recipe.clip_grad_norm={norm}", "recipe.optimizer={name: sgd, lr: 1e-12}", watched=True)[2] for norm in ("null", "1e-3"))  # fmt: skip
    assert norms_of(clipped)["gradient_norm"] == pytest.approx(norms_of(free)["gradient_norm"], rel=1e-3)


def test_frozen_layers_and_weights_of_zero_are_told_apart() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen, self.zero = nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2)

    net = Net()
    for parameter in net.zero.parameters():
        nn.init.zeros_(parameter)
    net.zero(net.frozen(torch.ones(1, 2))).sum().backward()
    norms = StepNorms(net)
    with torch.no_grad():
        net.zero.bias.fill_(1.0)
    norms.weights_moved()
    assert norms.by_layer()["update_ratio"] == {"zero": math.inf}


def logged_steps(num_steps: int, log_every_steps: int = 50) -> list[int]:
    """Of the first ones, those whose norms are measured."""
    config = load_config("digits_lenet", [f"run.log_every_steps={log_every_steps}"]).config
    settings = build_training(config, prepare_data(config.data), CPU).settings
    return [step for step in range(num_steps) if settings.is_measured(step)]


def test_steps_are_logged_more_often_at_the_beginning() -> None:
    logged = logged_steps(5000)
    assert logged[:45] == [*range(40), 40, 42, 44, 46, 48]
    assert logged[-3:] == [4850, 4900, 4950]
    assert all(later - earlier <= 50 for earlier, later in itertools.pairwise(logged))
    assert len(logged) < 0.045 * 5000
    assert logged_steps(9, log_every_steps=1) == list(range(9))


def test_long_trainings_keep_some_hundred_lines_spread_over_all_of_it() -> None:
    lines = LoggedSteps()
    for step in range(10_000):
        lines.add({"step": step})
        assert len(lines.lines) <= MAX_LINES
    kept = [json.loads(line)["step"] for line in lines.lines]
    assert kept[0] == 0
    assert kept == list(range(0, 10_000, 32))
    assert len(kept) > MAX_LINES // 2


def test_lines_go_on_where_they_were_saved() -> None:
    whole, begun = LoggedSteps(), LoggedSteps()
    for step in range(1234):
        whole.add({"step": step})
    for step in range(777):
        begun.add({"step": step})
    again = LoggedSteps()
    again.load_state_dict(json.loads(json.dumps(begun.state_dict())))
    for step in range(777, 1234):
        again.add({"step": step})
    assert again.lines == whole.lines


def test_the_run_folder_has_the_signals_that_tensorboard_shows(trained_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    lines = [json.loads(line) for line in (trained_run / "signals.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [step + 1 for step in logged_steps(63)]
    events = EventAccumulator(str(trained_run))
    events.Reload()
    for line in lines:
        assert set(line) == {"step", "epoch", "loss", "learning_rate", "gradient_norm", "update_ratio"}
        assert line["epoch"] == (line["step"] - 1) // 21 + 1
    for kind in ("gradient_norm", "update_ratio"):
        for layer in ("features.0", "classifier.5"):
            shown = [event.value for event in events.Scalars(f"{kind}/{layer}")]
            assert shown == pytest.approx([line[kind][layer] for line in lines], rel=1e-3)
    epochs = [json.loads(line) for line in (trained_run / "metrics.jsonl").read_text().splitlines()]
    assert [set(epoch.get("dead_relus", ())) for epoch in epochs] == [
        set(lines[0]["update_ratio"]) - {"classifier.5"}
    ] * 3


def test_after_going_back_the_record_has_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = iter([7])

    def spoil(state: TrainingState, batch: Batch, *rest: Any, **more: Any) -> StepDone:
        if state.step == 7 and next(spoilt, None):
            batch.images.fill_(math.nan)
        return train_step(state, batch, *rest, **more)

    monkeypatch.setattr("cnntrain.training.loop.train_step", spoil)
    settings = [
        "recipe.on_nonfinite=rollback",
        "recipe.epochs=2",
        "recipe.checkpoint_every_steps=5",
        f"run.output={tmp_path}",
    ]
    finished = take_ten_steps(load_config("digits_lenet", settings).config, Console(quiet=True))
    folder, results = finished.folder, finished.results
    assert results["rollbacks"] == 1
    found = [json.loads(line)["step"] for line in (folder / "signals.jsonl").read_text().splitlines()]
    assert found == [step + 1 for step in logged_steps(42) if step != 7]


def pictures(num_images: int) -> Any:
    rng = np.random.default_rng(0)
    return split_of(rng.integers(0, 256, (num_images, 8, 8, 1), dtype=np.uint8))


def test_dead_relus_are_the_units_that_never_fire() -> None:
    model: Any = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10), nn.ReLU(), nn.Linear(10, 2)
    )
    with torch.no_grad():
        model[0].bias[:2] = -1000.0
        model[3].bias[0] = -1000.0
    split = pictures(300)
    for batch_size in (300, 64):
        assert dead_relus(model, eval_batches(spread(split), GREY, batch_size)) == pytest.approx({"0": 0.25, "3": 0.1})
    assert not any(module._forward_hooks for module in model.modules())


def test_a_unit_is_alive_if_a_single_image_rouses_it() -> None:
    black = np.zeros((50, 8, 8, 1), np.uint8)
    black[33, 4, 5] = 255
    model: Any = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[0].bias[:] = torch.tensor([0.0, -1.0])  # white is +1, black is -1
    assert dead_relus(model, eval_batches(split_of(black), GREY, 16)) == {"0": 0.5}
    assert dead_relus(model, eval_batches(split_of(black[:33]), GREY, 16)) == {"0": 1.0}


@pytest.mark.parametrize("name", ["resnet20", "googlenet", "lenet5", "resnet9"])
def test_every_relu_is_looked_at_where_modules_are_shared(name: str) -> None:
    from cnntrain.config.loading import parse_config

    variant = ", variant: small" if name == "googlenet" else ""
    config = parse_config(f"model: {{name: {name}{variant}}}\ndata: {{source: digits}}\n", "test")
    model = build_model(config.model, image_inputs(1, 32), 10).eval()
    calls: list[str] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda *_: calls.append(""))
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 1), dtype=np.uint8)
    found = dead_relus(model, eval_batches(split_of(images), Preprocessing(1, 32, 32, "crop", (0.5,), (0.5,)), 20))
    assert len(found) == len(calls) > 0
    assert all(0 <= share < 1 for share in found.values())
    assert set(found) <= {parameter.rpartition(".")[0] for parameter, _ in model.named_parameters()}


def test_relus_of_other_widths_after_the_same_layer_are_kept_apart() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.ReLU())
    assert set(dead_relus(model, eval_batches(pictures(10), GREY, 10))) == {"0", "3"}


def test_a_network_without_relus_has_none_to_look_at(tmp_path: Path, cli: Cli) -> None:
    more = ["--set", "model.activation=tanh", "--epochs", 1, "--output", tmp_path, "--quiet"]
    assert cli("train", "digits_lenet", *more).code == 0
    assert "dead_relus" not in json.loads((tmp_path / "latest" / "metrics.jsonl").read_text())
