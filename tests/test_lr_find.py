"""`cnntrain lr-find`: the rate that it suggests is one to train with, and it says so when it knows nothing."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos
from PIL import Image

from cnntrain import extras
from cnntrain.config import load_config
from cnntrain.data import prepare_data
from cnntrain.errors import NumericalError
from cnntrain.learner import build_learner
from cnntrain.lr_find import RangeTest, grow_rate, judge, lr_find, smooth
from cnntrain.records.console import Console
from cnntrain.train import run

RATES = np.geomspace(1e-6, 10, 100)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def find(*settings: str, config: str = "digits_lenet", **how: Any) -> RangeTest:
    return lr_find(load_config(config, [*settings]).config, Console(quiet=True), **how)


def test_training_with_the_suggestion_beats_a_hundredth_and_a_hundredfold_of_it(tmp_path: Path) -> None:
    settings = ["data.image_size=16", "recipe.epochs=6", "recipe.averaging=null", "recipe.on_nonfinite=skip"]
    suggestion = find(*settings).suggestion
    assert suggestion is not None
    assert 0.005 < suggestion < 0.2

    def loss(rate: float) -> float:
        chosen = [*settings, f"recipe.optimizer.lr={rate}", f"run.output={tmp_path}/{rate}", "run.tensorboard=false"]
        try:
            found = run(load_config("digits_lenet", chosen).config, Console(quiet=True)).results["val"]["loss"]
        except NumericalError:  # it may well explode
            return math.inf
        return float(found)

    assert loss(suggestion) < 0.9 * min(loss(suggestion / 100), loss(suggestion * 100))


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        (["model=resnet20", "data.image_size=8"], 0.003, 0.3),
        (["recipe.optimizer=adamw"], 3e-4, 3e-2),
        (
            [
                "recipe.optimizer={name: sgd, lr: 0.05, momentum: 0, nesterov: false}",
                "model=resnet20",
                "data.image_size=8",
            ],
            0.03,
            3,
        ),
    ],
)
def test_suggestions_lie_where_such_recipes_usually_do(settings: list[str], low: float, high: float) -> None:
    found = find(*settings)
    assert found.suggestion is not None
    assert low < found.suggestion < high
    assert found.suggestion < found.lowest


def test_the_same_test_finds_the_same_to_the_last_bit() -> None:
    settings = ["data.image_size=16", "model.activation=tanh", "data.augment=[{random_crop: {padding: 2}}, mixup]"]
    assert find(*settings) == find(*settings)
    assert find(*settings) != find(*settings, "run.seed=1")


def test_the_schedule_and_its_rate_have_no_part_in_it() -> None:
    settings = [
        "data.image_size=16",
        "recipe.optimizer.lr=1e-9",
        "recipe.schedule={name: cosine, warmup_fraction: 0.5}",
    ]
    assert find(*settings, steps=30) == find("data.image_size=16", steps=30)


def test_rates_grow_by_the_same_factor_from_the_first_to_the_last() -> None:
    found = find(
        "data.image_size=8", "model={name: sequential, layers: [flatten, linear]}", steps=25, low=1e-5, high=1e-2
    )
    np.testing.assert_allclose(found.learning_rates, np.geomspace(1e-5, 1e-2, 25))
    assert found.ended == "all 25 steps are done"


def test_stages_keep_the_ratio_of_their_rates() -> None:
    config = load_config("digits_lenet", ["recipe.layer_decay=0.5", "recipe.schedule=constant"]).config
    learner = build_learner(config, prepare_data(config.data), torch.device("cpu"))
    before = [group["lr"] / 0.05 for group in learner.optimizer.param_groups]
    grow_rate(learner, 1e-4, 1.0, steps=3)
    for expected in (1e-4, 1e-2, 1.0):
        assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx(
            [expected * b for b in before]
        )
        assert learner.learning_rate == pytest.approx(expected)
        learner.scheduler.step()
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
    found = find(*settings, steps=20, low=1e-5, high=1e-3)
    assert len(found.losses) == len(found.learning_rates) == len(found.smoothed) == 20


def test_few_images_are_seen_again_and_again(tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 6})
    config = f"model: lenet5\ndata: {{source: image_folder, root: {tmp_path}/photos, image_size: 16}}\nrecipe: {{batch_size: 4}}\n"
    (tmp_path / "my.yaml").write_text(config)
    assert find(config=str(tmp_path / "my.yaml"), steps=50, high=1e-2).ended == "all 50 steps are done"


def test_the_command_prints_a_table_and_draws_the_curve(cli: Cli, here: Path) -> None:
    outcome = cli("lr-find", "digits_lenet", "--set", "data.image_size=16")
    assert outcome.code == 0, outcome.err
    assert "learning rate      loss  smoothed" in outcome.out
    assert "where the smoothed loss falls fastest" in outcome.out
    assert "cnntrain train digits_lenet --set recipe.optimizer.lr=0." in outcome.out
    assert [path.name for path in here.iterdir()] == ["lr_find.png"]
    with Image.open(here / "lr_find.png") as drawn:
        assert drawn.width > 600
    assert cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--quiet").err == ""  # over its own plot


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_plots_are_drawn_again_over_themselves(kind: str, cli: Cli, here: Path) -> None:
    arguments = [
        "lr-find",
        "digits_lenet",
        "--set",
        "data.image_size=16",
        "--steps",
        40,
        "--min",
        1e-3,
        "--out",
        f"a b.{kind}",
    ]
    contents = []
    for _ in range(2):
        assert cli(*arguments).code == 0
        contents.append((here / f"a b.{kind}").read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[kind])


def test_json_is_all_that_is_printed(cli: Cli, here: Path) -> None:
    outcome = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--json")
    found = json.loads(outcome.out)
    assert found["configured"] == 0.05
    assert found["plot"] == "lr_find.png"
    assert found["suggestion"] == pytest.approx(max(found["steepest"], found["lowest"] / 10))
    assert len(found["losses"]) == len(found["smoothed"]) == len(found["learning_rates"])


def test_without_matplotlib_the_suggestion_still_comes(cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda module: None if module == "matplotlib" else object())
    outcome = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--quiet")
    assert outcome.code == 0
    assert "suggestion" in outcome.out
    assert outcome.err == "note: no plot is drawn: it needs matplotlib, pip install 'cnntrain[report]'\n"
    assert not list(here.iterdir())
    refused = cli("lr-find", "digits_lenet", "--out", "a.png")
    assert refused.code == 2
    assert "--out a.png needs matplotlib, not installed here: pip install 'cnntrain[report]'" in refused.err


def test_a_curve_that_is_flat_or_explodes_at_once_gives_no_suggestion(cli: Cli, here: Path) -> None:
    flat = cli("lr-find", "digits_lenet", "--set", "data.image_size=16", "--max", 1e-5)
    assert flat.code == 6
    assert "error: no learning rate can be suggested: the loss falls nowhere by more than it varies" in flat.err
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
    assert found.steepest == pytest.approx(1e-2, rel=0.3)
    assert 0.1 < found.lowest < 0.5
    assert found.suggestion == pytest.approx(max(found.steepest, found.lowest / 10))


@pytest.mark.parametrize("num_losses", [20, 100, 300])
@pytest.mark.parametrize("seed", range(20))
def test_noise_is_no_fall(seed: int, num_losses: int) -> None:
    noise = 2.3 + 0.2 * np.random.default_rng(seed).standard_normal(num_losses)
    found = judge(np.geomspace(1e-6, 10, num_losses).tolist(), noise.tolist(), "")
    assert found.suggestion is None
    assert "varies" in found.nothing


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


def test_a_first_loss_that_is_no_number_is_explained() -> None:
    with pytest.raises(NumericalError, match=r"in the first step; look at the images, data\.mean and data\.std"):
        find("data.mean=[0.5]", "data.std=[1e-38]", "recipe.precision=float32")
