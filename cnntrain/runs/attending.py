"""Who looks at a training from outside: of several processes the first keeps and tells, the others do neither."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from cnntrain.data.batches import Batch
from cnntrain.runs.checkpoints import Saved
from cnntrain.runs.narrator import Narrator
from cnntrain.runs.run_log import RunLog
from cnntrain.runs.saving import Saver
from cnntrain.training.events import Event
from cnntrain.training.nonfinite import NonfiniteStep


class Attendant(Protocol):
    """Looks at each event; the order of the calls has a meaning, see `ten_steps.follow`."""

    def begin(self) -> None:
        """Before the first event."""

    def training(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """What the batches of an epoch pass through."""

    def validating(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """What those of its validation pass through."""

    def tell(self, event: Event) -> None:
        """Keeps the best weights, and says and writes down what happened."""

    def save(self, event: Event) -> None:
        """Saves, if it is time to."""

    def earlier(self, error: NonfiniteStep) -> Saved:
        """Where to go back to."""

    def gone_back(self, saved: Saved, error: NonfiniteStep) -> None:
        """After the state has gone back there."""

    def stopped(self) -> None:
        """After a signal: saves."""


@dataclass(frozen=True)
class Recorder:
    """What the first process keeps and tells. Its methods are described in `Attendant`.

    Attributes:
        saver: Saves.
        log: Writes down.
        narrator: Says.
        dead_relus: Of an event the share of dead units after each ReLU, where it is one to look at.
    """

    saver: Saver
    log: RunLog
    narrator: Narrator
    dead_relus: Callable[[Event], Mapping[str, float]]

    def begin(self) -> None:
        """Saves the beginning, where training may have to go back to it."""
        self.saver.begin()

    def training(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """With a bar."""
        return self.narrator.training(batches)

    def validating(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """With a bar."""
        return self.narrator.validating(batches)

    def tell(self, event: Event) -> None:
        """The best is kept before it is called the best."""
        self.saver.keep_best(event)
        self.narrator.see(event)
        self.log.see(event, self.dead_relus(event))

    def save(self, event: Event) -> None:
        """See `Attendant`."""
        self.saver.see(event)

    def earlier(self, error: NonfiniteStep) -> Saved:
        """See `Attendant`."""
        return self.saver.earlier(error)

    def gone_back(self, saved: Saved, error: NonfiniteStep) -> None:
        """See `Attendant`."""
        self.saver.gone_back(saved, error)

    def stopped(self) -> None:
        """See `Attendant`."""
        self.saver.save_at_stop()


class Bystander:
    """What the other processes do: nothing. Its methods are described in `Attendant`."""

    def begin(self) -> None:
        """Nothing."""

    def training(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """As they are."""
        return batches

    def validating(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """As they are."""
        return batches

    def tell(self, event: Event) -> None:
        """Nothing."""

    def save(self, event: Event) -> None:
        """Nothing."""

    def earlier(self, error: NonfiniteStep) -> Saved:
        """The first process knows."""
        raise error

    def gone_back(self, saved: Saved, error: NonfiniteStep) -> None:
        """Nothing."""

    def stopped(self) -> None:
        """Nothing."""
