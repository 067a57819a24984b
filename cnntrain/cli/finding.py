"""The command that finds a learning rate."""

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    ConfigArgument,
    DataRootOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    SetOption,
    assignments,
)
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import ConfigError, NumericalError, StorageError
from cnntrain.extras import how_to_install, is_installed, need

if TYPE_CHECKING:
    from cnntrain.lr_find import RangeTest

KINDS = ("png", "svg", "pdf")
DEFAULT = Path("lr_find.png")
TITLE = "cnntrain lr-find"  # of the files that are drawn, by which they are known


@command
def lr_find(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    steps: Annotated[int, typer.Option(min=20, help="Training steps, at most.")] = 100,
    low: Annotated[float, typer.Option("--min", help="The first learning rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--max", help="The last one.")] = 10.0,
    out: Annotated[
        Path | None, typer.Option(help="Where the plot goes: .png, .svg or .pdf.  [default: lr_find.png]")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Suggest a learning rate: train for some steps while it grows, and see where the loss falls. Writes no run.

    Examples:
        cnntrain lr-find digits_lenet
        cnntrain lr-find my.yaml --steps 200 --out curve.svg
        cnntrain lr-find my.yaml --set recipe.optimizer=adamw --json
    """
    if not (0 < low < high < math.inf):
        raise ConfigError(f"--min must be above 0 and below --max (got --min {low:g}, --max {high:g})")
    _check_plot(out)

    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], assignments(device=device, data_root=data_root))

    from dataclasses import asdict

    from cnntrain.cli.trying import SMALLER
    from cnntrain.lr_find import MIN_LOSSES, RULE, lr_find, picture
    from cnntrain.records.console import Console
    from cnntrain.records.files import write_bytes
    from cnntrain.runtime.device import memory_explained

    console, own = Console(quiet=quiet), loaded.config.recipe.optimizer.lr
    with locate(loaded), memory_explained(SMALLER):
        found = lr_find(loaded.config, console, steps=steps, low=low, high=high)
    plot = (out or DEFAULT) if len(found.losses) >= MIN_LOSSES and is_installed("report") else None
    if as_json:
        show_json({**asdict(found), "rule": RULE, "configured": own, "plot": str(plot) if plot else None})
    else:
        show(*_text(found, config, own, plot))
    if plot:
        write_bytes(plot, picture(found, plot.suffix[1:].lower(), configured=own, title=TITLE))
    if not is_installed("report"):
        complain(f"note: no plot is drawn: it needs matplotlib, {how_to_install('report')}")
    if found.suggestion is None:
        raise NumericalError(f"no learning rate can be suggested: {found.nothing}")


def _check_plot(out: Path | None) -> None:
    """Says before anything slow that the plot could not be written."""
    path = out or DEFAULT
    if path.suffix[1:].lower() not in KINDS:
        raise ConfigError(f"--out {path}: a plot ends with {', '.join(f'.{kind}' for kind in KINDS)}")
    if out:
        need("report", f"--out {out}")
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        reason = "is not writable" if path.parent.is_dir() else "is no folder"
        raise StorageError(f"{path} cannot be written: {path.parent} {reason}")
    if path.exists() and (not path.is_file() or TITLE.encode() not in path.read_bytes()):
        raise ConfigError(f"{path} exists already, is no plot of lr-find, and is left as it is; say where with --out")


def _text(found: "RangeTest", config: str, own: float, plot: Path | None) -> list[str]:
    """A table of some dozen rates, the suggestion, and how to use it."""
    from cnntrain.lr_find import RULE

    rows = range(0, len(found.losses), max(1, len(found.losses) // 12))
    lines = ["learning rate      loss  smoothed"]
    lines += [
        f"{found.learning_rates[row]:>13.2e}  {found.losses[row]:>8.4g}  {found.smoothed[row]:>8.4g}" for row in rows
    ]
    lines += ["", f"{'ended':<14}{found.ended}"]
    if found.suggestion is not None:
        lines += [
            f"{'suggestion':<14}{found.suggestion:.2g}: {RULE}",
            f"{'upper bound':<14}{found.lowest:.2g}, where the loss is lowest; above, it rises",
            f"{'configuration':<14}{own:g}; the highest rate of a schedule, after its warm-up",
            f"{'use it':<14}cnntrain train {shlex.quote(config)} --set recipe.optimizer.lr={found.suggestion:.2g}",
        ]
    if plot:
        lines.append(f"{'plot':<14}{plot}")
    return lines
