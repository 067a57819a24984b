"""What single label says of an evaluation, as text."""

from collections.abc import Mapping
from typing import Any

from cnntrain.runtime.names import shortened
from cnntrain.runtime.plain_text import aligned, percent
from cnntrain.tasks.evidence import doubtful_classes, evidence_of_classes, num_correct, num_predicted
from cnntrain.tasks.intervals import spoken, wilson_interval
from cnntrain.tasks.metrics import confidence_intervals

_MOST_CLASSES = 200  # rows of a table that is still read


def evaluation_text(summary: Mapping[str, Any]) -> list[str]:
    """The lines of `cnntrain evaluate`: totals, classes, most confused pairs, each with what it rests on."""
    lines = [*_totals(summary), "", *_classes(summary)]
    if note := doubtful_classes(summary):
        lines += ["", f"note: {note}"]
    if summary["most_confused"]:
        support = {row["class"]: row["support"] for row in summary["per_class"]}
        lines += ["", "most confused"]
        lines += [
            f"  {pair['count']:5,} of {support[pair['true']]:,}  "
            f"{shortened(pair['true'])} taken for {shortened(pair['predicted'])}"
            for pair in summary["most_confused"]
        ]
    return lines


def _totals(summary: Mapping[str, Any]) -> list[str]:
    intervals, num_images = confidence_intervals(summary), summary["num_images"]
    rows = [["images", f"{num_images:,} ({summary['split']})", ""], ["loss", f"{summary['loss']:.4f}", ""]]
    for key, title in (("accuracy", "top-1"), ("top5_accuracy", "top-5"), ("balanced_accuracy", "balanced")):
        if key in summary:
            counted = f"{round(summary[key] * num_images):,} of {num_images:,}"
            evidence = evidence_of_classes(summary) if key == "balanced_accuracy" else counted
            rows.append([title, percent(summary[key]), f"95 % interval {spoken(intervals[key], 2)}; {evidence}"])
    return aligned(rows, right=[1])


def _classes(summary: Mapping[str, Any]) -> list[str]:
    rows = [["class", "precision", "", "recall", "", "95 % interval", "F1", "support"]]
    shown = summary["per_class"]
    if len(shown) > _MOST_CLASSES:
        shown = sorted(shown, key=lambda row: (not row["support"], row["f1"]))[:_MOST_CLASSES]
    for row in shown:
        correct, predicted, support = num_correct(row), num_predicted(row), row["support"]
        rows.append(
            [
                shortened(row["class"]),
                percent(row["precision"]) if predicted else "-",
                f"{correct:,}/{predicted:,}" if predicted else "",
                percent(row["recall"]) if support else "-",
                f"{correct:,}/{support:,}" if support else "",
                spoken(wilson_interval(correct, support)) if support else "-",
                percent(row["f1"]) if support else "-",
                f"{support:,}",
            ]
        )
    averages = [percent(summary[f"macro_{key}"]) for key in ("precision", "recall", "f1")]
    rows.append(["macro average", averages[0], "", averages[1], "", "", averages[2], f"{summary['num_images']:,}"])
    left_out = len(summary["per_class"]) - len(shown)
    note = f"the {len(shown)} weakest classes; {left_out:,} more are in --json" if left_out else ""
    return [*aligned(rows, right=range(1, 8)), *filter(None, [note])]
