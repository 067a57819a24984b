"""The curve of the range test and, above the same rates, what the trials reached."""

import io
from collections.abc import Sequence
from typing import Any

from cnntrain.training.lr_find.conclusion import Conclusion
from cnntrain.training.lr_find.range_test import RangeTest
from cnntrain.training.lr_find.trials import Trial

COLOURS = ("#b9c4d0", "#8fb2dd", "#3b82d6")  # from the shortest trials to the longest


def picture(
    curve: RangeTest, trials: Sequence[Trial], conclusion: Conclusion, kind: str, *, configured: float, title: str
) -> bytes:
    """Draws, with the suggestion marked. Needs the extra `report`.

    Args:
        curve: Is always drawn.
        trials: Above it, where there are any.
        conclusion: Its suggestion, and what did as well.
        kind: `png`, `svg` or `pdf`.
        configured: The configuration's own rate, which is marked too.
        title: Of the file; it is not drawn.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6.4 if trials else 4.2), layout="constrained")
    axes = figure.subplots(2 if trials else 1, 1, sharex=True, squeeze=False)[:, 0]
    if trials:
        _draw_trials(axes[0], trials)
        if conclusion.as_good_from and conclusion.as_good_to:
            axes[0].axvspan(conclusion.as_good_from, conclusion.as_good_to, color="#e0772b", alpha=0.12, linewidth=0)
    _draw_curve(axes[-1], curve)
    marks = [(conclusion.suggestion, "#e0772b", "-", "suggestion"), (configured, "#8c8c8c", ":", "configuration")]
    for plot in axes:
        for rate, colour, style, name in marks:
            if rate is not None:
                plot.axvline(rate, color=colour, linestyle=style, linewidth=1.5, label=f"{name} {rate:.2g}")
        plot.set(xscale="log")
        plot.grid(alpha=0.2)
        plot.legend(frameon=False)
    axes[-1].set(xlabel="learning rate")
    dates: dict[str, Any] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": title}):  # the same curve is the same file
        figure.savefig(buffer, format=kind, dpi=150, metadata={**dates[kind], "Title": title})
    return buffer.getvalue()


def _draw_trials(axes: Any, trials: Sequence[Trial]) -> None:
    lengths = sorted({trial.steps for trial in trials})
    for steps, colour in zip(lengths, COLOURS[-len(lengths) :], strict=True):
        some = sorted((trial.learning_rate, 100 * trial.accuracy) for trial in trials if trial.steps == steps)
        axes.plot(*zip(*some, strict=True), "o", color=colour, markersize=5, label=f"{steps} steps")
    axes.set(ylabel="accuracy, %", title="Trials, each with warm-up and decay, judged on held-out training images")


def _draw_curve(axes: Any, curve: RangeTest) -> None:
    axes.plot(curve.learning_rates, curve.losses, color="#b9c4d0", linewidth=1, label="loss of a step")
    axes.plot(curve.learning_rates, curve.smoothed, color="#3b82d6", linewidth=2, label="smoothed")
    bottom, start = min([*curve.losses, *curve.smoothed]), curve.losses[0]
    axes.set_ylim(bottom - 0.1 * start, 1.5 * start)  # how high it explodes does not matter
    axes.set(ylabel="loss", title="Range test: the rate grows in each step")
