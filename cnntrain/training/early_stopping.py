"""Which epoch was best, and when to give up."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import NonNegativeFloat, PositiveInt

from cnntrain.config.section import Section
from cnntrain.tasks.watched import Watched, goodness


class EarlyStopping(Section):
    """Stop when the validation metric has not improved by `min_delta` for `patience` epochs."""

    metric: Watched = "accuracy"
    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0

    def build(self) -> "MetricWatch":
        """What watches the metric."""
        return MetricWatch(self.metric, self.patience, self.min_delta)


@dataclass
class MetricWatch:
    """Watches one validation metric, and remembers its best epoch.

    An epoch is the best so far when its metric is better than every earlier one; equal metrics are told
    apart by the loss, because accuracy on a small validation set often repeats. Patience counts epochs
    since the metric last rose by more than `min_delta` above where it then stood.

    Attributes:
        metric: One of those in `tasks.watched`.
        patience: Epochs to wait; None never stops.
        min_delta: Least improvement that resets the wait, in the metric's own unit.
    """

    metric: str = "accuracy"
    patience: int | None = None
    min_delta: float = 0.0

    best_epoch: int = 0
    best: tuple[float, float] = (-math.inf, -math.inf)
    reference: float = -math.inf
    num_waited: int = 0

    def update(self, epoch: int, val: Mapping[str, Any]) -> bool:
        """Takes in an epoch's validation metrics, which hold `metric` and `loss`; whether it is the best so far.

        Where nothing was validated, every epoch is the best so far, and there is nothing to wait for.
        """
        if not val:
            self.best_epoch = epoch
            return True
        score = goodness(self.metric, float(val[self.metric]))
        candidate = (score, -float(val["loss"]))
        improved = all(map(math.isfinite, candidate)) and candidate > self.best
        if improved:
            self.best, self.best_epoch = candidate, epoch
        if score > self.reference + self.min_delta:
            self.reference, self.num_waited = score, 0
        else:
            self.num_waited += 1
        return improved

    @property
    def gives_up(self) -> bool:
        """Whether it has waited long enough."""
        return self.patience is not None and self.num_waited >= self.patience

    @property
    def reason(self) -> str:
        """Why it gave up, in words."""
        return f"validation {self.metric} has not improved by more than {self.min_delta:g} for {self.patience} epochs"

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which `load_state_dict` goes on."""
        return {
            "metric": self.metric,
            "best_epoch": self.best_epoch,
            "best": list(self.best),
            "reference": self.reference,
            "num_waited": self.num_waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken; values of another metric cannot be compared, so that begins anew."""
        if state["metric"] != self.metric:
            return
        self.best_epoch, self.num_waited = state["best_epoch"], state["num_waited"]
        self.best, self.reference = (state["best"][0], state["best"][1]), state["reference"]
