"""Evaluation results as text."""

from collections.abc import Mapping
from typing import Any

from cnntrain.names import shortened
from cnntrain.records.console import percent


def evaluation_text(summary: Mapping[str, Any]) -> list[str]:
    """What `cnntrain evaluate` prints, line by line: totals, the table of classes, the most confused pairs."""
    totals = {
        "images": f"{summary['num_images']:,} ({summary['split']})",
        "loss": f"{summary['loss']:.4f}",
        "top-1": percent(summary["accuracy"]),
        **({"top-5": percent(summary["top5_accuracy"])} if "top5_accuracy" in summary else {}),
        "balanced": percent(summary["balanced_accuracy"]),
    }
    rows = [*summary["per_class"], _macro(summary)]
    names = [shortened(row["class"]) for row in rows]
    width = max(map(len, names))
    lines = [f"{name:<{width}}  {text:>10}" for name, text in totals.items()]
    lines += ["", f"{'class':<{width}}  {'precision':>10}  {'recall':>10}  {'F1':>10}  {'support':>8}"]
    for name, row in zip(names, rows, strict=True):
        figures = "  ".join(f"{percent(row[key]):>10}" for key in ("precision", "recall", "f1"))
        lines.append(f"{name:<{width}}  {figures}  {row['support']:>8,}")
    if summary["most_confused"]:
        lines += ["", "most confused"]
        lines += [
            f"  {pair['count']:5,} x  {shortened(pair['true'])} taken for {shortened(pair['predicted'])}"
            for pair in summary["most_confused"]
        ]
    return lines


def _macro(summary: Mapping[str, Any]) -> dict[str, Any]:
    averages = {key: summary[f"macro_{key}"] for key in ("precision", "recall", "f1")}
    return {"class": "macro average", **averages, "support": summary["num_images"]}
