"""Trials: whole trainings in little, each with its learning rate, judged on training images that were held out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cnntrain.config.loading import Config
from cnntrain.data.batches import Batch, eval_batches, steps_per_epoch
from cnntrain.data.carve import carve
from cnntrain.data.splits import Splits
from cnntrain.models.pretrained import Weights
from cnntrain.tasks.evaluation import evaluate
from cnntrain.tasks.task import Task
from cnntrain.training.averaging import WeightAverage
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.recipe import Recipe
from cnntrain.training.schedules import build_scheduler
from cnntrain.training.settings import Settings
from cnntrain.training.setup import build_training
from cnntrain.training.state import TrainingState

# So much of the training images is held out, and at most so many: to judge takes time as well.
HELD_OUT, MAX_HELD_OUT = 0.2, 2000


@dataclass(frozen=True)
class Trial:
    """What came of a training in little.

    Attributes:
        learning_rate: The optimizer's: the highest of the schedule.
        steps: How long it was.
        seed: Of weights, order, augmentation and of what was held out.
        accuracy: On the images held out, a fraction; 0 where the loss exploded.
        loss: On the images held out; None where it exploded.
        right: bool (num_held_out,), whether each image held out was named rightly; not compared.
    """

    learning_rate: float
    steps: int
    seed: int
    accuracy: float
    loss: float | None
    right: npt.NDArray[np.bool_] = field(compare=False, repr=False)

    @property
    def num_held_out(self) -> int:
        """Images it was judged by."""
        return len(self.right)


@dataclass(frozen=True)
class Laboratory:
    """All that trials have in common.

    Attributes:
        config: The recipe, with its preprocessing resolved.
        splits: Only `train` is looked at.
        task: What is learnt from them.
        device: Where to compute.
        weights: Trained ones to start from, if any.
    """

    config: Config
    splits: Splits
    task: Task[Any]
    device: torch.device
    weights: Weights | None

    @property
    def whole_training(self) -> int:
        """Steps of the training that the configuration describes."""
        recipe = self.config.recipe
        return recipe.epochs * steps_per_epoch(len(self.splits.train), recipe.batch_size)

    def try_rate(self, learning_rate: float, steps: int, seed: int) -> Trial:
        """Trains for `steps` steps with this rate, as the recipe says, and judges the network at the end.

        Warm-up, decay, unfreezing and the window of averaged weights are shrunk from the whole training to these
        steps. Images have their full size throughout.

        Raises:
            CnntrainError: Training could not work.
        """
        splits, config = hold_out(self.splits, self.task, seed), self.with_rate(learning_rate, seed)
        state, settings, _ = build_training(config, splits, self.device, self.weights)
        state, settings = shrunk(state, config.recipe, steps, self.whole_training), without_stops(settings)
        batches = endless_batches(splits, settings)
        for step in range(steps):
            begin_epoch(state.network, settings, 1 + step * settings.epochs // steps)
            done = train_step(state, next(batches), settings)
            if not (done.updated and math.isfinite(done.loss)):
                return Trial(learning_rate, steps, seed, 0.0, None, np.zeros(len(splits.val), dtype=bool))
        held_out = eval_batches(splits.val, splits.preprocessing, settings.eval_batch_size)
        outcome = evaluate(state.kept, held_out, settings.task)
        right, loss = outcome.right, float(outcome.losses.mean())
        return Trial(learning_rate, steps, seed, float(right.mean()), loss if math.isfinite(loss) else None, right)

    def with_rate(self, learning_rate: float, seed: int) -> Config:
        """The recipe with another rate and seed, and images of one size."""
        recipe, run = self.config.recipe, self.config.run
        optimizer = recipe.optimizer.model_copy(update={"lr": learning_rate})
        recipe = recipe.model_copy(update={"optimizer": optimizer, "progressive_resizing": None})
        return self.config.model_copy(update={"recipe": recipe, "run": run.model_copy(update={"seed": seed})})


def beats_guessing(accuracy: float, guess: float, num_judged: int) -> bool:
    """Whether an accuracy on so many images is more than always naming the most frequent class reaches by chance."""
    return accuracy - guess > 3 * math.sqrt(guess * (1 - guess) / num_judged)


def num_held_out(num_images: int) -> int:
    """About how many of the training images are held out."""
    return min(MAX_HELD_OUT, round(HELD_OUT * num_images))


def hold_out(splits: Splits, task: Task[Any], seed: int) -> Splits:
    """The training images, a part of which takes validation's place; copies of a file stay together."""
    train = splits.train
    strata, fraction = task.strata(train.targets.cpu().numpy()), num_held_out(len(train)) / len(train)
    copies = np.unique(train.digests, axis=0, return_inverse=True)[1].reshape(-1)
    carved = carve(strata, fraction, seed=seed, purpose="trial", groups=copies)
    kept, taken = (torch.from_numpy(part) for part in carved)
    return replace(splits, train=train.subset(kept), val=train.subset(taken))


def shrunk(state: TrainingState, recipe: Recipe, steps: int, whole: int) -> TrainingState:
    """The same, with the schedule ending, and the average forgetting, as if the whole training had only these steps."""
    scheduler = build_scheduler(
        recipe.schedule,
        state.optimizer,
        steps_per_epoch=steps / recipe.epochs,
        total_steps=steps,
        initial_lrs=state.scheduler.initial_lrs,
    )
    decay = recipe.averaging.decay ** max(1.0, whole / steps) if recipe.averaging else None
    return replace(state, scheduler=scheduler, average=WeightAverage(state.network, decay) if decay else None)


def without_stops(settings: Settings) -> Settings:
    """The same recipe, for who looks at each step and ends by himself where one is not finite."""
    return replace(settings, on_nonfinite="skip")


def endless_batches(splits: Splits, settings: Settings) -> Iterator[Batch]:
    """Those of training, epoch after epoch."""
    for epoch in count(1):
        yield from epoch_batches(splits, settings, epoch)
