"""The charts of a report, from its numbers. They need the extra `report`."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from markupsafe import Markup

from cnntrain.insight.calibration import Reliability
from cnntrain.insight.robustness import Robustness
from cnntrain.reports.pages.charts import COLOURS, INK, Line, line_chart, svg
from cnntrain.runs.run_records import RunRecords
from cnntrain.tasks.evidence import counted
from cnntrain.tasks.intervals import widest_spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LAYERS = 8  # that can be told apart in one chart


def curves(records: RunRecords) -> dict[str, Markup]:
    """Loss, accuracy and speed over epochs, and the learning rate over steps, by caption."""
    epochs, best_epoch = records.epochs, records.results.get("best_epoch")
    num_val = (records.results.get("val") or {}).get("num_images", 0)
    of_how_many = f" ({_chance(num_val)})" if num_val else ""
    numbers = [line["epoch"] for line in epochs]
    validated = any(line["val"] for line in epochs)
    marks = {f"best epoch, {best_epoch}": float(best_epoch)} if best_epoch and validated else {}

    def course(part: str, key: str, factor: float = 1) -> Line:
        return Line(numbers, [factor * line[part].get(key, np.nan) for line in epochs])

    def both(key: str, factor: float = 1) -> dict[str, Line]:
        validation = {"validation": course("val", key, factor)} if validated else {}
        return {"training": course("train", key, factor), **validation}

    def ends(key: str, spoken: str) -> str:
        values = (format(epochs[-1][part].get(key, np.nan), spoken) for part in ("train", "val"))
        text = "At the end {} in training, {} in validation." if validated else "At the end {} in training."
        return text.format(*values).replace("%", "\u00a0%")

    speeds = [line["images_per_second"] for line in epochs]
    chart = partial(line_chart, x_label="epoch")
    losses, accuracies = ends("loss", ".4f"), ends("accuracy", ".2%")
    spread = f"Images per second over epochs, between {min(speeds):,.0f} and {max(speeds):,.0f}."
    return {
        f"Loss. {losses}": chart(both("loss"), f"Loss over epochs. {losses}", y_label="loss", marks=marks),
        f"Accuracy. {accuracies.removesuffix('.')}{of_how_many}.": chart(
            both("accuracy", 100), f"Accuracy over epochs. {accuracies}", y_label="accuracy, %", marks=marks
        ),
        **_learning_rate(records),
        "Throughput of training": chart(
            {"images per second": Line(numbers, speeds)}, spread, y_label="images per second"
        ),
    }


def _chance(num_images: int) -> str:
    """On how many images an accuracy was measured, and what that leaves to chance."""
    return f"{counted(num_images, 'image')}, up to ± {100 * widest_spread(num_images):.0f} points by chance"


def _learning_rate(records: RunRecords) -> dict[str, Markup]:
    """By step, so that the warm-up is seen; of a run that logged no steps, at the end of each epoch."""
    lines, x_label = (records.steps, "step") if records.steps else (records.epochs, "epoch")
    rates = [line["learning_rate"] for line in lines]
    alt = f"Learning rate over {x_label}s, from {rates[0]:.3g}, at most {max(rates):.3g}, to {rates[-1]:.3g}."
    chart = line_chart(
        {"learning rate": Line([line[x_label] for line in lines], rates)}, alt, x_label=x_label, y_label="learning rate"
    )
    return {"Learning rate of each step" if records.steps else "Learning rate at the end of each epoch": chart}


def norms_chart(steps: Sequence[Mapping[str, Any]], key: str, y_label: str) -> Markup | None:
    """The norms or ratios of each layer over steps, on a logarithmic axis; None where there is none.

    Of many layers some are drawn, from first to last.

    Args:
        steps: The lines of signals.jsonl.
        key: `gradient_norm` or `update_ratio`.
        y_label: Of the axis.
    """
    layers = list(dict.fromkeys(layer for line in steps for layer in line[key]))  # float16 leaves some out
    if not layers:
        return None
    chosen = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, _MOST_LAYERS).round().astype(int))]
    numbers = [line["step"] for line in steps]
    lines = {layer: Line(numbers, [_positive(line[key].get(layer)) for line in steps]) for layer in chosen}
    ends = ", ".join(f"{layer} {_positive(steps[-1][key].get(layer)):.2g}" for layer in chosen)
    return line_chart(
        lines, f"{y_label} of layers over steps. At the end: {ends}.", x_label="step", y_label=y_label, log_y=True
    )


def _positive(value: float | None) -> float:
    return value if value and value > 0 else float("nan")


def reliability_chart(bins: Reliability, title: str) -> Markup:
    """Accuracy by confidence; a calibrated network's bars end on the diagonal.

    Args:
        bins: Of test images.
        title: Above the chart.
    """
    middles = (bins.edges[:-1] + bins.edges[1:]) / 2
    error, num_images = bins.expected_calibration_error, int(bins.counts.sum())
    title = f"{title} ({counted(num_images, 'image')})"

    def draw(axes: "Axes") -> None:
        width = 1 / len(middles)
        axes.bar(middles, bins.accuracy, width * 0.92, color=COLOURS[0], label="accuracy")
        axes.plot([0, 1], [0, 1], "--", color=INK, linewidth=0.9, label="as sure as right")
        share = bins.counts / bins.counts.sum()
        axes.plot(middles, share, "o-", color=COLOURS[1], markersize=2.5, linewidth=1, label="share of images")
        axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), title=title)
        axes.legend(frameon=False, fontsize=8, loc="upper left")

    alt = f"Reliability diagram, {title}: expected calibration error {error:.3f}."
    return svg(draw, alt, (4.2, 3.6))


def robustness_charts(robustness: Robustness) -> dict[str, Markup]:
    """Accuracy under attacks and corruptions, by caption."""
    chance = f" ({_chance(robustness.num_images)})"
    levels = [0.0, *(255 * strength for strength in robustness.strengths)]

    def lines(x: Sequence[float], rows: Mapping[str, Sequence[float]]) -> dict[str, Line]:
        return {name: Line(x, [100 * value for value in (robustness.clean, *row)], "o-") for name, row in rows.items()}

    def ends(rows: Mapping[str, Sequence[float]]) -> str:
        return ", ".join(f"{name} {row[-1]:.1%}" for name, row in rows.items())

    return {
        f"Attacks: accuracy by the largest change of a pixel{chance}": line_chart(
            lines(levels, robustness.attacked),
            f"Accuracy {robustness.clean:.1%} without an attack; at the strongest: {ends(robustness.attacked)}.",
            x_label="largest change of a pixel, of 255",
            y_label="accuracy, %",
            y_range=(0, 101),
        ),
        f"Corruptions: accuracy by severity{chance}": line_chart(
            lines(range(6), robustness.corrupted),
            f"Accuracy {robustness.clean:.1%} without corruption; at severity 5: {ends(robustness.corrupted)}.",
            x_label="severity",
            y_label="accuracy, %",
            y_range=(0, 101),
        ),
    }


class Course(NamedTuple):
    """How validation went, over epochs.

    Attributes:
        epochs: From 1.
        seconds: Of training steps since the beginning.
        accuracy: Percent.
        loss: Of an image.
    """

    epochs: list[int]
    seconds: list[float]
    accuracy: list[float]
    loss: list[float]

    @classmethod
    def mean(cls, runs: Sequence[Sequence[Mapping[str, Any]]]) -> "Course":
        """Over runs, of each the lines of metrics.jsonl; up to the epoch that all of them reached."""
        length = min(map(len, runs))

        def average(values: Callable[[Mapping[str, Any]], float]) -> list[float]:
            rows = [[values(line) for line in lines[:length]] for lines in runs]
            with np.errstate(over="ignore"):
                return [float(mean) for mean in np.mean(rows, axis=0)] if length else []

        with np.errstate(over="ignore"):
            seconds = np.cumsum(average(lambda line: line["seconds"])).tolist()
        accuracy = average(lambda line: 100 * line["val"].get("accuracy", np.nan))
        loss = average(lambda line: line["val"].get("loss", np.nan))
        return cls([line["epoch"] for line in runs[0][:length]], seconds, accuracy, loss)


def comparison_charts(courses: Mapping[str, Course]) -> dict[str, Markup]:
    """Validation over epochs and over time, of several runs or configurations by name, by caption."""
    ends = ", ".join(f"{name} {course.accuracy[-1]:.2f} %" for name, course in courses.items() if course.accuracy)
    accuracy = partial(line_chart, y_label="validation accuracy, %")
    by_epoch = {name: Line(course.epochs, course.accuracy) for name, course in courses.items()}
    by_time = {name: Line(course.seconds, course.accuracy) for name, course in courses.items()}
    losses = {name: Line(course.epochs, course.loss) for name, course in courses.items()}
    return {
        "Validation accuracy over epochs": accuracy(by_epoch, f"At the end: {ends}", x_label="epoch"),
        "Validation accuracy over time": accuracy(by_time, f"At the end: {ends}", x_label="seconds of training steps"),
        "Validation loss over epochs": line_chart(
            losses, "Validation loss over epochs.", x_label="epoch", y_label="validation loss"
        ),
    }
