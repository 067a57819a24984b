"""How much a number rests on, in words: said wherever the number is."""

from collections.abc import Mapping, Sequence
from typing import Any

from cnntrain.runtime.names import shortened

FEW = 20  # images, below which a share of them says little: of 20 that are all right, 84 % may be
LEAST_PRECISION = 1e-9  # above 0; a smaller share is of no number of images that there is


def counted(number: int, noun: str) -> str:
    """1 -> `1 test image`, 1000 -> `1,000 test images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def num_correct(row: Mapping[str, Any]) -> int:
    """Images of a class that were called so; older versions wrote its recall alone."""
    correct: int = row["correct"] if "correct" in row else round(row["recall"] * row["support"])
    return correct


def num_predicted(row: Mapping[str, Any]) -> int | None:
    """Images that were called a class; None where an older version did not write it, and it cannot be told."""
    predicted: int | None = row.get("predicted")
    if predicted is None and row["precision"] >= LEAST_PRECISION:
        predicted = round(num_correct(row) / row["precision"])
    return predicted


def evidence_of_classes(metrics: Mapping[str, Any]) -> str:
    """On how many images the figures of classes rest, in words: `2 classes, the smallest with 1 image`."""
    support = [row["support"] for row in metrics["per_class"] if row["support"]]
    least = min(support, default=0)
    images = counted(least, "image")
    return f"{len(support):,} classes, the smallest with {images}" if len(support) > 1 else f"1 class, with {images}"


def doubtful_classes(metrics: Mapping[str, Any]) -> str:
    """A sentence about the classes of few images, or of none; empty where all have enough."""
    counts = {row["class"]: row["support"] for row in metrics["per_class"]}
    few = {name: count for name, count in counts.items() if 0 < count < FEW}
    none = [name for name, count in counts.items() if not count]
    remarks = []
    if few:
        shown = [f"{shortened(name)} {count}" for name, count in sorted(few.items(), key=lambda item: item[1])]
        remarks.append(f"{len(few):,} of {len(counts):,} classes have fewer than {FEW} images ({_some(shown)})")
    if none:
        remarks.append(f"{len(none):,} of {len(counts):,} have none ({_some([shortened(name) for name in none])})")
    return f"{'; '.join(remarks)}: their figures say little or nothing" if remarks else ""


def _some(texts: Sequence[str], most: int = 3) -> str:
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
