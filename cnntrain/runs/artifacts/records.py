"""The records of a run: results.json, and the lines of metrics.jsonl and signals.jsonl.

Keys that older versions did not write may be missing, and keys of newer ones are passed over; those that are there
must make sense, alone and together.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from cnntrain.runs.artifacts.checking import Text, Values, check, fault, read_json
from cnntrain.runs.artifacts.header import Count, Float, Name, Share, SplitIdentity

NotNegative = Annotated[Float, Field(ge=0)]
Positive = Annotated[int, Field(ge=1, le=2**53)]
NumImages = Annotated[int, Field(ge=1, le=10**9)]  # of a split; so that products of counts fit in 64 bits
Interval = Annotated[list[Share], Field(min_length=2, max_length=2)]


# What became of the images of a class; `class` is no name that Python's own syntax allows.
ClassFigures = TypedDict(
    "ClassFigures",
    {
        "class": Name,
        "precision": Share,
        "recall": Share,
        "f1": Share,
        "support": Count,
        "correct": NotRequired[Count],
        "predicted": NotRequired[Count],
    },
)


class ConfusedPair(Values):
    """A mistake and how often it was made."""

    true: Name
    predicted: Name
    count: Positive


class Metrics(Values):
    """Of a split."""

    num_images: NumImages
    loss: Float
    accuracy: Share
    accuracy_interval: NotRequired[Interval]
    top5_accuracy_interval: NotRequired[Interval]
    balanced_accuracy_interval: NotRequired[Interval]
    top5_accuracy: NotRequired[Share]
    balanced_accuracy: Share
    macro_precision: Share
    macro_recall: Share
    macro_f1: Share
    per_class: Annotated[list[ClassFigures], Field(min_length=1)]
    most_confused: list[ConfusedPair]
    confusion: NotRequired[list[list[Count]]]
    confusion_sparse: NotRequired[list[Annotated[list[Count], Field(min_length=3, max_length=3)]]]


class TrainFigures(Values, total=False):
    """Of an epoch's training; nothing where all its steps were left out."""

    loss: Float
    accuracy: Share


class ValFigures(Values, total=False):
    """Of an epoch's validation; nothing where nothing is validated."""

    loss: Float
    accuracy: Share
    balanced_accuracy: Share
    top5_accuracy: Share
    macro_f1: Share


class EpochLine(Values):
    """A line of metrics.jsonl."""

    epoch: Positive
    step: Count
    train: TrainFigures
    val: ValFigures
    learning_rate: NotNegative
    seconds: NotNegative
    images_per_second: NotNegative
    data_share: Share
    best: NotRequired[bool]
    time: NotRequired[NotNegative]
    dead_relus: NotRequired[dict[Text, Share]]


class LoggedStep(Values):
    """A line of signals.jsonl."""

    step: Positive
    epoch: Positive
    loss: Float
    learning_rate: NotNegative
    gradient_norm: dict[Text, NotNegative]
    update_ratio: dict[Text, NotNegative]


class VerdictValues(Values):
    """What the doctor said."""

    kind: Name
    severity: Name
    finding: Text
    evidence: dict[Text, Any]
    advice: Text


class Weights(Values):
    """What training started from."""

    source: Text
    sha256: Text


class Results(Values):
    """The content of results.json."""

    name: Name
    test: Metrics | None
    val: Metrics | None
    epochs_run: Positive
    best_epoch: Positive
    stopped_because: Text
    parameters: Positive
    images_per_second: NotNegative
    data_share: Share
    train_seconds: NotNegative
    total_seconds: NotNegative
    seed: Annotated[int, Field(ge=0)]  # as large as the configuration may have it
    precision: Text
    memory_format: Text
    device: Text
    images_held: Text
    platform: Text
    versions: dict[Text, str]
    splits: NotRequired[dict[Text, SplitIdentity]]
    weights: NotRequired[Weights | None]
    chance_loss: NotRequired[Annotated[Float, Field(gt=0)]]
    class_counts: NotRequired[dict[Text, Count]]
    contention_share: NotRequired[Share | None]
    verdicts: NotRequired[list[VerdictValues]]
    skipped_images: NotRequired[dict[Text, Count]]
    changes: NotRequired[list[Text]]
    nonfinite_steps: NotRequired[Count]
    rollbacks: NotRequired[Count]
    scaler_skips: NotRequired[Count]


_RESULTS, _METRICS = TypeAdapter(Results), TypeAdapter(Metrics)
_LINES: dict[str, TypeAdapter[Any]] = {
    "metrics.jsonl": TypeAdapter(EpochLine),
    "signals.jsonl": TypeAdapter(LoggedStep),
}


def read_results(content: bytes, path: Path) -> dict[str, Any]:
    """The content of results.json, checked.

    Raises:
        CheckpointError: It is damaged, or was changed so that it makes no sense.
    """
    values: dict[str, Any] = read_json(content, str(path))
    check(_RESULTS, values, str(path))
    measured = [split for split in ("test", "val") if values[split] is not None]
    classes: list[str] = list(values.get("class_counts", {}))
    for split in measured:
        _check_together(values[split], str(path), split)
        names = [row["class"] for row in values[split]["per_class"]]
        classes = classes or names
        if names != classes:
            raise fault(
                str(path), (split, "per_class"), "must have the same classes as class_counts and the other split"
            )
    return values


def read_line(content: bytes, path: Path, number: int) -> dict[str, Any]:
    """A line of metrics.jsonl or signals.jsonl, checked.

    Raises:
        CheckpointError: It is damaged, or was changed so that it makes no sense.
    """
    values: dict[str, Any] = read_json(content, str(path), f"line {number}: ")
    check(_LINES[path.name], values, f"{path}:{number}")
    for key in ("loss", "accuracy", "balanced_accuracy"):
        if values.get("val") and key not in values["val"]:
            raise fault(f"{path}:{number}", ("val", key), "is missing")
    return values


def check_metrics(values: Mapping[str, Any], place: str) -> None:
    """Checks the metrics of a split.

    Raises:
        CheckpointError: They make no sense.
    """
    check(_METRICS, values, place)
    _check_together(values, place)


def _check_together(metrics: Mapping[str, Any], place: str, *keys: str) -> None:
    """Whether the figures of a split are of the same images and classes."""
    rows, num_images = metrics["per_class"], metrics["num_images"]
    if len({row["class"] for row in rows}) < len(rows):
        raise fault(place, (*keys, "per_class"), "must have different classes")
    support = [row["support"] for row in rows]
    if sum(support) != num_images:
        raise fault(place, (*keys, "num_images"), f"must be the sum of the classes' support, {sum(support)}")
    for index, row in enumerate(rows):
        if row.get("correct", 0) > min(row["support"], row.get("predicted", row["support"])):
            raise fault(place, (*keys, "per_class", index, "correct"), "must be at most support and predicted")
    pairs, key = _pairs(metrics, len(rows), place, keys)
    row_sums = [0] * len(rows)
    for true, _, count in pairs:
        row_sums[true] += count
    if row_sums != support:
        raise fault(place, (*keys, key), "must have the rows' sums of per_class's support")


def _pairs(
    metrics: Mapping[str, Any], num_classes: int, place: str, keys: tuple[str, ...]
) -> tuple[list[tuple[int, int, int]], str]:
    """The pairs (true, predicted, count) of a confusion matrix in either form, and its key."""
    if "confusion_sparse" in metrics:
        key, pairs = "confusion_sparse", metrics["confusion_sparse"]
        for index, (true, predicted, _) in enumerate(pairs):
            if max(true, predicted) >= num_classes:
                raise fault(place, (*keys, key, index), f"must be of {num_classes:,} classes (got {pairs[index]})")
        return pairs, key
    matrix = metrics.get("confusion")
    if matrix is None or len(matrix) != num_classes or any(len(row) != num_classes for row in matrix):
        raise fault(place, (*keys, "confusion"), f"must have a row and a column for each of {num_classes:,} classes")
    pairs = [(i, j, count) for i, row in enumerate(matrix) for j, count in enumerate(row) if count]
    return pairs, "confusion"
