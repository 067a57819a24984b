"""Evaluation results as text."""

from collections.abc import Mapping
from typing import Any

from cnntrain.records.console import percent


def evaluation_text(summary: Mapping[str, Any]) -> str:
    """What `cnntrain evaluate` prints: totals, the table of classes, the most confused pairs."""
    totals = {
        "images": f"{summary['num_images']:,} ({summary['split']})",
        "loss": f"{summary['loss']:.4f}",
        "top-1": percent(summary["accuracy"]),
        **({"top-5": percent(summary["top5_accuracy"])} if "top5_accuracy" in summary else {}),
        "balanced": percent(summary["balanced_accuracy"]),
    }
    rows = [*summary["per_class"], _macro(summary)]
    width = max(len(row["class"]) for row in rows)
    lines = [f"{name:<{width}}  {text:>10}" for name, text in totals.items()]
    lines += ["", f"{'class':<{width}}  {'precision':>10}  {'recall':>10}  {'F1':>10}  {'support':>8}"]
    for row in rows:
        figures = "  ".join(f"{percent(row[key]):>10}" for key in ("precision", "recall", "f1"))
        lines.append(f"{row['class']:<{width}}  {figures}  {row['support']:>8,}")
    if summary["most_confused"]:
        lines += ["", "most confused"]
        lines += [
            f"  {pair['count']:5,} x  {pair['true']} taken for {pair['predicted']}" for pair in summary["most_confused"]
        ]
    return "\n".join(lines)


def _macro(summary: Mapping[str, Any]) -> dict[str, Any]:
    averages = {key: summary[f"macro_{key}"] for key in ("precision", "recall", "f1")}
    return {"class": "macro average", **averages, "support": summary["num_images"]}
