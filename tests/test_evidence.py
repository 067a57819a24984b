"""Numbers from few examples carry their interval or their count, and nothing takes comfort in them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Cli, write_photos
from scipy import stats
from sklearn.metrics import balanced_accuracy_score
from test_doctor import in_epochs, kinds

from cnntrain.errors import CheckpointError
from cnntrain.insight.doctor import examine
from cnntrain.reports.conclusions import conclusions
from cnntrain.runs.artifacts.records import check_metrics
from cnntrain.tasks.evidence import doubtful_classes, evidence_of_classes, num_correct, num_predicted
from cnntrain.tasks.intervals import difference_interval, mean_interval, widest_spread, wilson_interval
from cnntrain.tasks.metrics import SingleLabelEvaluation
from cnntrain.tasks.tables import evaluation_text
from cnntrain.tasks.temperature import fit_temperature, temperature_interval


def summary_of(targets: list[int], predictions: list[int], num_classes: int) -> dict[str, Any]:
    """What evaluation says of images with these targets and predictions; classes are called a, b, c, ..."""
    names, num_images = tuple("abcdefghij"[:num_classes]), len(targets)
    found = SingleLabelEvaluation(
        names,
        np.array(targets),
        np.array(predictions),
        np.full(num_images, 0.1, np.float32),
        np.full(num_images, 0.9, np.float32),
        np.ones(num_images, bool),
    )
    return {"split": "test", **found.summary()}


@pytest.mark.parametrize("num_images", [300, 3000])
def test_the_interval_of_balanced_accuracy_is_that_of_resampled_images(num_images: int) -> None:
    rng = np.random.default_rng(0)
    targets = rng.choice(4, size=num_images, p=[0.5, 0.2, 0.2, 0.1])
    predictions = np.where(rng.random(num_images) < 0.8, targets, rng.integers(0, 4, num_images))
    expected = stats.bootstrap(
        (targets, predictions),
        balanced_accuracy_score,
        paired=True,
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=1,
    ).confidence_interval
    low, high = summary_of(targets.tolist(), predictions.tolist(), 4)["balanced_accuracy_interval"]
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.15 * (high - low))


def test_the_interval_of_a_mean_of_shares_covers_the_truth_where_each_has_two_cases() -> None:
    rng, truth = np.random.default_rng(0), rng_shares(300)
    covered = [
        low <= truth.mean() <= high
        for low, high in (mean_interval((int(k), 2) for k in rng.binomial(2, truth)) for _ in range(300))
    ]
    assert np.mean(covered) >= 0.95


def rng_shares(number: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(1).uniform(0.6, 1, number)


def test_the_interval_of_one_share_holds_wilsons_and_that_of_none_is_everything() -> None:
    assert mean_interval([(9, 9)]) == pytest.approx(wilson_interval(9, 9))
    low, high = mean_interval([(7, 9)])
    assert low == pytest.approx(wilson_interval(7, 9).low)
    assert high >= wilson_interval(7, 9).high
    assert mean_interval([]) == (0, 1)


@pytest.mark.parametrize("total", [2, 20, 500])
def test_no_share_of_so_many_cases_is_further_off_than_the_widest_spread(total: int) -> None:
    spreads = [(high - low) / 2 for low, high in (wilson_interval(k, total) for k in range(total + 1))]
    assert max(spreads) == pytest.approx(widest_spread(total))


def test_the_interval_of_a_difference_is_that_of_resampled_images_and_leaves_room_where_networks_agree() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(400, [0.05, 0.1, 0.85], size=4000)  # lost, gained, alike
    low, high = np.quantile((drawn[:, 1] - drawn[:, 0]) / 400, (0.025, 0.975))
    assert difference_interval(40, 20, 400) == pytest.approx((low, high), abs=0.005)
    low, high = difference_interval(0, 0, 2)
    assert low < -0.4
    assert high > 0.4


def test_temperatures_of_like_likelihood_are_those_of_the_chi_squared_test() -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 3, (40,), generator=rng)
    outputs = 3 * (F.one_hot(targets, 3) + 0.9 * torch.randn(40, 3, generator=rng))
    fitted = fit_temperature(outputs, targets)
    low, high = temperature_interval(outputs, targets, fitted)
    assert low < fitted < high
    losses = [float(F.cross_entropy(outputs.double() / t, targets, reduction="sum")) for t in (low, fitted, high)]
    for end in (losses[0], losses[2]):
        assert stats.chi2.sf(2 * (end - losses[1]), 1) == pytest.approx(0.05, abs=1e-4)


def test_evaluate_counts_what_each_share_is_of() -> None:
    text = "\n".join(evaluation_text(summary_of([0, 0, 1], [0, 1, 1], 3)))
    assert re.search(r"top-1 +66.67 % +95 % interval 20.77 to 93.85 %; 2 of 3", text)
    assert re.search(r"balanced +75.00 % +95 % interval .*; 2 classes, the smallest with 1 image", text)
    assert re.search(r"a +100.00 % +1/1 +50.00 % +1/2 +9.5 to 90.5 %", text)
    assert re.search(r"c +- +- +- +- +0$", text, re.MULTILINE)  # neither images nor predictions: no 0 %
    assert "2 of 3 classes have fewer than 20 images (b 1, a 2); 1 of 3 have none (c)" in text
    assert "1 of 2  a taken for b" in text


def test_classes_of_many_images_are_not_doubted() -> None:
    metrics = summary_of([0] * 20 + [1] * 30, [0] * 20 + [1] * 30, 2)
    assert doubtful_classes(metrics) == ""
    assert evidence_of_classes(metrics) == "2 classes, the smallest with 20 images"


def test_counts_of_older_results_follow_from_their_shares() -> None:
    for row in summary_of([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 3)["per_class"]:
        old = {key: value for key, value in row.items() if key not in ("correct", "predicted")}
        assert num_correct(old) == row["correct"]
        assert num_predicted(old) == (row["predicted"] or None)


def test_counts_are_read_from_where_they_stand() -> None:
    row = {"class": "a", "recall": 0.3333, "precision": 0.25, "support": 30_000, "correct": 10_000, "predicted": 39_999}
    assert (num_correct(row), num_predicted(row)) == (10_000, 39_999)


def test_more_right_images_than_there_are_make_no_sense() -> None:
    summary = summary_of([0, 0, 1, 1, 1], [0, 1, 1, 1, 0], 3)
    check_metrics(summary, "x")
    summary["per_class"][1]["correct"] = 4
    with pytest.raises(CheckpointError, match=r"x: per_class\.1\.correct: must be at most support and predicted"):
        check_metrics(summary, "x")


@pytest.mark.parametrize(
    ("right", "total", "tone", "said"),
    [
        (2, 2, "warn", "2 test images cannot tell it from guessing"),
        (6, 6, "good", "Better than guessing"),
        (1, 2, "bad", "2 test images cannot tell it from guessing"),
        (500, 1000, "bad", "No better than guessing"),
        (700, 1000, "good", "Better than guessing"),
    ],
)
def test_a_network_is_better_than_guessing_only_where_images_can_tell(
    right: int, total: int, tone: str, said: str
) -> None:
    targets = [index % 2 for index in range(total)]
    predictions = [target if index < right else 1 - target for index, target in enumerate(targets)]
    metrics = summary_of(targets, predictions, 2)
    sentence = conclusions({"test": metrics, "val": metrics}, None)[0]
    assert sentence.tone == tone
    assert sentence.text.startswith(said)


def test_a_test_of_one_class_is_no_praise() -> None:
    metrics = summary_of([0] * 50, [0] * 50, 3)
    texts = [sentence.text for sentence in conclusions({"test": metrics, "val": metrics}, None)]
    assert "cannot tell what the network knows of others" in texts[0]
    assert "2 of 3 have none (b, c)" in texts[1]


def test_a_pair_that_is_mistaken_once_does_not_stand_out() -> None:
    once, twice = summary_of([0, 0, 1, 1], [0, 1, 1, 1], 2), summary_of([0, 0, 0, 1], [0, 1, 1, 1], 2)
    assert "more than once" in conclusions({"test": once, "val": once}, None)[-1].text
    assert "Most often, a is taken for b (2 of 3 times)" in conclusions({"test": twice, "val": twice}, None)[-1].text


@pytest.mark.report
def test_a_run_with_two_test_images_takes_no_comfort(cli: Cli, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 12, "val": 2, "test": 1}, ("bee", "wasp"))
    text = "model: lenet5\ndata: {source: image_folder, root: photos, image_size: 16}\n"
    recipe = "recipe: {epochs: 6, batch_size: 8, temperature_scaling: true}\n"
    (tmp_path / "my.yaml").write_text(text + recipe)
    trained = cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs")
    assert re.match(r"test accuracy .* \(95 % interval .*\), loss .* on 2 images; validation .* of 4 at", trained.out)
    run = (tmp_path / "runs/latest").resolve()
    found = json.loads(cli("evaluate", run, "--json").out)
    assert found["accuracy_interval"] == pytest.approx(wilson_interval(round(2 * found["accuracy"]), 2))
    page = (run / "report.html").read_text()
    for comfort in ("be taken at its word (", "doubts no label", "Better than guessing", "every test image is right"):
        assert comfort not in page
    for caution in ("cannot be judged: their", "So few say next to nothing", "Whether its confidence"):
        assert caution in " ".join(page.split())
    assert re.search(r"<title>LeNet-5 on photos, my/\d{8}-\d{6}: .* of 2</title>", page)
    said = cli("predict", tmp_path / "photos/test/bee", "--run", run).err
    assert re.search(
        r"its probabilities are (calibrated on 4 validation images, which are few|not calibrated \(4)", said
    )


def test_the_doctor_says_nothing_of_dead_units_by_a_handful_of_images() -> None:
    signals = in_epochs(lambda _, __: {"dead_relus": {"first": 1.0}})
    assert "dead_relus" in kinds(replace(signals, val={**signals.val, "num_images": 100}))
    assert "dead_relus" not in kinds(replace(signals, val={**signals.val, "num_images": 5}))


def test_the_doctor_doubts_overfitting_by_a_handful_of_images() -> None:
    def course(line: dict[str, Any], index: int) -> dict[str, Any]:
        return {
            "train": {**line["train"], "loss": 0.5 / (1 + index)},
            "val": {**line["val"], "loss": 0.5 + 0.2 * index},
        }

    signals = in_epochs(course)
    few, many = (replace(signals, val={**signals.val, "num_images": number}) for number in (5, 500))
    (of_few,) = [found for found in examine(few) if found.kind == "overfitting"]
    (of_many,) = [found for found in examine(many) if found.kind == "overfitting"]
    assert of_few.severity == "notice"
    assert of_few.finding.startswith("Perhaps overfitting")
    assert of_many.severity == "warning"


@pytest.mark.parametrize(("num_images", "found"), [(5, True), (25, False)])
def test_the_best_epoch_by_a_handful_of_images_may_be_luck_even_where_it_stands_out(
    num_images: int, found: bool
) -> None:
    def course(line: dict[str, Any], index: int) -> dict[str, Any]:
        return {"val": {**line["val"], "accuracy": 1.0 if index == 9 else 0.2}}

    signals = in_epochs(course)
    signals = replace(signals, val={**signals.val, "num_images": num_images})
    assert ("small_validation_set" in kinds(signals)) == found
