"""A training whose outcome is printed: what `train` and `reproduce` share; and how trials explain what goes wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cnntrain
from cnntrain.cli.output import show
from cnntrain.runtime.launchers import speaks

if TYPE_CHECKING:
    from cnntrain.config.loading import LoadedConfig
    from cnntrain.runs.console import Console
    from cnntrain.runs.run import Run
    from cnntrain.tasks.task import Task

SMALLER = "lower recipe.micro_batch or recipe.batch_size, data.image_size or data.stored_size"


@contextmanager
def explained(loaded: "LoadedConfig") -> Iterator[None]:
    """Says of faults which line of the configuration they are about, and of missing memory what to do."""
    from cnntrain.config.loading import locate
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        yield


def train_and_tell(
    config: str | None,
    flags: dict[str, Any],
    *,
    resume: bool | str = False,
    allow_changes: bool = False,
    quiet: bool,
) -> "Run":
    """Trains, and the first process says what came out; `flags` as `given` has them, the others as `cnntrain.train`."""
    from cnntrain.runs.console import Console

    run = cnntrain.train(config, **flags, resume=resume, allow_changes=allow_changes, report=False, quiet=quiet)
    if not speaks():
        return run
    console, folder = Console(quiet=quiet), run.folder
    if run.already_finished:
        show(f"{folder} is finished: {run.already_finished}")
        if not (folder / "report.html").exists():  # it was stopped on the way
            write_report_at_end(run, console)
        return run
    show(_outcome(run.results, run.trained.task), f"run folder {folder}")
    write_report_at_end(run, console)
    if run.config.run.tensorboard:
        console.say(f"look at it: tensorboard --logdir {folder.parent}")
    console.say(f"use it:     cnntrain predict IMAGE --run {folder}")
    return run


def _outcome(results: dict[str, Any], task: "Task[Any]") -> str:
    """What was measured, on a line."""
    test, val = results["test"], results["val"]
    at = f"epoch {results['best_epoch']} of {results['epochs_run']}"
    tested = "no test images: nothing was tested"
    if test:
        tested = f"test {task.result_text(test)} on {test['num_images']:,} images"
    validated = (
        f"validation {task.headline_text(val)} of {val['num_images']:,} at {at}"
        if val
        else f"no validation; the weights of {at} are kept"
    )
    return f"{tested}; {validated}"


def write_report_at_end(run: "Run", console: "Console") -> None:
    """Writes the report of a finished run, where its configuration wants one, and says where it is."""
    from cnntrain import ten_steps

    path = ten_steps.write_report_at_end(run, console) if run.config.run.report else None
    if path:
        show(f"report     {path}")
