"""`cnntrain lr-find`: the rate that it suggests is one to train with, and it says so when it knows nothing."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos
from PIL import Image

from cnntrain.config.loading import load_config
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import NumericalError
from cnntrain.runs.console import Console
from cnntrain.runtime import extras
from cnntrain.tasks.evaluation import evaluate
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.ten_steps import take_ten_steps
from cnntrain.training.events import StepDone
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.lr_find import RangeTest, Search, Trial, lr_find
from cnntrain.training.lr_find.conclusion import decide
from cnntrain.training.lr_find.ladder import Ladder, round_lengths
from cnntrain.training.lr_find.range_test import judge, smooth, with_growing_rate
from cnntrain.training.lr_find.trials import Laboratory, hold_out, shrunk
from cnntrain.training.settings import Settings
from cnntrain.training.setup import build_training, set_up
from cnntrain.training.state import TrainingState

CPU = torch.device("cpu")
RATES = np.geomspace(1e-6, 10, 100)
QUICK = ["data.image_size=16", "recipe.epochs=6", "recipe.averaging=null"]  # 126 steps


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def find(*settings: str, config: str = "digits_lenet", **how: Any) -> Search:
    return lr_find(load_config(config, [*settings]).config, Console(quiet=True), **how)


def curve(*settings: str, config: str = "digits_lenet", **how: Any) -> RangeTest:
    return find(*settings, config=config, budget=0, **how).curve


def test_training_with_the_suggestion_comes_close_to_the_best_of_a_sweep(tmp_path: Path) -> None:
    """From an own rate that is a hundred times too low; the measured sweeps are in docs/reports.md."""
    settings = [*QUICK, "recipe.optimizer.lr=0.0005", "recipe.on_nonfinite=skip"]
    suggestion = find(*settings, budget=1200).conclusion.suggestion
    assert suggestion is not None

    def accuracy(rate: float) -> float:
        chosen = [*settings, f"recipe.optimizer.lr={rate}", f"run.output={tmp_path}/{rate}", "run.tensorboard=false"]
        try:
            return float(
                take_ten_steps(load_config("digits_lenet", chosen).config, Console(quiet=True)).results["test"][
                    "accuracy"
                ]
            )
        except NumericalError:  # it may well explode
            return 0.0

    sweep = [accuracy(rate) for rate in (0.0005, 0.07, 0.2)]
    assert accuracy(suggestion) > max(sweep) - 0.02  # of 359 test images, one is 0.28 points
    assert min(sweep) < max(sweep) - 0.3


def trial(rate: float, accuracy: float, *, seed: int = 0, steps: int = 500, of: int = 2000, shift: int = 0) -> Trial:
    """Of `of` images held out, the first ones after `shift` are right."""
    right = np.roll(np.arange(of) < round(accuracy * of), shift)
    return Trial(rate, steps, seed, float(right.mean()), 1 - accuracy, right)


def climb(score: Any, *, own: float = 0.1, start: float = 0.1, budget: int = 5000, **bounds: float) -> Ladder:
    """A ladder, climbed, whose trials come to what `score` makes of the logarithm of their rate, to the base 3."""
    ladder = Ladder(
        own, bounds.get("low", 1e-6), bounds.get("high", 10.0), budget, round_lengths(budget, 10_000), 0.1,
        lambda rate, steps, seed: trial(rate, score(math.log(rate, 3)), seed=seed, steps=steps), lambda line: None,
    )  # fmt: skip
    ladder.last = ladder.climb(start)  # type: ignore[attr-defined]
    return ladder


def test_a_network_that_is_sure_too_early_is_judged_by_what_it_knows() -> None:
    """With batch norm the loss of few steps grows with the rate, though accuracy does too: ResNet-18 on photos."""

    def attempt(rate: float, steps: int, seed: int) -> Trial:
        log = math.log(rate, 3)
        knows = max(0.1, 0.9 - 0.02 * (log - math.log(0.001, 3)) ** 2)
        return replace(trial(rate, knows, seed=seed, steps=steps), loss=3 + log / 10)

    ladder = Ladder(0.001, 1e-6, 10.0, 5000, round_lengths(5000, 10_000), 0.1, attempt, lambda line: None)
    assert max(ladder.climb(0.00025), key=lambda trial: trial.accuracy).learning_rate == 0.001


def test_a_network_that_only_guesses_yet_is_judged_by_its_loss() -> None:
    def attempt(rate: float, steps: int, seed: int) -> Trial:
        log = math.log(rate / 0.05, 3)
        by_chance = 0.1 + min(0.015, 0.002 * abs(log))  # more for wrong rates, but no more than chance
        knows = by_chance if steps < 500 else max(0.1, 0.9 - 0.05 * log**2)
        return replace(trial(rate, knows, seed=seed, steps=steps), loss=2.3 + 0.01 * log**2)

    ladder = Ladder(0.1, 1e-6, 10.0, 5000, round_lengths(5000, 10_000), 0.1, attempt, lambda line: None)
    best = max(ladder.climb(0.001), key=lambda trial: trial.accuracy).learning_rate
    assert 0.05 / 3 < best < 0.05 * 3


@pytest.mark.parametrize("best", [1e-4, 0.003, 0.05, 1.0])
@pytest.mark.parametrize("own", [1e-5, 0.02, 3.0])
@pytest.mark.parametrize("start", [0.001, 0.3])
def test_the_best_rate_is_found_from_wherever_one_begins(best: float, own: float, start: float) -> None:
    ladder = climb(lambda log: max(0.1, 0.9 - 0.02 * (log - math.log(best, 3)) ** 2), own=own, start=start)
    found = decide(ladder.last, ladder.trials, own, guess=0.1)  # type: ignore[attr-defined]
    assert found.suggestion == pytest.approx(best, rel=0.4)
    assert sum(trial.steps for trial in ladder.trials) <= 5000


def test_trials_grow_longer_and_fewer() -> None:
    trials = climb(lambda log: 0.9 - 0.01 * (log + 2) ** 2).trials
    lengths = [trial.steps for trial in trials]
    assert lengths == sorted(lengths)
    assert lengths.count(60) > lengths.count(200) > 2
    assert len({trial.seed for trial in trials if trial.steps == 500}) > 1


def test_no_rate_outside_the_bounds_is_tried() -> None:
    rates = [trial.learning_rate for trial in climb(lambda log: 0.5 + 0.02 * log, low=0.01, high=0.5).trials]
    assert 0.01 <= min(rates) < max(rates) <= 0.5


def test_no_trial_is_longer_than_the_training_that_it_stands_for() -> None:
    assert round_lengths(5000, 10_000) == [60, 200, 500]
    assert round_lengths(5000, 150) == [60, 150]
    assert round_lengths(5000, 12) == [12]


def test_the_own_rate_is_kept_where_it_does_as_well() -> None:
    trials = [trial(0.058, 0.90), trial(0.1, 0.905, shift=100), trial(0.173, 0.88)]
    found = decide(trials, trials, own=0.058, guess=0.1)
    assert (found.best, found.suggestion, found.configured_is_as_good) == (0.1, 0.058, True)


def test_the_suggestion_lies_away_from_rates_that_explode() -> None:
    near = [trial(0.058, 0.89), trial(0.1, 0.91)]
    assert decide(near, near, own=1e-4, guess=0.1).suggestion == 0.078
    found = decide(near, [*near, trial(0.173, 0.1)], own=1e-4, guess=0.1)
    assert (found.suggestion, found.explodes_from) == (0.058, 0.173)
    assert found.configured_is_as_good is None  # it was not tried
    assert decide(near, [*near, trial(0.173, 0.1)], own=0.1, guess=0.1).suggestion == 0.058
    assert decide(near, [*near, trial(0.173, 0.1, steps=60)], own=0.1, guess=0.1).suggestion == 0.1


def test_few_images_tell_no_rates_apart() -> None:
    trials = [trial(rate, 0.8, of=60, shift=10 * n) for n, rate in enumerate((0.05, 0.1, 0.2))]
    found = decide(trials, trials, 0.1, guess=0.5)
    assert found.suggestion is None
    assert "60 held-out images tell rates apart only where they differ by" in found.nothing


def test_rates_that_learn_nothing_are_not_suggested() -> None:
    trials = [trial(rate, 0.5 + rate / 100) for rate in (0.05, 0.1, 0.2)]
    found = decide(trials, trials, 0.1, guess=0.5)
    assert found.suggestion is None
    assert "no rate learns more than guessing" in found.nothing


def test_images_are_held_out_of_training_alone_and_copies_stay_together() -> None:
    splits = prepare_data(load_config("digits_lenet").config.data)
    twice = torch.arange(len(splits.train)).repeat(2)
    held = hold_out(replace(splits, train=splits.train.subset(twice)), SingleLabel(splits.class_names), seed=0)
    assert not held.val.copies_of(held.train)
    assert not held.val.copies_of(splits.val) + held.val.copies_of(splits.test)
    assert len(held.val) == pytest.approx(0.2 * len(twice), abs=5)
    assert len(held.train) + len(held.val) == len(twice)


def test_schedule_and_average_are_shrunk_to_the_steps_of_a_trial() -> None:
    settings = ["recipe.schedule={name: step, every_epochs: 20, factor: 0.1, warmup_fraction: 0.1}"]
    ready = set_up(load_config("digits_lenet", settings).config, CPU, Console(quiet=True))
    state = shrunk(ready.state, ready.config.recipe, steps=60, whole=1260)
    rates = [state.scheduler.factor(step) * state.scheduler.initial_lrs[0] for step in range(60)]
    assert rates[:7] == pytest.approx([0.05 * min(1, (step + 1) / 6) for step in range(7)])
    assert [rates[19], rates[20], rates[40]] == pytest.approx([0.05, 0.005, 0.0005])
    assert state.average is not None
    assert state.average.decay == pytest.approx(0.99**21)


def test_a_trial_of_the_whole_length_is_the_training_with_this_rate(tmp_path: Path) -> None:
    settings = ["data.image_size=16", "recipe.epochs=2", "recipe.averaging=null", "run.seed=3"]
    config, splits, *_ = set_up(load_config("digits_lenet", settings).config, CPU, Console(quiet=True))
    laboratory = Laboratory(config, splits, SingleLabel(splits.class_names), CPU, None)
    held = hold_out(splits, SingleLabel(splits.class_names), 3)
    steps = 2 * math.ceil(len(held.train) / 64)
    found = laboratory.try_rate(0.02, steps, seed=3)
    expected, how, _ = build_training(laboratory.with_rate(0.02, 3), held, CPU)
    for epoch in (1, 2):
        begin_epoch(expected.network, how, epoch)
        for batch in epoch_batches(held, how, epoch):
            train_step(expected, batch, how)
    outcome = evaluate(expected.kept, eval_batches(held.val, held.preprocessing, 64), how.task)
    assert outcome.losses.mean() == pytest.approx(found.loss, rel=1e-6)


@pytest.mark.parametrize("settings", [["model=resnet20", "data.image_size=8"], ["recipe.optimizer=adamw"]])
def test_the_curve_is_lowest_where_such_recipes_still_learn(settings: list[str]) -> None:
    found = curve(*settings)
    assert found.falls
    assert 1e-3 < found.lowest < 1


def test_the_same_search_finds_the_same_to_the_last_bit() -> None:
    settings = ["data.image_size=16", "model.activation=tanh", "data.augment=[{random_crop: {padding: 2}}, mixup]"]
    first, again = (find(*settings, budget=240) for _ in range(2))
    assert (first.curve, first.trials, first.conclusion) == (again.curve, again.trials, again.conclusion)
    assert curve(*settings) != curve(*settings, "run.seed=1")


def test_the_schedule_and_its_rate_have_no_part_in_the_curve() -> None:
    settings = [
        "data.image_size=16",
        "recipe.optimizer.lr=1e-9",
        "recipe.schedule={name: cosine, warmup_fraction: 0.5}",
    ]
    assert curve(*settings, steps=30) == curve("data.image_size=16", steps=30)


def test_rates_grow_by_the_same_factor_from_the_first_to_the_last() -> None:
    found = curve(
        "data.image_size=8", "model={name: sequential, layers: [flatten, linear]}", steps=25, low=1e-5, high=1e-2
    )
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-5, 1e-2, 25))
    assert found.ended == "all 25 steps are done"


def test_stages_keep_the_ratio_of_their_rates() -> None:
    config = load_config("digits_lenet", ["recipe.layer_decay=0.5", "recipe.schedule=constant"]).config
    state = build_training(config, prepare_data(config.data), CPU).state
    before = [group["lr"] / 0.05 for group in state.optimizer.param_groups]
    state = with_growing_rate(state, 1e-4, 1.0, steps=3)
    for step, expected in enumerate((1e-4, 1e-2, 1.0)):
        state.scheduler.set_rates(step)
        assert [group["lr"] for group in state.optimizer.param_groups] == pytest.approx([expected * b for b in before])
        assert state.learning_rate == pytest.approx(expected)
    assert min(before) < 1


EVERYTHING = [
    "data.augment=[{random_crop: {padding: 2}}, mixup]", "recipe.averaging=ema", "recipe.balance=sampler",
    "recipe.clip_grad_norm=1.0", "recipe.micro_batch=16", "recipe.layer_decay=0.7", "recipe.early_stopping={patience: 2}",
    "recipe.precision=float16", "recipe.on_nonfinite=rollback", "recipe.epochs=2",
]  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        EVERYTHING,
        ["model=resnet20", "data.image_size=16", "recipe.progressive_resizing={initial_size: 8}"],
        ["model={name: googlenet, variant: small}", "data.image_size=16", "recipe.batch_size=8"],
        ["model={name: lenet5, variant: original}", "recipe.loss=squared_error"],
    ],
)
def test_every_recipe_can_be_tried(settings: list[str]) -> None:
    config, splits, *_ = set_up(load_config("digits_lenet", settings).config, CPU, Console(quiet=True))
    found = curve(*settings, steps=20, low=1e-5, high=1e-3)
    assert len(found.losses) == len(found.learning_rates) == len(found.smoothed) == 20
    tried = Laboratory(config, splits, SingleLabel(splits.class_names), CPU, None).try_rate(1e-3, 4, seed=0)
    assert 0 <= tried.accuracy < 0.5


def test_few_images_are_seen_again_and_again_and_nothing_is_suggested(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 6})
    config = f"model: lenet5\ndata: {{source: image_folder, root: {tmp_path}/photos, image_size: 16}}\nrecipe: {{batch_size: 4}}\n"
    (tmp_path / "my.yaml").write_text(config)
    found = find(config=str(tmp_path / "my.yaml"), steps=50, high=1e-2)
    assert found.curve.ended == "all 50 steps are done"
    assert found.conclusion.suggestion is None
    assert "too few to tell rates apart" in found.conclusion.nothing


def test_the_command_prints_trials_and_draws_them(cli: Cli, here: Path) -> None:
    chosen = ["--set", "data.image_size=16", "--set", "recipe.optimizer.lr=0.0005"]
    outcome = cli("lr-find", "digits_lenet", *chosen, "--budget", 600)
    assert outcome.code == 0, outcome.err
    assert "learning rate    30 steps    60 steps" in outcome.out
    assert "points may be chance" in outcome.out
    assert "use it        cnntrain train digits_lenet --set data.image_size=16" in outcome.out
    assert "--set recipe.optimizer.lr=0.0" in outcome.out
    assert [path.name for path in here.iterdir()] == ["lr_find.png"]
    with Image.open(here / "lr_find.png") as drawn:
        assert drawn.width > 600
        height = drawn.height
    assert cli("lr-find", "digits_lenet", *chosen, "--budget", 0, "--quiet").err == ""  # over its own plot
    with Image.open(here / "lr_find.png") as drawn:
        assert drawn.height < height


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_plots_are_drawn_again_over_themselves(kind: str, cli: Cli, here: Path) -> None:
    small = ["--set", "data.image_size=16", "--steps", 40, "--min", 1e-3, "--budget", 0]
    contents = []
    for _ in range(2):
        assert cli("lr-find", "digits_lenet", *small, "--out", f"a b.{kind}").code == 0
        contents.append((here / f"a b.{kind}").read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_json_is_all_that_is_printed(cli: Cli, here: Path) -> None:
    outcome = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--budget", 600, "--json")
    found = json.loads(outcome.out)
    assert found["configured"] == 0.05
    assert found["plot"] == "lr_find.png"
    assert found["as_good_from"] <= found["best"] <= found["as_good_to"]
    assert found["suggestion"] in (found["configured"], pytest.approx(found["best"], rel=0.7))
    assert sum(trial["steps"] for trial in found["trials"]) <= 600
    assert {"learning_rate", "seed", "accuracy", "loss", "num_held_out"} < found["trials"][0].keys()
    assert len(found["losses"]) == len(found["smoothed"]) == len(found["learning_rates"])


def test_without_matplotlib_there_is_a_table_and_no_plot(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "matplotlib" else object())
    outcome = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--budget", 0, "--quiet")
    assert outcome.code == 0
    assert "learning rate      loss  smoothed" in outcome.out
    assert outcome.err == "note: no plot is drawn: it needs matplotlib, pip install 'cnntrain[report]'\n"
    assert not list(here.iterdir())
    refused = cli("lr-find", "digits_lenet", "--out", "a.png")
    assert refused.code == 2
    assert "--out a.png needs matplotlib, not installed here: pip install 'cnntrain[report]'" in refused.err


def test_rates_that_are_all_too_low_or_explode_at_once_give_no_suggestion(cli: Cli, here: Path) -> None:
    flat = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--min", 1e-9, "--max", 1e-6, "--budget", 240)
    assert flat.code == 6
    assert "error: no learning rate can be suggested: in trials, no rate learns more than guessing" in flat.err
    assert "recipe.optimizer.lr=" not in flat.out
    explodes = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--min", 100, "--max", 1e4, "--json")
    assert explodes.code == 6
    assert "the loss explodes at once" in explodes.err
    assert json.loads(explodes.out)["suggestion"] is None


def test_a_curve_is_judged_by_its_steepest_fall_and_its_lowest_point() -> None:
    logs = np.log10(RATES)
    fall = 2.3 - 1.5 / (1 + np.exp(-6 * (logs + 2)))  # steepest at 1e-2
    rise = np.where(logs > -0.5, 20 * (logs + 0.5) ** 2, 0.0)
    found = judge(RATES.tolist(), (fall + rise).tolist(), "")
    assert found.falls
    assert found.steepest == pytest.approx(1e-2, rel=0.3)
    assert 0.1 < found.lowest < 0.5


@pytest.mark.parametrize("num_losses", [20, 100, 300])
@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_fall(seed: int, num_losses: int) -> None:
    noise = 2.3 + 0.2 * np.random.default_rng(seed).standard_normal(num_losses)
    assert not judge(np.geomspace(1e-6, 10, num_losses).tolist(), noise.tolist(), "").falls


def test_an_exploding_end_does_not_hide_the_lowest_point() -> None:
    losses = [2.3] * 60 + [2.3 - 0.04 * index for index in range(30)] + [5.0, 200.0, 1e6]
    assert judge(RATES[: len(losses)].tolist(), losses, "").lowest >= RATES[80]


def test_smoothing_has_no_lag_and_keeps_the_mean_of_a_slope() -> None:
    slope = np.linspace(0, 1, 101)
    np.testing.assert_allclose(smooth(slope, 3.0)[15:-15], slope[15:-15], atol=1e-6)
    weights = np.exp(-0.5 * (np.arange(101) - 50) ** 2 / 9.0)
    spike = np.zeros(101)
    spike[50] = 1.0
    assert smooth(spike, 3.0)[53] == pytest.approx(weights[53] / weights.sum())


def test_a_first_loss_that_is_no_number_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(state: TrainingState, batch: Batch, settings: Settings) -> StepDone:
        return train_step(state, batch._replace(images=batch.images * math.inf), settings)

    monkeypatch.setattr(sys.modules["cnntrain.training.lr_find.range_test"], "train_step", spoilt)
    with pytest.raises(NumericalError, match=r"in the first step; look at the images, data\.mean and data\.std"):
        find("recipe.precision=float32")
