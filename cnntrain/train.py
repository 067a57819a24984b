"""Training: the wiring of the textbook's ten steps.

Steps 1 and 2 are in `training/setup.py`, 3 to 9 in `training/loop.py`. Here is who looks at them, and in which order.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from cnntrain.analysis.dead_relus import dead_relus, is_looked_at, spread
from cnntrain.config.loading import Config, dump_config
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.records.checkpoints import Header
from cnntrain.records.console import Console
from cnntrain.records.files import write_text
from cnntrain.records.narrator import Narrator
from cnntrain.records.results import build_results
from cnntrain.records.resume import Resumed
from cnntrain.records.run_folder import check_writable, run_folder, run_folder_again
from cnntrain.records.run_log import RunLog
from cnntrain.records.runs import BEST
from cnntrain.records.saving import Saver
from cnntrain.runtime.device import device_name, memory_explained, resolve_device
from cnntrain.runtime.signals import Stopped, StopSignals
from cnntrain.tasks.evaluation import eval_batches_with_bar, evaluate
from cnntrain.trained import load
from cnntrain.trained.calibrate import save_temperature
from cnntrain.training.events import EpochDone, Event
from cnntrain.training.loop import learn
from cnntrain.training.memory import smaller_batches
from cnntrain.training.nonfinite import NonfiniteStep, check_event
from cnntrain.training.setup import SetUp, set_up


class TrainResult(NamedTuple):
    """The run folder, and the content of its results.json."""

    folder: Path
    results: dict[str, Any]


def run(
    config: Config, console: Console, resumed: Resumed | None = None, on_begin: Callable[[], None] = lambda: None
) -> TrainResult:
    """Trains, validates, stops and tests as the configuration says.

    Args:
        config: What to do.
        console: Where lines and bars go.
        resumed: The run to go on with, instead of a new one.
        on_begin: Is called when there is a run folder for others to find.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        Stopped: A signal came; what was learnt until then is saved.
    """
    started = time.monotonic()
    device, output = resolve_device(config.run.device), Path(config.run.output).expanduser()
    check_writable(resumed.folder if resumed else output, "" if resumed else "; say where with --output")
    saved = resumed.saved if resumed else None
    content, origin = (saved.state, str(saved.path)) if saved else (None, "")
    with StopSignals(training=True) as stop:
        ready = set_up(config, device, console, saved=content, origin=origin)  # 1 data preparation, 2 initialisation
        stop.check()
        config, splits, settings = ready.config, ready.splits, ready.settings
        header = Header(config, splits.class_names, splits.preprocessing, splits.identity())
        if resumed:
            resumed.check_data(header)
        where = run_folder_again(resumed.folder) if resumed else run_folder(output, str(config.run.name))
        values = config.model_dump(mode="json")
        with where as folder, memory_explained(smaller_batches(settings)):
            write_text(folder / "config.yaml", dump_config(config))
            with closing(RunLog(folder, values, console.say)) as log:
                on_begin()
                log.begin(splits, settings.criterion.at_chance())
                saver = Saver(ready.state, log, header, stop, weights=ready.weights, started=started)
                if resumed:
                    saver.resume(saved, resumed.changes)
                narrator = Narrator(
                    console, values["recipe"], splits=splits, network=ready.state.network, settings=settings
                )
                follow(ready, saver, log, narrator, stop)
                return TrainResult(folder, finish(ready, saver, log, console))


def follow(ready: SetUp, saver: Saver, log: RunLog, narrator: Narrator, stop: StopSignals) -> None:
    """Steps 3 to 9: lets the network learn, and looks at each event, in an order that has a meaning.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: The loss is no longer a finite number.
        StorageError: A checkpoint cannot be written.
        Stopped: A signal came; a checkpoint has been saved.
    """
    state = ready.state

    def validating(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in narrator.validating(batches, state.epoch):
            stop.check()
            yield batch

    saver.begin()
    learning = True
    while learning:  # anew after going back
        try:
            with stop.later(), closing(narrator):  # a signal waits until it is looked for
                for event in learn(state, ready.splits, ready.settings, validating=validating):
                    check_event(event, state.network)  # what is not finite is neither kept nor told
                    saver.keep_best(event)
                    narrator.see(event)
                    log.see(event, look_at_relus(event, ready))
                    stop.check()
                    saver.see(event)  # last, so that what was logged is saved with it
            learning = False
        except NonfiniteStep as error:
            saver.go_back(error)
        except Stopped:
            saver.save_at_stop()
            raise


def look_at_relus(event: Event, ready: SetUp) -> dict[str, float]:
    """The share of dead units after each ReLU, after some epochs; nothing after the others."""
    state, splits, settings = ready.state, ready.splits, ready.settings
    is_last = state.is_over(settings.epochs)
    if not isinstance(event, EpochDone) or not is_looked_at(event.epoch, is_last=is_last) or not len(splits.val):
        return {}
    return dead_relus(state.kept, eval_batches(spread(splits.val), splits.preprocessing, settings.eval_batch_size))


def finish(ready: SetUp, saver: Saver, log: RunLog, console: Console) -> dict[str, Any]:
    """Step 10: tests the best weights, once, and writes down what came out; the content of results.json."""
    config, splits, state, settings = ready.config, ready.splits, ready.state, ready.settings
    outcome, stopping, path = saver.outcome(), state.stopping, log.folder / BEST
    why = stopping.reason if stopping.gives_up else f"the last epoch, {settings.epochs}, is done"
    console.step(9, "termination", f"{why}; best epoch {stopping.best_epoch}")

    best = load(path, settings.device)
    if config.recipe.temperature_scaling:
        best, outcome["val"] = save_temperature(best, splits.val)
        fitted = f"fitted on validation: {best.header.says_of_confidence}"
        console.say(f"     temperature {best.task.temperature:.3f}, {fitted}")
    on = f"once, on {len(splits.test):,} test images" if len(splits.test) else "left out: no test images"
    console.step(10, "testing", f"the weights of epoch {best.header.epoch}, {on}")
    batches = eval_batches_with_bar(splits.test, splits.preprocessing, settings.eval_batch_size, console)
    tested = evaluate(best.network, batches, best.task) if len(splits.test) else None
    results = build_results(
        config,
        **outcome,
        verdicts=[asdict(verdict) for verdict in log.verdicts(outcome["val"])],
        test=tested.summary() if tested else None,
        best_epoch=best.header.epoch,
        stopped_because=why,
        total_seconds=saver.total_seconds,
        device=device_name(settings.device),
        images_held=splits.where_held,
        skipped_images={part: len(faults) for part, faults in splits.skipped.items()},
    )
    log.finish(results, tested, splits.test, state.step)
    return results
