"""Metrics: what came out for each image, one confusion matrix, and what follows from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cnntrain.runtime.names import printable
from cnntrain.tasks.evidence import num_correct
from cnntrain.tasks.intervals import Interval, mean_interval, wilson_interval

Counts = npt.NDArray[np.int64]

MOST_DENSE = 1000  # classes of a confusion matrix that is written out with its zeros


@dataclass(frozen=True)
class Confusion:
    """How often class i was called j, for the pairs that came up alone: of K classes and N images, at most N.

    Attributes:
        num_classes: K.
        targets: int64 (P,), the truth.
        predictions: int64 (P,).
        counts: int64 (P,), above 0. The pairs are in the order of the matrix's rows.
    """

    num_classes: int
    targets: Counts
    predictions: Counts
    counts: Counts

    @classmethod
    def of(cls, targets: Counts, predictions: Counts, num_classes: int) -> "Confusion":
        """Counts predictions, int64 (N,), of images with targets int64 (N,)."""
        cells, counts = np.unique(targets * num_classes + predictions, return_counts=True)
        return cls(num_classes, cells // num_classes, cells % num_classes, counts)

    @classmethod
    def of_matrix(cls, matrix: Counts) -> "Confusion":
        """The counts of a dense matrix, int64 (K, K), rows the truth."""
        targets, predictions = np.nonzero(matrix)
        return cls(len(matrix), targets, predictions, matrix[targets, predictions])

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """Which pairs are no mistakes, bool (P,)."""
        is_right: npt.NDArray[np.bool_] = self.targets == self.predictions
        return is_right

    @property
    def num_images(self) -> int:
        """N."""
        return int(self.counts.sum())

    @property
    def right(self) -> Counts:
        """Images of each class that were called so, int64 (K,)."""
        return self.by_class(self.targets[self.is_right], self.counts[self.is_right])

    @property
    def support(self) -> Counts:
        """Images of each class, int64 (K,)."""
        return self.by_class(self.targets, self.counts)

    @property
    def predicted(self) -> Counts:
        """Images that were called so, int64 (K,)."""
        return self.by_class(self.predictions, self.counts)

    def by_class(self, classes: Counts, counts: Counts) -> Counts:
        """Sums of counts by class, int64 (K,)."""
        sums: Counts = np.bincount(classes, weights=counts, minlength=self.num_classes).astype(np.int64)
        return sums

    def dense(self) -> Counts:
        """int64 (K, K), rows the truth, columns the prediction."""
        matrix = np.zeros((self.num_classes, self.num_classes), dtype=np.int64)
        matrix[self.targets, self.predictions] = self.counts
        return matrix

    def values(self) -> dict[str, Any]:
        """As results.json keeps it: `confusion`, rows of K numbers, or, of many classes, `confusion_sparse`.

        That is a list of [true, predicted, count] without the zeros, in the order of rows; classes count from 0.
        """
        if self.num_classes <= MOST_DENSE:
            return {"confusion": self.dense().tolist()}
        return {"confusion_sparse": np.stack([self.targets, self.predictions, self.counts], axis=1).tolist()}

    @classmethod
    def from_values(cls, metrics: Mapping[str, Any]) -> "Confusion":
        """The inverse of `values`, from metrics that were checked when they were read (`artifacts`)."""
        if "confusion_sparse" in metrics:
            columns = np.array(metrics["confusion_sparse"], dtype=np.int64).reshape(-1, 3).T
            return cls(len(metrics["per_class"]), *columns)
        return cls.of_matrix(np.array(metrics["confusion"], dtype=np.int64))


@dataclass(frozen=True)
class SingleLabelEvaluation:
    """What came out for each image, in the split's order, on the CPU.

    Attributes:
        class_names: K names.
        targets: int64 (N,).
        predictions: int64 (N,).
        losses: float32 (N,), unweighted and without label smoothing.
        confidences: float32 (N,), the probability of the predicted class.
        in_top5: bool (N,), the truth is among the five likeliest classes.
    """

    class_names: tuple[str, ...]
    targets: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    losses: npt.NDArray[np.float32]
    confidences: npt.NDArray[np.float32]
    in_top5: npt.NDArray[np.bool_]

    @property
    def confusion(self) -> Confusion:
        """How often each class was called another."""
        return Confusion.of(self.targets, self.predictions, len(self.class_names))

    def summary(self) -> dict[str, Any]:
        """The metrics as plain values: loss, accuracy, per class, macro averages, confusion; and their intervals."""
        top5 = {"top5_accuracy": float(self.in_top5.mean())} if len(self.class_names) > 5 else {}
        metrics = {
            "num_images": len(self.targets),
            "loss": float(self.losses.mean(dtype=np.float64)),
            **top5,
            **summarise_confusion(self.confusion, self.class_names),
        }
        return metrics | {f"{key}_interval": list(interval) for key, interval in confidence_intervals(metrics).items()}

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which predictions are the target, bool (N,)."""
        right: npt.NDArray[np.bool_] = self.predictions == self.targets
        return right

    @property
    def remark(self) -> str:
        """That the network hardly knows more than which class is the most frequent."""
        if not is_guessing(float(self.right.mean()), self.confusion.support.tolist()):
            return ""
        told = f"as far as {len(self.targets):,} test images tell, no better than naming the most frequent class"
        return f"{told}; try another learning rate or more epochs"

    def caption(self, position: int) -> str:
        """Prediction, confidence and truth."""
        predicted, truth = (
            printable(self.class_names[labels[position]]) for labels in (self.predictions, self.targets)
        )
        return f"said {predicted} ({self.confidences[position]:.0%})\nis {truth}"

    def worst_mistakes(self, limit: int) -> npt.NDArray[np.int64]:
        """Positions of the wrong predictions with the highest loss, worst first."""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.losses[wrong], kind="stable")][:limit]


def summarise_confusion(confusion: Confusion, class_names: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, precision, recall and F1 per class, their macro averages, balanced accuracy, confused pairs.

    Macro averages are over the classes that have images or were predicted, as scikit-learn has it; among these, a
    ratio without cases counts as 0. Balanced accuracy is the mean recall of the classes with images.
    """
    right, support, predicted = confusion.right, confusion.support, confusion.predicted
    precision, recall = _ratio(right, predicted), _ratio(right, support)
    f1 = _ratio(2 * right, support + predicted)
    present = support + predicted > 0
    rows = zip(class_names, precision, recall, f1, support, right, predicted, strict=True)
    return {
        "accuracy": float(right.sum() / max(1, support.sum())),
        "balanced_accuracy": _mean(recall[support > 0]),
        "macro_precision": _mean(precision[present]),
        "macro_recall": _mean(recall[present]),
        "macro_f1": _mean(f1[present]),
        "per_class": [
            {
                "class": name,
                "precision": float(p),
                "recall": float(r),
                "f1": float(f),
                "support": int(n),
                "correct": int(hits),
                "predicted": int(called),
            }
            for name, p, r, f, n, hits, called in rows
        ],
        "most_confused": most_confused(confusion, class_names),
        **confusion.values(),
    }


def confidence_intervals(metrics: Mapping[str, Any]) -> dict[str, Interval]:
    """The 95 % intervals of accuracy, top-5 accuracy and balanced accuracy, from the metrics of any version.

    Args:
        metrics: As `SingleLabelEvaluation.summary` gives them, or an entry of results.json.
    """
    total = metrics["num_images"]
    shares = {key: metrics[key] for key in ("accuracy", "top5_accuracy") if key in metrics}
    counts = [(num_correct(row), row["support"]) for row in metrics["per_class"] if row["support"]]
    return {
        **{key: wilson_interval(round(share * total), total) for key, share in shares.items()},
        "balanced_accuracy": mean_interval(counts),
    }


def is_guessing(accuracy: float, support: Sequence[int]) -> bool:
    """Whether an accuracy is hardly above that of always naming the most frequent class.

    Args:
        accuracy: In [0, 1].
        support: Images of each class.
    """
    share = max(support) / sum(support)
    return accuracy <= share + 0.1 * min(share, 1 - share)


def most_confused(confusion: Confusion, class_names: tuple[str, ...], limit: int = 10) -> list[dict[str, Any]]:
    """The pairs (truth, prediction) that were mistaken most often, most first."""
    mistakes = np.flatnonzero(~confusion.is_right)
    order = mistakes[np.argsort(-confusion.counts[mistakes], kind="stable")][:limit]
    pairs = zip(confusion.targets[order], confusion.predictions[order], confusion.counts[order], strict=True)
    return [
        {"true": class_names[true], "predicted": class_names[predicted], "count": int(count)}
        for true, predicted, count in pairs
    ]


def _ratio(part: Counts, whole: Counts) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
