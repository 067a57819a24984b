"""`cnntrain report`: writes the page of a run, or one that compares several."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.completing import complete_run
from cnntrain.cli.options import DataRootOption, DeviceOption, JsonOption, OutputOption, QuietOption
from cnntrain.cli.output import show, show_json
from cnntrain.errors import CheckpointError, ConfigError, StorageError

RunsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN...]", help="Run folders; the newest run by default.", autocompletion=complete_run),
]
PageOption = Annotated[
    Path | None, typer.Option(help="The page.  [default: report.html in the run folder; comparison.html in --output]")
]
RobustnessOption = Annotated[
    int | None,
    typer.Option(min=0, help="Test images to attack and corrupt; 0 none.  [default: as many as take little time]"),
]


def report(
    runs: RunsArgument = None,
    out: PageOption = None,
    robustness: RobustnessOption = None,
    data_root: DataRootOption = None,
    device: DeviceOption = None,
    output: OutputOption = Path("runs"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the report of a run anew, or compare several runs on one page.

    Examples:
        cnntrain report
        cnntrain report runs/my/20260131-120000 --robustness 1000
        cnntrain report runs/my/20260131-120000 runs/my/20260201-090000 --out comparison.html
    """
    from cnntrain.runs.run_folder import find_checkpoint

    named: list[str | None] = [*runs] if runs else [None]
    folders = [_finished(find_checkpoint(run, output)) for run in named]
    _check_page(out)
    if len(folders) > 1:
        only_for_one = {"--robustness": robustness, "--data-root": data_root, "--device": device}
        _compare(folders, out or output / "comparison.html", only_for_one, as_json=as_json)
        return

    from cnntrain.reports.page import report_summary, write_report
    from cnntrain.runs.console import Console
    from cnntrain.runtime.device import memory_explained, resolve_device

    console = Console(quiet=quiet)
    console.say(f"reporting on {folders[0]}")
    with memory_explained("use --device cpu, or close other programs"):
        written = write_report(
            folders[0],
            device=resolve_device(device or "auto"),
            reporter=console,
            data_root=str(data_root) if data_root else None,
            num_robustness=robustness,
            out=out,
        )
    show_json(report_summary(written)) if as_json else show(f"wrote {written.path}")


def _check_page(out: Path | None) -> None:
    """Says before anything slow that the page could not be written."""
    if out and (out.is_dir() or not out.parent.is_dir()):
        reason = "it is a folder; name a file" if out.is_dir() else f"{out.parent}: no such folder"
        raise StorageError(f"--out {out} cannot be written: {reason}")
    if out and out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out}: a page ends in .html")


def _compare(folders: list[Path], page: Path, only_for_one: Mapping[str, object], *, as_json: bool) -> None:
    """Writes the page that compares runs, once nothing was asked for that is for the report of one."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a run is named twice; name different ones to compare")
    for option, value in only_for_one.items():
        if value is not None:
            raise ConfigError(f"{option} is for the report of one run; runs are compared by their records alone")

    from cnntrain.reports.compare import compare_runs, comparison_summary

    groups = compare_runs(folders, page)
    show_json(comparison_summary(groups)) if as_json else show(f"wrote {page}")


def _finished(checkpoint: Path) -> Path:
    """The run folder of a checkpoint."""
    from cnntrain.runs.runs import BEST

    folder = checkpoint.parents[1] if checkpoint.parts[-2:] == BEST.parts else checkpoint
    if not (folder / "results.json").exists():
        begun = (folder / "metrics.jsonl").exists()
        advice = f"go on with it: cnntrain train --resume {folder}" if begun else "name the folder of a finished run"
        raise CheckpointError(f"{folder} holds no finished run (it has no results.json); {advice}")
    return folder
