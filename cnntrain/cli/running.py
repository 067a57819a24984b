"""A training whose outcome is printed: what `train` and `reproduce` share; and how trials explain what goes wrong."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnntrain.cli.output import show
from cnntrain.errors import CnntrainError

if TYPE_CHECKING:
    from cnntrain.config.loading import Config, LoadedConfig
    from cnntrain.records.console import Console
    from cnntrain.records.resume import Resumed
    from cnntrain.train import TrainResult

SMALLER = "lower recipe.micro_batch or recipe.batch_size, data.image_size or data.stored_size"
_LESS_AT_ONCE = "lower data.image_size or data.stored_size, or set data.storage: cache or stream"


@contextmanager
def explained(loaded: "LoadedConfig", advice: str = SMALLER) -> Iterator[None]:
    """Says of faults which line of the configuration they are about, and of missing memory what to do."""
    from cnntrain.config.loading import locate
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(advice):
        yield


def train_and_tell(
    loaded: "LoadedConfig",
    console: "Console",
    resumed: "Resumed | None" = None,
    on_begin: Callable[[], None] = lambda: None,
) -> "TrainResult":
    """Trains, and says what came out."""
    from cnntrain.train import run

    console.say(f"configuration {loaded.document.label}")
    try:
        with explained(loaded, _LESS_AT_ONCE):
            folder, results = result = run(loaded.config, console, resumed, on_begin)
    except KeyboardInterrupt as error:
        if not getattr(error, "__notes__", None):
            error.add_note("training had not begun; start it again with the same command")
        raise
    show(_outcome(results), f"run folder {folder}")
    write_report_at_end(folder, loaded.config, console)
    if loaded.config.run.tensorboard:
        console.say(f"look at it: tensorboard --logdir {folder.parent}")
    console.say(f"use it:     cnntrain predict IMAGE --run {folder}")
    return result


def _outcome(results: dict[str, Any]) -> str:
    """The measured accuracies, on a line."""
    from cnntrain.records.console import percent
    from cnntrain.tasks.intervals import Interval, spoken

    test, val = results["test"], results["val"]
    at = f"epoch {results['best_epoch']} of {results['epochs_run']}"
    tested = "no test images: nothing was tested"
    if test:
        interval = spoken(Interval(*test["accuracy_interval"]), 2)
        tested = (
            f"test accuracy {percent(test['accuracy'])} (95 % interval {interval}), loss {test['loss']:.4f} on "
            f"{test['num_images']:,} images"
        )
    validated = (
        f"validation {percent(val['accuracy'])} of {val['num_images']:,} at {at}"
        if val
        else f"no validation; the weights of {at} are kept"
    )
    return f"{tested}; {validated}"


def write_report_at_end(folder: Path, config: "Config", console: "Console") -> None:
    """Writes the report of a finished run, which stays finished whatever happens to its report."""
    if not config.run.report:
        return

    from cnntrain.report import write_report
    from cnntrain.runtime.device import memory_explained, resolve_device

    later = f"cnntrain report {folder}"
    try:
        with memory_explained("close other programs"):
            written = write_report(folder, device=resolve_device(config.run.device), reporter=console)
        show(f"report     {written.path}")
    except CnntrainError as error:
        console.say(
            f"note: the run is finished, but its report is not written: {'; '.join(error.lines)}; try again: {later}"
        )
    except KeyboardInterrupt as error:
        error.add_note(f"the run is finished, only its report is not: {later}")
        raise
