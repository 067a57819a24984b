"""Charts as SVG, by matplotlib, in the page's own ink, so that one drawing serves light and dark.

Every function needs the extra `report` (see `extras.py`).
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from cnntrain.runtime.names import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

INK = "#010203"  # to draw with; becomes the page's ink
COLOURS = ("#3b82d6", "#e0772b", "#2fa36b", "#c94f7c", "#8a6fd1", "#9a8b2f", "#4aa6b5", "#8c8c8c")  # seen on both
LARGEST_DRAWN = 1e150  # either side of 0; with what is much larger, matplotlib's arithmetic overflows
COUNTED = ("epoch", "step", "severity")  # labels of axes that have whole numbers


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        x: Positions.
        y: Values, as many; those beyond `LARGEST_DRAWN` are drawn as if they were that large.
        style: matplotlib's, such as `-`, `--` or `o`.
    """

    x: Sequence[float]
    y: Sequence[float]
    style: str = "-"


def line_chart(
    lines: Mapping[str, Line],
    alt: str,
    *,
    x_label: str = "",
    y_label: str = "",
    log_y: bool = False,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Mapping[str, float] | None = None,
    size: tuple[float, float] = (5.2, 3.1),
) -> Markup:
    """Curves in one pair of axes.

    Args:
        lines: By the name that the legend gives them; without a legend where there is one only.
        alt: What is to be seen, for those who do not see it.
        x_label: Of the axis, with its unit.
        y_label: Likewise.
        log_y: A logarithmic axis.
        log_x: Likewise.
        y_range: What the axis shows; None fits it to the curves.
        marks: Vertical lines by name, such as the best epoch.
        size: Inches; the page scales it.
    """
    from matplotlib.ticker import MaxNLocator

    def draw(axes: "Axes") -> None:
        for index, (name, line) in enumerate(lines.items()):
            colour = COLOURS[index % len(COLOURS)]
            style = line.style if len(line.x) > 1 else "o"  # a line of one point would not be seen
            x, y = (np.clip(values, -LARGEST_DRAWN, LARGEST_DRAWN) for values in (line.x, line.y))
            axes.plot(x, y, style, color=colour, label=printable(name), linewidth=1.6, markersize=3)
        for name, place in (marks or {}).items():
            axes.axvline(place, color=INK, linewidth=0.8, linestyle=":", label=name)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_y:
            axes.set_yscale("log")
        if y_range:
            axes.set_ylim(*y_range)
        if log_x:
            axes.set_xscale("log")
        for axis in [axes.xaxis] * log_x + [axes.yaxis] * log_y:
            _label_plainly(axis)
        if x_label in COUNTED:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(lines) + len(marks or {}) > 1:
            _add_legend(axes, [*lines, *(marks or {})], num_lines=len(lines), width=size[0])

    return svg(draw, alt, size)


def _add_legend(axes: "Axes", names: Sequence[str], *, num_lines: int, width: float) -> None:
    """Where matplotlib finds room among a few curves; below them where it would lie on many.

    Args:
        axes: With the curves.
        names: All that the legend holds.
        num_lines: How many of them are curves.
        width: Of the chart, inches.
    """
    if num_lines < 5:
        axes.legend(frameon=False, fontsize=8)
        return
    points = 30 + 4.2 * max(map(len, names))  # about the width of an entry
    num_columns = max(1, min(4, int(72 * width / points)))
    axes.figure.legend(loc="outside lower center", frameon=False, fontsize=7, ncols=num_columns)


def _label_plainly(axis: "Axis") -> None:
    """Numbers at a logarithmic axis, 0.01 or 1e-05, where matplotlib would write formulas."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""  # empty for ticks too many to be labelled

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain())


def svg(draw: "Callable[[Axes], None]", alt: str, size: tuple[float, float] = (5.2, 3.1)) -> Markup:
    """What a function draws into a pair of axes, as an `<svg>` with a text alternative.

    Args:
        draw: Draws; what should be in the page's ink has the colour `INK`.
        alt: What is to be seen.
        size: Inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a $ in a name is a $
        "svg.hashsalt": "cnntrain",  # the same chart is the same text
        "font.family": "sans-serif",
        "font.size": 9,
        **dict.fromkeys(
            ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color"), INK
        ),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.15,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _embed(buffer.getvalue(), alt)


def _embed(text: str, alt: str) -> Markup:
    """The `<svg>` element alone, in the page's ink and font, without what could meet other charts of the page."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[\w.]*_\d+"', "", text)  # what is referred to has a hash for a name
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text).replace(INK, "currentColor")
    opening = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    label = f'<svg role="img" aria-label="{escape(printable(alt))}"'
    return Markup(opening.replace("<svg", label, 1) + text[text.index(">") :])  # noqa: S704 (matplotlib escapes texts)
