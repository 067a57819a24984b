"""Our numbers against scikit-learn's."""

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from cnntrain.runs.pictures import confusion_picture
from cnntrain.tasks.intervals import wilson_interval
from cnntrain.tasks.metrics import Confusion, SingleLabelEvaluation, is_guessing, summarise_confusion
from cnntrain.tasks.tables import evaluation_text

RNG = np.random.default_rng(0)
NAMES = tuple("abcdef")
TARGETS = RNG.integers(0, 5, 400)  # class f has no images
PREDICTIONS = np.where(RNG.random(400) < 0.6, TARGETS, RNG.integers(0, 6, 400))
PREDICTIONS[PREDICTIONS == 4] = 0  # class e is never predicted


@pytest.fixture
def summary() -> dict[str, object]:
    return summarise_confusion(Confusion.of(TARGETS, PREDICTIONS, 6), NAMES)


def test_confusion_is_scikit_learns() -> None:
    expected = oracle.confusion_matrix(TARGETS, PREDICTIONS, labels=range(6))
    np.testing.assert_array_equal(Confusion.of(TARGETS, PREDICTIONS, 6).dense(), expected)


def test_per_class_figures_and_averages_are_scikit_learns(summary: dict[str, object]) -> None:
    expected = oracle.precision_recall_fscore_support(TARGETS, PREDICTIONS, labels=range(6), zero_division=0)
    macro = oracle.precision_recall_fscore_support(TARGETS, PREDICTIONS, average="macro", zero_division=0)
    rows = summary["per_class"]
    assert isinstance(rows, list)
    assert [row["class"] for row in rows] == list(NAMES)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose([row[key] for row in rows], values)
    for key, value in zip(("precision", "recall", "f1"), macro, strict=False):
        assert summary[f"macro_{key}"] == pytest.approx(value)


def test_a_class_that_does_not_occur_leaves_the_averages_alone() -> None:
    summary = summarise_confusion(Confusion.of(np.zeros(5, int), np.zeros(5, int), 3), NAMES[:3])
    assert summary["macro_f1"] == summary["balanced_accuracy"] == 1.0


def test_accuracies_are_scikit_learns(summary: dict[str, object]) -> None:
    assert summary["accuracy"] == pytest.approx(oracle.accuracy_score(TARGETS, PREDICTIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "y_pred contains classes not in y_true"
        assert summary["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(TARGETS, PREDICTIONS))


def test_most_confused_pairs_come_first(summary: dict[str, object]) -> None:
    pairs = summary["most_confused"]
    assert isinstance(pairs, list)
    counts = [pair["count"] for pair in pairs]
    assert counts == sorted(counts, reverse=True)
    first = pairs[0]
    truth, called = NAMES.index(first["true"]), NAMES.index(first["predicted"])
    assert truth != called
    mistaken = np.logical_and(np.equal(TARGETS, truth), np.equal(PREDICTIONS, called))
    assert first["count"] == int(mistaken.sum())


def evaluation(num_classes: int) -> SingleLabelEvaluation:
    targets = np.array([0, 1, 2, 0])
    return SingleLabelEvaluation(
        class_names=NAMES[:num_classes],
        targets=targets,
        predictions=np.array([0, 2, 1, 1]),
        losses=np.array([0.1, 3.0, 1.0, 2.0], dtype=np.float32),
        confidences=np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32),
        in_top5=np.array([True, True, False, True]),
    )


def test_worst_mistakes_are_wrong_and_ordered_by_loss() -> None:
    assert evaluation(3).worst_mistakes(2).tolist() == [1, 3]


def test_top5_is_reported_where_it_says_something() -> None:
    assert "top5_accuracy" not in evaluation(5).summary()
    assert evaluation(6).summary()["top5_accuracy"] == 0.75


def test_guessing_is_told_from_knowing_on_skewed_classes_too() -> None:
    assert is_guessing(0.1, [10] * 10)
    assert is_guessing(0.95, [95, 5])
    assert not is_guessing(1.0, [95, 5])
    assert not is_guessing(0.2, [10] * 10)


@pytest.mark.parametrize("total", [1, 2, 5, 20, 359, 10_000])
def test_intervals_of_shares_are_scipys_wilson(total: int) -> None:
    for successes in {0, 1, total // 2, total - 1, total}:
        expected = stats.binomtest(successes, total).proportion_ci(method="wilson")
        assert wilson_interval(successes, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_share_of_nothing_may_be_anything() -> None:
    assert wilson_interval(0, 0) == (0, 1)


def test_many_classes_are_written_without_zeros_and_read_again() -> None:
    num_classes, rng = 100_000, np.random.default_rng(1)
    targets, predictions = rng.integers(0, num_classes, (2, 5000))
    confusion = Confusion.of(targets, predictions, num_classes)  # dense, it would take 80 GB
    summary = summarise_confusion(confusion, tuple(map(str, range(num_classes))))
    assert "confusion" not in summary
    assert sum(count for _, _, count in summary["confusion_sparse"]) == 5000
    again = Confusion.from_values(summary)
    assert all(
        np.array_equal(getattr(again, key), getattr(confusion, key)) for key in ("targets", "predictions", "counts")
    )
    assert summary["accuracy"] == pytest.approx((targets == predictions).mean())
    picture = confusion_picture(confusion, [str(index) for index in range(num_classes)])
    assert max(picture.size) < 1000


def test_few_classes_keep_the_dense_matrix() -> None:
    confusion = Confusion.of(TARGETS, PREDICTIONS, 6)
    assert "confusion_sparse" not in confusion.values()
    np.testing.assert_array_equal(confusion.values()["confusion"], confusion.dense())


def test_of_many_classes_the_weakest_are_printed() -> None:
    targets = np.arange(2000)
    confusion = Confusion.of(targets, np.where(targets % 100 == 0, 0, targets), 2000)
    names = tuple(f"class {index:04d}" for index in range(2000))
    lines = evaluation_text({"split": "test", "num_images": 2000, "loss": 1.0, **summarise_confusion(confusion, names)})
    assert len(lines) < 250
    assert any("1,800 more are in --json" in line for line in lines)
    assert any(line.startswith("class 1900") for line in lines)
