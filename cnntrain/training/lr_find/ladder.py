"""Which rates are tried, and for how long: many for few steps, then the best one's neighbours for more.

Successive halving (Jamieson and Talwalkar: "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016), for candidates that have an order.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

from cnntrain.training.lr_find.trials import Trial, beats_guessing

FACTOR = 3.0  # between two rungs
# Steps of a trial in each round, as shares of the budget. Of the default budget that is 60, 200 and 500: what is best
# for 60 steps is only near to what is best for a training, and 500 come as close as the noise allows.
ROUNDS, MIN_STEPS = (0.012, 0.04, 0.1), 30
MAX_RUNGS = 12  # in a round
HOPELESS = 0.1  # points of accuracy below the best, as a fraction: such rates are not tried again
MAX_SEEDS = 3  # of the last round


def round_lengths(budget: int, whole_training: int) -> list[int]:
    """Steps of a trial in each round; none is longer than the training that it stands for."""
    return sorted({min(whole_training, max(MIN_STEPS, round(share * budget))) for share in ROUNDS})


@dataclass
class Ladder:
    """Rungs are own rate x FACTOR^k, with k a whole number, or in the last round half of one.

    Attributes:
        own: The configuration's rate.
        low: No rate below is tried.
        high: None above.
        budget: Steps that all trials may take together.
        lengths: Steps of a trial in each round.
        guess: The accuracy of always naming the most frequent class.
        attempt: Tries a rate: its arguments are rate, steps and seed.
        say: Is told of each trial.
        trials: What has been tried.
    """

    own: float
    low: float
    high: float
    budget: int
    lengths: list[int]
    guess: float
    attempt: Callable[[float, int, int], Trial]
    say: Callable[[str], None]
    trials: list[Trial] = field(default_factory=list)

    def climb(self, start: float) -> list[Trial]:
        """Tries rates around `start`, and from there on where they get better; in each round with another seed.

        Returns:
            The trials of the last round, with every seed the same rates; empty if the budget does not reach so far.
        """
        centre = float(round(math.log(min(max(start, self.low), self.high) / self.own, FACTOR)))
        for seed, steps in enumerate(self.lengths[:-1]):
            reach = (-2, -1, 0, 1, 2) if seed == 0 else (-1, 0, 1)
            tried = self._round([centre + k for k in reach], 1.0, steps, seed)
            if not tried:
                return []
            centre = self._best(tried)
        seed, steps = len(self.lengths) - 1, self.lengths[-1]
        rungs = {centre - 0.5, centre, centre + 0.5}
        if abs(centre) <= 2:  # so that the user's own rate is compared
            rungs.add(0.0)
        tried = self._round(rungs, 0.5, steps, seed)
        return self._repeated(tried, steps, seed)

    def _round(self, rungs: Iterable[float], reach: float, steps: int, seed: int) -> dict[float, Trial]:
        """Tries rungs, and further ones while the best is the lowest or highest of them; rung -> trial."""
        tried: dict[float, Trial] = {}
        waiting = sorted(rung for rung in rungs if self._may_try(rung))
        while waiting and len(tried) < MAX_RUNGS and self._affords(steps):
            rung = waiting.pop(0)
            tried[rung] = self._try(rung, steps, seed)
            if not waiting:
                best = self._best(tried)
                around = (best - reach, best + reach)
                waiting = [rung for rung in around if rung not in tried and self._may_try(rung)]
        return tried if len(tried) > 1 else {}

    def _repeated(self, tried: dict[float, Trial], steps: int, seed: int) -> list[Trial]:
        """The same with other seeds, for rates that may still be the best, as often as the budget allows."""
        trials = {rung: [trial] for rung, trial in tried.items()}
        for other in range(seed + 1, seed + MAX_SEEDS):
            reached = {rung: fmean(trial.accuracy for trial in some) for rung, some in trials.items()}
            near = sorted(rung for rung in reached if reached[rung] > max(reached.values()) - HOPELESS)
            if not self._affords(len(near) * steps):
                break
            trials = {rung: [*trials[rung], self._try(rung, steps, other)] for rung in near}
        return [trial for some in trials.values() for trial in some]

    def _best(self, tried: Mapping[float, Trial]) -> float:
        """The rung that did best: by accuracy as soon as one does better than guessing, else by loss.

        The loss of a network with batch norm grows at first, the more the faster it learns: it is sure too early.
        """
        learnt = any(beats_guessing(trial.accuracy, self.guess, trial.num_held_out) for trial in tried.values())
        by = _error if learnt else _loss
        return min(tried, key=lambda rung: by(tried[rung]))

    def _try(self, rung: float, steps: int, seed: int) -> Trial:
        trial = self.attempt(self._rate(rung), steps, seed)
        self.trials.append(trial)
        self.say(f"     {trial.learning_rate:.2e} for {steps} steps: {100 * trial.accuracy:.1f} %")
        return trial

    def _rate(self, rung: float) -> float:
        return float(f"{self.own * FACTOR**rung:.3g}") if rung else self.own

    def _may_try(self, rung: float) -> bool:
        return self.low <= self._rate(rung) <= self.high

    def _affords(self, steps: int) -> bool:
        return sum(trial.steps for trial in self.trials) + steps <= self.budget


def _loss(trial: Trial) -> tuple[float, ...]:
    """Tells networks apart that have hardly begun to learn, and of which many guess."""
    return (math.inf if trial.loss is None else trial.loss,)


def _error(trial: Trial) -> tuple[float, ...]:
    """What the rate is chosen for; of equals the lower loss."""
    return (-trial.accuracy, *_loss(trial))
