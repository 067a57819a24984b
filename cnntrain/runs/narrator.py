"""What a person reads while a network is trained: the ten steps by name, a bar, a line for each epoch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from cnntrain.data.batches import Batch
from cnntrain.data.splits import Splits
from cnntrain.runs.console import Bar, Console
from cnntrain.training.events import EpochBegun, EpochDone, Event, StepDone
from cnntrain.training.settings import Settings


class Narrator:
    """Says what the loop does.

    Args:
        console: Where lines and bars go.
        recipe: The `recipe` section, as plain values.
        splits: What is trained on and validated on.
        network: What is trained.
        settings: How.
    """

    def __init__(
        self, console: Console, recipe: Mapping[str, Any], *, splits: Splits, network: nn.Module, settings: Settings
    ) -> None:
        self._console, self._recipe = console, recipe
        self._splits, self._network, self._settings = splits, network, settings
        self._bar: Bar | None = None
        self._named_evaluation = False

    def see(self, event: Event) -> None:
        """Says what there is to say of an event."""
        match event:
            case EpochBegun():
                self._begin_epoch(event)
            case StepDone():
                self._see_step(event)
            case EpochDone():
                self._see_epoch(event)

    def validating(self, batches: Iterable[Batch], epoch: int) -> Iterable[Batch]:
        """The batches of an epoch's validation, with a bar; before the first ones, step 8 is named."""
        self._end_bar()
        num_images = len(self._splits.val)
        if epoch == 1 and not self._named_evaluation:
            on = f"on {num_images:,} validation images after each epoch" if num_images else "left out"
            self._console.step(8, "evaluation", on)
            self._named_evaluation = True
        num_batches = math.ceil(num_images / self._settings.eval_batch_size)
        return self._console.progress(batches, num_batches, "evaluating, batch") if num_images else batches

    def close(self) -> None:
        """Takes the bar away, however training ended."""
        self._end_bar()

    def _see_step(self, event: StepDone) -> None:
        if event.reason:
            self._console.say(f"     note: {event.reason}; it is left out")
        if event.is_first:
            self._name_steps(event)
        if self._bar:
            self._bar.advance()

    def _begin_epoch(self, event: EpochBegun) -> None:
        """What is new in this epoch, and its bar."""
        self._end_bar()
        epochs, num_steps = self._settings.epochs, self._settings.steps_per_epoch
        size = self._settings.training_size(event.epoch)
        smaller = f"images of {size} px" if size < self._settings.image_size else ""
        news = [self._settings.freezing.describe(event.epoch, self._network), smaller]
        self._console.say(*(f"     {line}" for line in news if line))
        sums = event.sums

        def detail() -> str:  # the host waits for the device here
            if not sums.num_images:
                return "no loss yet"
            return f"loss {float(sums.loss / sums.weight):.4f}, {sums.num_images / sums.seconds:,.0f} images/s"

        if not self._console.quiet:
            first = event.step - (event.epoch - 1) * num_steps
            what, after = f"epoch {event.epoch}/{epochs}, step", (epochs - event.epoch) * num_steps
            self._bar = self._console.bar(num_steps, what, first=first, after=after, detail=detail)

    def _name_steps(self, event: StepDone) -> None:
        """Names steps 3 to 7 with the figures of the first batch."""
        recipe, settings, images = self._recipe, self._settings, event.batch.images
        gradients = event.norms.by_layer()["gradient_norm"] if event.norms else {"": math.nan}
        optimizer, rate, say = recipe["optimizer"], event.learning_rate, self._console.step
        logits = (len(images), settings.task.num_outputs)
        say(3, "forward", f"images {tuple(images.shape)} -> logits {logits}")
        say(4, "loss", f"{recipe['loss']['name']} {event.loss:.4f} ({settings.criterion.at_chance():.4f} at chance)")
        say(5, "backward", f"gradient norm {math.hypot(*gradients.values()):.4g}")
        say(6, "update", f"{optimizer['name']}, learning rate {rate:.3g} of {optimizer['lr']:g}")
        epochs = f"{settings.epochs} epochs at most, {recipe['schedule']['name']}"
        say(7, "iteration", f"{settings.steps_per_epoch:,} steps an epoch, {epochs}")

    def _see_epoch(self, event: EpochDone) -> None:
        self.validating((), event.epoch)  # names step 8 where nothing is validated
        epochs, task, train, val = self._settings.epochs, self._settings.task, event.train, event.val
        self._console.say(
            f"epoch {event.epoch:{len(str(epochs))}d}/{epochs}"
            f"  train {task.epoch_text(train.metrics(task.score))}"
            f"{f'  val {task.epoch_text(val)}' if val else ''}"
            f"  lr {event.learning_rate:<7.3g} {train.images_per_second:>7,.0f} images/s"
            f"  data {train.data_share:3.0%}{'  best' if event.improved and val else ''}"
        )

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.close()
        self._bar = None
