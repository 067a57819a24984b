"""What a person reads while a network is trained: the ten steps by name, a bar, a line for each epoch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from cnntrain.data.batches import Batch
from cnntrain.data.splits import Splits
from cnntrain.runs.console import Console
from cnntrain.training.events import EpochDone, Event, StepDone
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState


class Narrator:
    """Says what the loop does.

    Args:
        console: Where lines and bars go.
        recipe: The `recipe` section, as plain values.
        splits: What is trained on and validated on.
        state: What learns.
        settings: How.
    """

    def __init__(
        self, console: Console, recipe: Mapping[str, Any], *, splits: Splits, state: TrainingState, settings: Settings
    ) -> None:
        self._console, self._recipe = console, recipe
        self._splits, self._state, self._settings = splits, state, settings
        self._named_evaluation = False

    def see(self, event: Event) -> None:
        """Says what there is to say of an event."""
        match event:
            case StepDone():
                self._see_step(event)
            case EpochDone():
                self._see_epoch(event)

    def training(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches of an epoch, or what is left of it, with a bar; beforehand, what is new in this epoch."""
        state, settings, epoch = self._state, self._settings, self._state.epoch
        size = settings.training_size(epoch)
        smaller = f"images of {size} px" if size < settings.image_size else ""
        news = [settings.freezing.describe(epoch, state.network), smaller]
        self._console.say(*(f"     {line}" for line in news if line))
        num_steps, sums = settings.steps_per_epoch, state.sums

        def detail() -> str:  # the host waits for the device here
            if not sums.num_images:
                return "no loss yet"
            return f"loss {float(sums.loss / sums.weight):.4f}, {sums.num_images / sums.seconds:,.0f} images/s"

        what, after = f"epoch {epoch}/{settings.epochs}, step", (settings.epochs - epoch) * num_steps
        first = state.position(num_steps)
        return self._console.progress(batches, num_steps, what, first=first, after=after, detail=detail)

    def validating(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """The batches of an epoch's validation, with a bar; before the first ones, step 8 is named."""
        num_images = len(self._splits.val)
        if self._state.epoch == 1 and not self._named_evaluation:
            self._name_evaluation(num_images)
        num_batches = math.ceil(num_images / self._settings.eval_batch_size)
        return self._console.progress(batches, num_batches, "evaluating, batch")

    def _name_evaluation(self, num_images: int) -> None:
        on = f"on {num_images:,} validation images after each epoch" if num_images else "left out"
        self._console.step(8, "evaluation", on)
        self._named_evaluation = True

    def _see_step(self, event: StepDone) -> None:
        if event.reason:
            self._console.say(f"     note: {event.reason}; it is left out")
        if event.is_first:
            self._name_steps(event)

    def _name_steps(self, event: StepDone) -> None:
        """Names steps 3 to 7 with the figures of the first batch."""
        recipe, settings, images = self._recipe, self._settings, event.batch.images
        gradients = event.norms.by_layer()["gradient_norm"] if event.norms else {"": math.nan}
        optimizer, rate, say = recipe["optimizer"], event.learning_rate, self._console.step
        logits = (event.num_images, settings.task.num_outputs)
        say(3, "forward", f"images {(event.num_images, *images.shape[1:])} -> logits {logits}")
        say(4, "loss", f"{recipe['loss']['name']} {event.loss:.4f} ({settings.criterion.at_chance():.4f} at chance)")
        say(5, "backward", f"gradient norm {math.hypot(*gradients.values()):.4g}")
        say(6, "update", f"{optimizer['name']}, learning rate {rate:.3g} of {optimizer['lr']:g}")
        epochs = f"{settings.epochs} epochs at most, {recipe['schedule']['name']}"
        say(7, "iteration", f"{settings.steps_per_epoch:,} steps an epoch, {epochs}")

    def _see_epoch(self, event: EpochDone) -> None:
        if event.epoch == 1 and not self._named_evaluation:  # nothing is validated
            self._name_evaluation(0)
        epochs, task, train, val = self._settings.epochs, self._settings.task, event.train, event.val
        self._console.say(
            f"epoch {event.epoch:{len(str(epochs))}d}/{epochs}"
            f"  train {task.epoch_text(train.metrics(task.score))}"
            f"{f'  val {task.epoch_text(val)}' if val else ''}"
            f"  lr {event.learning_rate:<7.3g} {train.images_per_second:>7,.0f} images/s"
            f"  data {train.data_share:3.0%}{'  best' if event.improved and val else ''}"
        )
