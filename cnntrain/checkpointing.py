"""When a training is saved, and how it is brought back."""

import time
from collections.abc import Sequence
from typing import Any

from cnntrain.data.batches import steps_per_epoch
from cnntrain.errors import CheckpointError, NumericalError
from cnntrain.learner import Learner
from cnntrain.models import count_parameters
from cnntrain.nonfinite import check_weights, has_finite_weights
from cnntrain.progress import EpochSums, Progress
from cnntrain.records.checkpoints import (
    Header,
    Saved,
    network_bytes,
    remove_later,
    remove_uncommitted,
    save_training,
    training_to_go_back_to,
)
from cnntrain.records.files import write_bytes
from cnntrain.records.resume import environment, understood
from cnntrain.records.run_log import NOTHING_LOGGED, SUMMARY_METRICS, RunLog
from cnntrain.records.runs import BEST
from cnntrain.runtime.signals import StopSignals

MAX_ROLLBACKS = 5


class Checkpointing:
    """Saves a training when it is time to, and goes back to what was saved.

    Args:
        learner: What is trained.
        log: The record of the run.
        header: What every checkpoint says of the run; its recipe says how often to save.
        stop: Signals wait while a checkpoint is written.
        started: When this process began, of `time.monotonic`; None means now.

    Attributes:
        progress: How far training is.
    """

    def __init__(
        self, learner: Learner, log: RunLog, header: Header, stop: StopSignals, *, started: float | None = None
    ) -> None:
        self.learner = learner
        self.progress = Progress()
        self.log = log
        self.header = header
        self.stop = stop
        recipe = header.config.recipe
        self._every_steps = recipe.checkpoint_every_steps
        self._every_seconds = 60 * recipe.checkpoint_every_minutes if recipe.checkpoint_every_minutes else None
        self._started = self._saved = time.monotonic()
        self._process_started = self._started if started is None else started
        self._earlier_seconds = self._earlier_total = 0.0  # of the processes before this one

    def after_step(self) -> None:
        """To be called after each step: saves if it is time.

        Raises:
            StorageError: The checkpoint cannot be written.
            Stopped: A signal came meanwhile.
        """
        self.stop.check()
        waited = time.monotonic() - self._saved
        by_steps = self._every_steps is not None and self.learner.step % self._every_steps == 0
        if by_steps or (self._every_seconds is not None and waited >= self._every_seconds):
            self.save()

    def keep_best(self, val: dict[str, Any]) -> None:
        """Writes `best.safetensors`.

        Raises:
            StorageError: It cannot be written.
        """
        self._at(self.progress.epoch, val)
        self.progress.val, self.progress.best = val, network_bytes(self.learner.kept, self.header)
        write_bytes(self.log.folder / BEST, self.progress.best)

    def save(self) -> None:
        """Writes a training checkpoint.

        After an epoch, and after every `checkpoint_every_steps`, each training saves; what is saved at other steps, by
        the clock or a signal, is there to go on from and not to go back to, or a rollback would depend on them.

        Raises:
            NumericalError: There are weights that are not finite.
            StorageError: It cannot be written; the one before is whole.
        """
        step, back_to = self.learner.step, self.progress.rollback_steps
        if self._is_regular(step):
            back_to = self.progress.rollback_steps = [*(earlier for earlier in back_to if earlier < step), step][-2:]
        elif self.learner.on_nonfinite != "stop" and not has_finite_weights(self.learner):
            self.log.console.say(f"     note: the weights are not finite, so step {step} is not saved")
            return  # the next step will do about it what it would have done anyway
        check_weights(self.learner)
        self._at(self.progress.epoch, self.progress.val)
        keep = back_to if self.learner.on_nonfinite == "rollback" else back_to[-1:]
        with self.stop.later():
            save_training(self.log.folder / BEST.parent, self._state(), self.header, keep)
        self._saved = time.monotonic()

    def _is_regular(self, step: int) -> bool:
        """Whether every training saves here, however often it was stopped on the way."""
        ends_epoch = step % _steps_per_epoch(self.header) == 0
        return ends_epoch or (self._every_steps is not None and step % self._every_steps == 0)

    def resume(self, saved: Saved | None, changes: Sequence[str]) -> None:
        """Goes on where a checkpoint was saved, from which the learner has been loaded; without one, at the beginning.

        What was recorded since is taken back; weights that no checkpoint knows of are set aside.
        """
        if saved:
            renumbered = self._restore(saved)
            saved.state.clear()  # tensors that nobody needs any more
            self._earlier_seconds = self.progress.seconds
            self._earlier_total = max(self.progress.total_seconds, self.progress.seconds)  # older versions lack it
            self._started = time.monotonic()
            self.progress.changes += [f"step {self.learner.step}: {change}" for change in changes]
            if renumbered:
                self.save()
            elif not self.progress.rollback_steps:
                self.progress.rollback_steps = [self.learner.step]
        else:
            self.log.load_state_dict(NOTHING_LOGGED)
            self._set_best_aside()
            remove_uncommitted(self.log.folder / BEST.parent)
        learner = self.learner
        self.log.console.say(
            f"     on from step {learner.step}, epoch {self.progress.epoch}, learning rate {learner.learning_rate:.3g}"
        )

    def save_at_stop(self) -> None:
        """Saves after `Stopped` was caught."""
        self.stop.handled = True
        self.save()

    def _restore(self, saved: Saved) -> bool:
        """All but the learner, which has been; whether steps have other numbers than when it was saved."""
        with understood(saved):
            self.progress.load_state_dict(saved.state["progress"], self.learner.device)
            self.log.load_state_dict(saved.state["log"])
        remove_later(saved)
        before, now = (_steps_per_epoch(header) for header in (saved.header, self.header))
        if before != now:  # other batches: no step of the one is a step of the other
            self.progress.sums, self.progress.left_out, self.progress.rollback_steps = EpochSums(), [], []
            self.learner.go_to((self.progress.epoch - 1) * now)
            self.log.console.say(
                f"     note: {now} steps an epoch instead of {before}: epoch {self.progress.epoch} begins anew"
            )
        best = self.log.folder / BEST
        if not self.progress.best:
            self._set_best_aside()
        elif not (best.exists() and best.read_bytes() == self.progress.best):
            write_bytes(best, self.progress.best)
        self._saved = time.monotonic()
        return before != now

    def _set_best_aside(self) -> None:
        best = self.log.folder / BEST
        if best.exists():
            best.replace(best.with_name("set-aside.safetensors"))
            self.log.console.say(f"     note: no checkpoint knows of {BEST.name}; it is kept as set-aside.safetensors")

    def roll_back(self, step: int, reason: str) -> None:
        """Back to where every training saved last, with half the learning rate, to go on without this step.

        Raises:
            CheckpointError: All checkpoints are damaged.
            NumericalError: That has happened too often.
        """
        progress = self.progress
        rollbacks, left_out, changes = progress.rollbacks + 1, [*progress.left_out, step], progress.changes
        nonfinite_steps = progress.nonfinite_steps + 1
        if rollbacks > MAX_ROLLBACKS:
            raise NumericalError(f"{reason}; training has already gone back {MAX_ROLLBACKS} times, which is enough")
        folder, say = self.log.folder / BEST.parent, self.log.console.say
        saved = training_to_go_back_to(folder, progress.rollback_steps, say)
        if saved is None:  # the beginning is saved where on_nonfinite is rollback, so somebody has removed them
            raise CheckpointError(f"{reason}; and {folder} holds no checkpoint any more to go back to")
        with understood(saved):
            self.learner.load_state_dict(saved.state)
        self._restore(saved)
        self.learner.scheduler.reduce(0.5 ** (rollbacks - progress.rollbacks))
        progress.rollbacks, progress.left_out, progress.changes = rollbacks, left_out, changes
        progress.nonfinite_steps = nonfinite_steps
        say(f"     note: {reason}; back to step {self.learner.step}, with half the learning rate and without that step")

    def outcome(self) -> dict[str, Any]:
        """What training came to, for results.json."""
        progress = self.progress
        return {
            "val": progress.val,
            "epochs": self.log.epochs,
            "train_seconds": self.seconds,
            "splits": self.header.splits,
            "parameters": count_parameters(self.learner.model),
            "weights": self.learner.weights,
            **self.log.facts,
            "contention_share": self.log.contention.share(),
            "nonfinite_steps": progress.nonfinite_steps,
            "rollbacks": progress.rollbacks,
            "changes": progress.changes,
            "scaler_skips": self.learner.scaler_skips,
        }

    @property
    def seconds(self) -> float:
        """Spent in training, by this process and those before it."""
        return self._earlier_seconds + time.monotonic() - self._started

    @property
    def total_seconds(self) -> float:
        """Spent by this process and those before it, each from its start until what it saved last."""
        return self._earlier_total + time.monotonic() - self._process_started

    def _at(self, epoch: int, val: dict[str, Any]) -> None:
        shown = {key: val[key] for key in SUMMARY_METRICS if key in val}
        self.header = self.header.at(epoch, self.learner.step, shown)

    def _state(self) -> dict[str, Any]:
        progress = {**self.progress.state_dict(), "seconds": self.seconds, "total_seconds": self.total_seconds}
        more = {"progress": progress, "log": self.log.state_dict(), "environment": environment()}
        return {**self.learner.state_dict(), **more}


def _steps_per_epoch(header: Header) -> int:
    return steps_per_epoch(header.splits["train"]["num_images"], header.config.recipe.batch_size)
