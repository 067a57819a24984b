"""Training: the wiring of the textbook's ten steps.

Steps 1 and 2 are in `training/setup.py`, 3 to 9 in `training/loop.py`. Here is who looks at them, and in which order.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from cnntrain.config.loading import Config, ConfigSource, dump_config, load_config, locate
from cnntrain.data.batches import Batch, eval_batches
from cnntrain.errors import CnntrainError
from cnntrain.insight.dead_relus import dead_relus, is_looked_at, spread
from cnntrain.runs.artifacts.checking import loading
from cnntrain.runs.attending import Attendant, Bystander, Recorder
from cnntrain.runs.beginning import NOT_FIRST, began_before, beginning, check_same
from cnntrain.runs.checkpoints import Header
from cnntrain.runs.console import Console
from cnntrain.runs.files import write_text
from cnntrain.runs.narrator import Narrator
from cnntrain.runs.resume import Resumed
from cnntrain.runs.run import Run
from cnntrain.runs.run_folder import check_writable, run_folder, run_folder_again
from cnntrain.runs.run_log import RunLog
from cnntrain.runs.saving import Saver
from cnntrain.runtime.device import memory_explained, resolve_device
from cnntrain.runtime.joining import joined
from cnntrain.runtime.launchers import refuse_copies
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.signals import Stopped, StopSignals
from cnntrain.runtime.torch_settings import TorchSettings, settings_kept
from cnntrain.trained import shared
from cnntrain.trained.finishing import finish, test
from cnntrain.training.events import EpochDone, Event
from cnntrain.training.loop import learn
from cnntrain.training.memory import smaller_batches
from cnntrain.training.nonfinite import NonfiniteStep, check_event
from cnntrain.training.setup import SetUp, set_up

_LESS_AT_ONCE = "lower data.image_size or data.stored_size, or set data.storage: cache or stream"


def train(
    config: ConfigSource | None,
    overrides: Mapping[str, Any],
    *,
    resume: bool | str | os.PathLike[str] | None = False,
    allow_changes: bool = False,
    report: bool | None = None,
    quiet: bool = False,
) -> Run:
    """What `cnntrain.train` does, with its arguments; `set` and the flags are in `overrides`, by their names.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        Stopped: A signal came; what was learnt until then is saved.
    """
    with joined() as processes, settings_kept(), ExitStack() as stack:
        console = Console(quiet=quiet or processes.rank > 0)
        begun = NOT_FIRST
        if processes.rank == 0:
            going = beginning(
                config,
                overrides,
                resume=resume,
                began=began_before(processes),
                allow_changes=allow_changes,
                say=console.say,
            )
            begun = stack.enter_context(going)
            assert begun.loaded is not None
            stack.enter_context(locate(begun.loaded))
        start = processes.first(begun.start)
        if start.finished:
            return Run(start.folder, already_finished=start.finished)
        if processes.rank > 0 and not start.is_resumed:
            check_same(start, config, overrides)
        console.say(f"configuration {start.label}")
        try:
            with memory_explained(_LESS_AT_ONCE):
                run = take_ten_steps(
                    start.config,
                    console,
                    processes=processes,
                    saved=start.saved,
                    resumed=begun.resumed,
                    on_begin=begun.begun,
                )
        except KeyboardInterrupt as error:
            if processes.rank == 0 and not getattr(error, "__notes__", None):
                error.add_note("training had not begun; start it again with the same command")
            raise
        if processes.rank == 0 and (start.config.run.report if report is None else report):
            write_report_at_end(run, console)
        console.tell_notes(processes)  # nobody leaves before all is written
    return run


def write_report_at_end(run: Run, console: Console) -> Path | None:
    """Writes the report of a finished run, which stays finished whatever happens to its report.

    Returns:
        Where it is; None where it could not be written, and the console says why.
    """
    later = f"cnntrain report {run.folder}"
    try:
        with memory_explained("close other programs"):
            return run.write_report(console)
    except CnntrainError as error:
        why = f"{'; '.join(error.lines)}; try again: {later}"
        console.say(f"note: the run is finished, but its report is not written: {why}")
        return None
    except KeyboardInterrupt as error:
        error.add_note(f"the run is finished, only its report is not: {later}")
        raise


class Training(Iterator[Event]):
    """The loop, step by step, of a training that leaves no run behind.

    Attributes:
        splits: What is trained and validated on.
        settings: How.
        state: All that changes: the network, the optimizer and more.
    """

    def __init__(self, ready: SetUp) -> None:
        self.splits, self.settings, self.state = ready.splits, ready.settings, ready.state
        self._events = learn(ready.state, ready.splits, ready.settings)
        self._torch_settings = TorchSettings.current()

    def __next__(self) -> Event:
        """What the loop says next.

        Raises:
            DataError: A streamed image cannot be read.
            NumericalError: A loss, or a gradient, is not a finite number.
            StopIteration: The last epoch is done, or early stopping said so.
            ValueError: An error or Ctrl-C has ended it in the middle of a step, so that it cannot go on.
        """
        with settings_kept(self._torch_settings), memory_explained(smaller_batches(self.settings)):
            try:
                event = next(self._events)
            except StopIteration:
                if not self.state.is_over(self.settings.epochs):
                    raise ValueError("this training was cut off in the middle of a step; begin another") from None
                raise
            check_event(event, self.state.network)
        return event

    def __repr__(self) -> str:
        num_steps = self.settings.epochs * self.settings.steps_per_epoch
        return f"Training(step {self.state.step} of {num_steps}, on {self.settings.device})"


def events(config: ConfigSource, overrides: Mapping[str, Any], *, quiet: bool) -> Training:
    """What `cnntrain.events` does; arguments as `train`."""
    refuse_copies()
    loaded = load_config(config, **overrides)
    with settings_kept(), locate(loaded), memory_explained(_LESS_AT_ONCE):
        return Training(set_up(loaded.config, resolve_device(loaded.config.run.device), Console(quiet=quiet)))


def take_ten_steps(
    config: Config,
    console: Console,
    *,
    processes: Processes = ALONE,
    saved: Mapping[str, Any] | None = None,
    resumed: Resumed | None = None,
    on_begin: Callable[[], None] = lambda: None,
) -> Run:
    """Trains, validates, stops and tests as the configuration says.

    Args:
        config: What to do.
        console: Where lines and bars go.
        processes: That train together.
        saved: The content of a training checkpoint to go on from.
        resumed: The run that it is of, which the first process alone knows.
        on_begin: Is called when there is a run folder for others to find.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        Stopped: A signal came; what was learnt until then is saved.
    """
    started, is_first = time.monotonic(), processes.rank == 0
    device, output = resolve_device(config.run.device, processes), Path(config.run.output).expanduser()
    if is_first:
        check_writable(resumed.folder if resumed else output, "" if resumed else "; say where with --output")
    origin = str(resumed.saved.path) if resumed and resumed.saved else "the first process's checkpoint"
    with StopSignals(training=True, processes=processes) as stop:
        # 1 data preparation, 2 initialisation
        ready = set_up(config, device, console, processes=processes, saved=saved, origin=origin)
        stop.check()
        console.tell_notes(processes)
        config, splits, settings = ready.config, ready.splits, ready.settings
        if not is_first:
            follow(ready, Bystander(), stop)
            best = shared(None, processes, device)
            test(best, ready, console)
            return Run(best.path.parents[1], trained=best)
        header = Header(config, splits.class_names, splits.preprocessing, splits.identity())
        if resumed:
            resumed.check_data(header)
        where = run_folder_again(resumed.folder) if resumed else run_folder(output, str(config.run.name))
        values = config.model_dump(mode="json")
        with where as folder, memory_explained(smaller_batches(settings)):
            write_text(folder / "config.yaml", dump_config(config))
            with closing(RunLog(folder, values, console.say)) as log:
                on_begin()
                processes.remember(str(folder))
                log.begin(splits, settings.task, settings.criterion.at_chance())
                saver = Saver(
                    ready.state,
                    log,
                    header,
                    stop,
                    settings=settings,
                    every_steps=config.recipe.checkpoint_every_steps,
                    every_minutes=config.recipe.checkpoint_every_minutes,
                    weights=ready.weights,
                    started=started,
                )
                if resumed:
                    saver.resume(resumed.saved, resumed.changes)
                narrator = Narrator(console, values["recipe"], splits=splits, state=ready.state, settings=settings)
                follow(ready, Recorder(saver, log, narrator, partial(look_at_relus, ready=ready)), stop)
                return Run(folder, trained=finish(ready, saver, log, console))


def follow(ready: SetUp, attendant: Attendant, stop: StopSignals) -> None:
    """Steps 3 to 9: lets the network learn, and looks at each event, in an order that has a meaning.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: The loss is no longer a finite number.
        StorageError: A checkpoint cannot be written.
        Stopped: A signal came; a checkpoint has been saved.
    """
    state, processes = ready.state, ready.settings.processes
    num_batches = -(-len(ready.splits.val) // ready.settings.eval_batch_size)

    def validating(batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(attendant.validating(batches)):
            if number < num_batches // processes.count:  # so many has each process
                stop.check_together()
            yield batch
        stop.check_together()  # an epoch whose validation met a signal is validated again

    attendant.begin()
    learning = True
    try:
        while learning:  # anew after going back
            with stop.later():  # a signal waits until it is looked for
                try:
                    for event in learn(
                        state, ready.splits, ready.settings, training=attendant.training, validating=validating
                    ):
                        check_event(event, state.network)  # what is not finite is neither kept nor told
                        attendant.tell(event)
                        stop.check_together()  # what stops here is saved below, with what was logged
                        attendant.save(event)  # last, so that what was logged is saved with it
                    learning = False
                except NonfiniteStep as error:
                    saved = processes.first(partial(attendant.earlier, error))
                    with loading(saved.path):
                        state.go_back(saved.state, without=error.step)
                    attendant.gone_back(saved, error)
    except Stopped:
        processes.first(attendant.stopped)  # nobody ends before all is saved
        raise


def look_at_relus(event: Event, *, ready: SetUp) -> dict[str, float]:
    """The share of dead units after each ReLU, after some epochs; nothing after the others."""
    state, splits, settings = ready.state, ready.splits, ready.settings
    is_last = state.is_over(settings.epochs)
    if not isinstance(event, EpochDone) or not is_looked_at(event.epoch, is_last=is_last) or not len(splits.val):
        return {}
    return dead_relus(state.kept, eval_batches(spread(splits.val), splits.preprocessing, settings.eval_batch_size))
