"""`cnntrain runs`: lists the runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import JsonOption, OutputOption
from cnntrain.cli.output import show, show_json
from cnntrain.errors import CheckpointError


def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Folder of all runs, or of those of one name: runs.")
    ] = None,
    output: OutputOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs: state, epochs, accuracies, network, data.

    finished: it has its results. stopped: `cnntrain train --resume RUN` goes on with it.
    in progress: a process trains it. failed: it left nothing to go on with.
    damaged: a record cannot be read; it is named.

    Examples:
        cnntrain runs
        cnntrain runs runs/my --json
    """
    from cnntrain.runs.run_list import list_runs, runs_text

    if folder and not folder.is_dir():
        raise CheckpointError(f"there is no folder of runs {folder}; without FOLDER, it is {output}")
    listed = list_runs(folder or output)
    if as_json:
        show_json([asdict(run) for run in listed])
    else:
        show(*(runs_text(listed) if listed else [f"no runs in {folder or output}; `cnntrain train CONFIG` makes one"]))
