"""`cnntrain lr-find`: suggests a learning rate, and draws what it was read from."""

import math
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.options import ConfigArgument, ConfigOptions, JsonOption, QuietOption, given
from cnntrain.cli.output import complain, show, show_json
from cnntrain.cli.running import explained
from cnntrain.errors import ConfigError, NumericalError, StorageError
from cnntrain.runtime.extras import how_to_install, is_installed, need

if TYPE_CHECKING:
    from cnntrain.training.lr_find import RangeTest, Search, Trial

KINDS = ("png", "svg", "pdf")
DEFAULT = Path("lr_find.png")
TITLE = "cnntrain lr-find"  # of the files that are drawn, by which they are known


def lr_find(
    config: ConfigArgument,
    *,
    config_options: ConfigOptions,
    steps: Annotated[int, typer.Option(min=20, help="Steps of the range test, at most.")] = 100,
    low: Annotated[float, typer.Option("--min", help="The lowest learning rate.")] = 1e-6,
    high: Annotated[float, typer.Option("--max", help="The highest one.")] = 10.0,
    budget: Annotated[
        int, typer.Option(min=0, help="Steps of all trials together; 0 draws the curve and suggests nothing.")
    ] = 5000,
    out: Annotated[
        Path | None, typer.Option(help="Where the plot goes: .png, .svg or .pdf.  [default: lr_find.png]")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Suggest a learning rate by short trial trainings, and say how sure it is. Writes no run.

    Examples:
        cnntrain lr-find digits_lenet
        cnntrain lr-find my.yaml --budget 2000 --out curve.svg
        cnntrain lr-find my.yaml --set recipe.optimizer=adamw --json
    """
    if not (0 < low < high < math.inf):
        raise ConfigError(f"--min must be above 0 and below --max (got --min {low:g}, --max {high:g})")
    _check_plot(out)

    from cnntrain.config.loading import load_config

    loaded = load_config(config, **given(config_options))

    from cnntrain.runs.console import Console
    from cnntrain.training.lr_find import lr_find

    own = loaded.config.recipe.optimizer.lr
    with explained(loaded):
        search = lr_find(loaded.config, Console(quiet=quiet), steps=steps, low=low, high=high, budget=budget)
    plot = (out or DEFAULT) if not search.curve.explodes and is_installed("report") else None
    if as_json:
        show_json(_values(search, own, plot))
    else:
        show(*_text(search, own, _training(config, config_options), plot))
    _draw(search, own, plot)
    if search.conclusion.suggestion is None and budget:
        raise NumericalError(f"no learning rate can be suggested: {search.conclusion.nothing}")


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


def _draw(search: "Search", own: float, plot: Path | None) -> None:
    """Writes the plot, or says what it needs."""
    if not is_installed("report"):
        complain(f"note: no plot is drawn: it needs matplotlib, {how_to_install('report')}")
    if plot:
        from cnntrain.runs.files import write_bytes
        from cnntrain.training.lr_find import picture

        kind = plot.suffix[1:].lower()
        write_bytes(plot, picture(search.curve, search.trials, search.conclusion, kind, configured=own, title=TITLE))


def _training(config: str, options: ConfigOptions) -> str:
    """The command that trains what was tried; to be followed by a rate."""
    words = ["cnntrain", "train", config, *(word for setting in options.set_ or [] for word in ("--set", setting))]
    return shlex.join([*words, *(["--data-root", str(options.data_root)] if options.data_root else [])])


def _values(search: "Search", own: float, plot: Path | None) -> dict[str, object]:
    from dataclasses import asdict

    from cnntrain.training.lr_find import RULE

    trials = [
        {key: value for key, value in vars(trial).items() if key != "right"} | {"num_held_out": trial.num_held_out}
        for trial in search.trials
    ]
    more = {"rule": RULE, "configured": own, "plot": str(plot) if plot else None, "seconds": search.seconds}
    return {**asdict(search.curve), **asdict(search.conclusion), "trials": trials, **more}


def _text(search: "Search", own: float, training: str, plot: Path | None) -> list[str]:
    """What was tried, the suggestion, how sure it is, and how to use it."""
    conclusion = search.conclusion
    lines = _trials_table(search.trials) if search.trials else _curve_table(search.curve)
    lines += ["", f"{'range test':<14}the loss is lowest at {search.curve.lowest:.2g}; {search.curve.ended}"]
    if conclusion.best:
        lines += [
            f"{'best trials':<14}{conclusion.best:.2g}; from {conclusion.as_good_from:.2g} to "
            f"{conclusion.as_good_to:.2g} as good, as far as trials tell: differences below "
            f"{100 * (conclusion.noise or 0):.1f} points may be chance",
            f"{'agreement':<14}{conclusion.agreeing} of {conclusion.seeds} seeds have their best within a factor of "
            "3 of it",
        ]
    if conclusion.explodes_from:
        lines.append(f"{'explodes from':<14}{conclusion.explodes_from:.2g}; the suggestion keeps a factor of 3 below")
    if conclusion.suggestion == own:
        lines.append(f"{'suggestion':<14}{own:g}, the configuration's own: in trials as good as the best")
    elif conclusion.suggestion:
        compared = {True: ", as far as trials tell as good", False: ", worse in trials", None: ""}
        lines += [
            f"{'suggestion':<14}{conclusion.suggestion:.2g}, the highest rate of the schedule, after its warm-up",
            f"{'configuration':<14}{own:g}{compared[conclusion.configured_is_as_good]}",
            f"{'use it':<14}{training} --set recipe.optimizer.lr={conclusion.suggestion:.2g}",
        ]
    lines.append(f"{'took':<14}{search.seconds:.0f} s")
    return [*lines, f"{'plot':<14}{plot}"] if plot else lines


def _trials_table(trials: "list[Trial]") -> list[str]:
    """A row for each rate, a column for each length: the mean accuracy on held-out training images."""
    from statistics import fmean

    lengths = sorted({trial.steps for trial in trials})
    lines = ["learning rate" + "".join(f"{f'{steps} steps':>12}" for steps in lengths)]
    for rate in sorted({trial.learning_rate for trial in trials}):
        cells = []
        for steps in lengths:
            some = [trial.accuracy for trial in trials if (trial.learning_rate, trial.steps) == (rate, steps)]
            cells.append(f"{f'{100 * fmean(some):.1f} %' if some else '':>12}")
        lines.append(f"{rate:>13.2e}" + "".join(cells).rstrip())
    return lines


def _curve_table(curve: "RangeTest") -> list[str]:
    """A row for each of some dozen steps."""
    rows = range(0, len(curve.losses), max(1, len(curve.losses) // 12))
    return [
        "learning rate      loss  smoothed",
        *(
            f"{curve.learning_rates[row]:>13.2e}  {curve.losses[row]:>8.4g}  {curve.smoothed[row]:>8.4g}"
            for row in rows
        ),
    ]
