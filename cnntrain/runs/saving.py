"""When a training is saved, and how it is brought back."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from cnntrain.errors import CheckpointError, NumericalError
from cnntrain.models import count_parameters
from cnntrain.runs.artifacts.checking import loading
from cnntrain.runs.checkpoints import (
    Header,
    Saved,
    network_bytes,
    remove_later,
    remove_uncommitted,
    save_training,
    training_to_go_back_to,
)
from cnntrain.runs.files import write_bytes
from cnntrain.runs.resume import environment
from cnntrain.runs.run_log import NOTHING_LOGGED, RunLog
from cnntrain.runs.runs import BEST
from cnntrain.runtime.signals import StopSignals
from cnntrain.tasks.task import kept_metrics
from cnntrain.training.events import EpochDone, Event
from cnntrain.training.nonfinite import NonfiniteStep, check_weights, is_finite
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState

MAX_ROLLBACKS = 5


class Saver:
    """Saves a training when it is time to, and goes back to what was saved.

    Args:
        state: What is trained.
        log: The record of the run, which is saved with it.
        header: What every checkpoint says of the run.
        stop: Signals wait while a checkpoint is written.
        settings: How it is trained.
        every_steps: How often to save besides the end of each epoch, if at all.
        every_minutes: The same, by time.
        weights: The file that the initial weights came from, if any.
        started: When this process began, of `time.monotonic`.

    Attributes:
        val: Validation metrics of the best epoch.
        changes: What the configuration said anew when training went on, such as `step 8: recipe.optimizer.lr: 1 -> 2`.
    """

    def __init__(
        self,
        state: TrainingState,
        log: RunLog,
        header: Header,
        stop: StopSignals,
        *,
        settings: Settings,
        every_steps: int | None,
        every_minutes: float | None,
        weights: Mapping[str, str] | None,
        started: float,
    ) -> None:
        self.state, self.log, self.header, self.stop = state, log, header, stop
        self._say = log.say
        self.val: Mapping[str, Any] = {}
        self.changes: list[str] = []
        self._on_nonfinite, self._steps_per_epoch = settings.on_nonfinite, settings.steps_per_epoch
        self._every_steps = every_steps
        self._every_seconds = 60 * every_minutes if every_minutes else None
        self._weights = dict(weights) if weights else None
        self._best = b""  # content of `best.safetensors`, so that every checkpoint can bring it back
        # The newest checkpoints to which training may go back, at most two, the older first. They are those of steps
        # at which every training saves, however often it is stopped on the way.
        self._rollback_steps: list[int] = []
        self._clock = _Clock(started)

    def begin(self) -> None:
        """Saves the beginning, where training may have to go back to it.

        Raises:
            StorageError: It cannot be written.
        """
        if self._on_nonfinite == "rollback" and self.state.step == 0:
            self.save()

    def see(self, event: Event) -> None:
        """Saves after each epoch; after a step if it is time.

        Raises:
            NumericalError: There are weights that are not finite.
            StorageError: The checkpoint cannot be written.
        """
        by_steps = self._every_steps is not None and event.step % self._every_steps == 0
        by_time = self._every_seconds is not None and self._clock.since_saved() >= self._every_seconds
        if isinstance(event, EpochDone) or by_steps or by_time:
            self.save()

    def keep_best(self, event: Event) -> None:
        """Writes `best.safetensors` where an epoch is the best so far.

        Raises:
            StorageError: It cannot be written.
        """
        if isinstance(event, EpochDone) and event.improved:
            self._note(event.epoch, event.val)
            self.val, self._best = event.val, network_bytes(self.state.kept, self.header)
            write_bytes(self.log.folder / BEST, self._best)

    def save(self) -> None:
        """Writes a training checkpoint.

        After an epoch, and after every `checkpoint_every_steps`, each training saves; what is saved at other steps, by
        the clock or a signal, is there to go on from and not to go back to, or a rollback would depend on them.

        Raises:
            NumericalError: There are weights that are not finite.
            StorageError: It cannot be written; the one before is whole.
        """
        step, back_to = self.state.step, self._rollback_steps
        if self._is_regular(step):
            back_to = self._rollback_steps = [*(earlier for earlier in back_to if earlier < step), step][-2:]
        elif self._on_nonfinite != "stop" and not all(map(is_finite, self.state.network.state_dict().values())):
            self._say(f"     note: the weights are not finite, so step {step} is not saved")
            return  # the next step will do about it what it would have done anyway
        check_weights(self.state)
        self._note(self.state.epoch, self.val)
        keep = back_to if self._on_nonfinite == "rollback" else back_to[-1:]
        with self.stop.later():
            save_training(self.log.folder / BEST.parent, self._content(), self.header, keep)
        self._clock.saved()

    def save_at_stop(self) -> None:
        """Saves after `Stopped` was caught."""
        self.stop.handled = True
        self.save()

    def resume(self, saved: Saved | None, changes: Sequence[str]) -> None:
        """Goes on where a checkpoint was saved, from which the state has been loaded; without one, at the beginning.

        What was recorded since is taken back; weights that no checkpoint knows of are set aside.
        """
        if saved:
            renumbered = self._restore(saved)
            self._clock.go_on(saved.state["progress"])
            saved.state.clear()  # tensors that nobody needs any more
            self.changes += [f"step {self.state.step}: {change}" for change in changes]
            if renumbered:
                self.save()
            elif not self._rollback_steps:
                self._rollback_steps = [self.state.step]
        else:
            self.log.load_state_dict(NOTHING_LOGGED)
            self._set_best_aside()
            remove_uncommitted(self.log.folder / BEST.parent)
        state = self.state
        self._say(f"     on from step {state.step}, epoch {state.epoch}, learning rate {state.learning_rate:.3g}")

    def earlier(self, error: NonfiniteStep) -> Saved:
        """Where every training saved last, to go back there and go on without one step.

        Raises:
            CheckpointError: All checkpoints are damaged.
            NumericalError: That has happened too often.
        """
        if self.state.rollbacks >= MAX_ROLLBACKS:
            raise NumericalError(f"{error}; training has already gone back {MAX_ROLLBACKS} times, which is enough")
        folder = self.log.folder / BEST.parent
        saved = training_to_go_back_to(folder, self._rollback_steps, self._say)
        if saved is None:  # the beginning is saved where on_nonfinite is rollback, so somebody has removed them
            raise CheckpointError(f"{error}; and {folder} holds no checkpoint any more to go back to")
        return saved

    def gone_back(self, saved: Saved, error: NonfiniteStep) -> None:
        """After the state has gone back there: the rest of the run goes back too."""
        changes, step = self.changes, self.state.step
        self._restore(saved)
        self.changes = changes
        self._say(f"     note: {error}; back to step {step}, with half the learning rate and without that step")

    def outcome(self) -> dict[str, Any]:
        """What training came to, for results.json."""
        state = self.state
        return {
            "val": self.val,
            "epochs": self.log.epochs,
            "train_seconds": self._clock.seconds,
            "splits": self.header.splits,
            "parameters": count_parameters(state.network),
            "weights": self._weights,
            **self.log.facts,
            "contention_share": self.log.contention.share(),
            "nonfinite_steps": state.nonfinite_steps,
            "rollbacks": state.rollbacks,
            "changes": self.changes,
            "scaler_skips": state.scaler_skips,
        }

    @property
    def total_seconds(self) -> float:
        """Spent by this process and those before it, each from its start until what it saved last."""
        return self._clock.total_seconds

    def _is_regular(self, step: int) -> bool:
        """Whether every training saves here, however often it was stopped on the way."""
        ends_epoch = step % self._steps_per_epoch == 0
        return ends_epoch or (self._every_steps is not None and step % self._every_steps == 0)

    def _note(self, epoch: int, val: Mapping[str, Any]) -> None:
        self.header = self.header.at(epoch, self.state.step, kept_metrics(self.header.task, val))

    def _content(self) -> dict[str, Any]:
        content = self.state.state_dict()
        content["progress"] |= {
            "val": self.val,
            "best": torch.from_numpy(np.frombuffer(self._best, dtype=np.uint8).copy()),
            "seconds": self._clock.seconds,
            "total_seconds": self._clock.total_seconds,
            "rollback_steps": list(self._rollback_steps),
            "changes": list(self.changes),
        }
        return {**content, "weights": self._weights, "log": self.log.state_dict(), "environment": environment()}

    def _restore(self, saved: Saved) -> bool:
        """All but the state, which has been; whether steps have other numbers than when it was saved."""
        with loading(saved.path):
            progress = saved.state["progress"]
            self.val, self.changes = progress["val"], list(progress["changes"])
            self._best = progress["best"].numpy().tobytes()
            self._rollback_steps = list(progress.get("rollback_steps", []))  # older versions lack it
            self.log.load_state_dict(saved.state["log"])
        remove_later(saved)
        before, now = saved.header.steps_per_epoch, self._steps_per_epoch
        if before != now:  # other batches: no step of the one is a step of the other
            self._rollback_steps = []
            self.state.restart_epoch(now)
            self._say(f"     note: {now} steps an epoch instead of {before}: epoch {self.state.epoch} begins anew")
        best = self.log.folder / BEST
        if not self._best:
            self._set_best_aside()
        elif not (best.exists() and best.read_bytes() == self._best):
            write_bytes(best, self._best)
        self._clock.saved()
        return before != now

    def _set_best_aside(self) -> None:
        best = self.log.folder / BEST
        if best.exists():
            best.replace(best.with_name("set-aside.safetensors"))
            self._say(f"     note: no checkpoint knows of {BEST.name}; it is kept as set-aside.safetensors")


class _Clock:
    """How long training took, in this process and those before it."""

    def __init__(self, process_started: float) -> None:
        self._started = self._saved = time.monotonic()
        self._process_started = process_started
        self._earlier_seconds = self._earlier_total = 0.0

    def go_on(self, progress: Mapping[str, Any]) -> None:
        """Counts what the processes before spent, as a checkpoint says."""
        self._earlier_seconds = progress["seconds"]
        self._earlier_total = max(progress.get("total_seconds", 0.0), progress["seconds"])  # older versions lack it
        self._started = time.monotonic()

    def saved(self) -> None:
        """Everything until now is saved."""
        self._saved = time.monotonic()

    def since_saved(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self._saved

    @property
    def seconds(self) -> float:
        """Spent in training, by this process and those before it."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def total_seconds(self) -> float:
        """Spent by this process and those before it, each from its start until what it saved last."""
        return self._earlier_total + time.monotonic() - self._process_started
