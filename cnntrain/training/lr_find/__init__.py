"""Which learning rate a configuration should have: a curve to look at, and trials that tell."""

import time
from dataclasses import dataclass

from cnntrain.config.loading import Config
from cnntrain.data.reporter import Reporter
from cnntrain.data.splits import Splits
from cnntrain.runtime.device import resolve_device
from cnntrain.training.lr_find.conclusion import Conclusion, decide
from cnntrain.training.lr_find.ladder import Ladder, round_lengths
from cnntrain.training.lr_find.picture import picture
from cnntrain.training.lr_find.range_test import MIN_LOSSES, RangeTest, range_test
from cnntrain.training.lr_find.trials import Laboratory, Trial, num_held_out
from cnntrain.training.setup import set_up
from cnntrain.training.start import initial_weights

__all__ = ["BUDGET", "MIN_LOSSES", "RULE", "Conclusion", "RangeTest", "Search", "Trial", "lr_find", "picture"]

RULE = "the middle of the rates whose trials ended best, or the configuration's own where it did as well"
BUDGET = 5000  # steps of all trials together
MOST_TRAININGS, ENOUGH = 5, 2000  # no more than so many whole trainings, but for a few steps that cost little
MIN_HELD_OUT = 50  # fewer images tell no rates apart


@dataclass(frozen=True)
class Search:
    """What `lr_find` came to.

    Attributes:
        curve: The range test.
        trials: In the order in which they were made.
        conclusion: What they say.
        seconds: How long it all took, without the preparation of the data.
    """

    curve: RangeTest
    trials: list[Trial]
    conclusion: Conclusion
    seconds: float


def lr_find(
    config: Config, reporter: Reporter, *, steps: int = 100, low: float = 1e-6, high: float = 10.0, budget: int = BUDGET
) -> Search:
    """Draws a curve by a range test, then tries rates in short trainings. Nothing of it is kept.

    Validation and test images are not looked at: the trials are judged on training images held out from them.

    Args:
        config: Any that could be trained.
        reporter: Told how far it is.
        steps: Of the range test, at most.
        low: The first rate of the range test; none below is tried.
        high: The last one; none above is tried.
        budget: Steps of all trials together; 0 leaves it at the curve.

    Raises:
        CnntrainError: Training could not work.
        NumericalError: The first loss is infinite or not a number.
    """
    device = resolve_device(config.run.device)
    _, weights = initial_weights(config)
    run = config.run.model_copy(update={"compile": False})  # which takes a minute, for each trial anew
    config, splits, state, settings, _ = set_up(config.model_copy(update={"run": run}), device, reporter)
    own, started = config.recipe.optimizer.lr, time.perf_counter()
    curve = range_test(state, splits, settings, reporter, steps=steps, low=low, high=high)
    if nothing := _why_not_try(curve, splits, budget):
        return Search(curve, [], Conclusion(None, nothing), time.perf_counter() - started)
    laboratory = Laboratory(config, splits, settings.task, device, weights)
    whole = laboratory.whole_training
    budget = min(budget, max(ENOUGH, MOST_TRAININGS * whole))
    a_step = (time.perf_counter() - started) / len(curve.losses)
    reporter.say(f"     trials: up to {budget:,} steps, about {max(1, round(budget * a_step))} s")
    guess = settings.task.guess(splits.train.targets)
    ladder = Ladder(own, low, high, budget, round_lengths(budget, whole), guess, laboratory.try_rate, reporter.say)
    last = ladder.climb(curve.lowest / 3 if curve.falls else own)
    conclusion = decide(last, ladder.trials, own, guess)
    return Search(curve, ladder.trials, conclusion, time.perf_counter() - started)


def _why_not_try(curve: RangeTest, splits: Splits, budget: int) -> str:
    """Why there are no trials; empty where there are."""
    if curve.explodes:
        return f"the loss explodes at once ({curve.ended}); begin lower, with --min"
    if budget == 0:
        return "without trials (--budget 0) there is only the curve"
    if (held_out := num_held_out(len(splits.train))) < MIN_HELD_OUT:
        return (
            f"of {len(splits.train):,} training images {held_out} could be held out, too few to tell rates apart; "
            f"compare whole trainings with several run.seed"
        )
    return ""
