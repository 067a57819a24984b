"""What the doctor judges by, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Observations:
    """The records of a run; what is missing is not judged.

    Attributes:
        epochs: The lines of metrics.jsonl.
        steps: The lines of signals.jsonl.
        val: The validation metrics of an epoch, with `num_images` and `per_class`: while training goes on of the last
            one, at its end of the best one.
        chance_loss: The loss of a network that gives every class the same probability.
        class_counts: Training images by class.
        early_stopping: Its section of the configuration.
        finished: Whether training has ended.
    """

    epochs: Sequence[Line] = ()
    steps: Sequence[Line] = ()
    val: Line = field(default_factory=dict)
    chance_loss: float | None = None
    class_counts: Mapping[str, int] = field(default_factory=dict)
    early_stopping: Line | None = None
    finished: bool = False

    @property
    def train_losses(self) -> list[float]:
        """Of each epoch."""
        return [float(epoch["train"]["loss"]) for epoch in self.epochs]

    @property
    def is_validated(self) -> bool:
        """Whether every epoch was."""
        return all(epoch["val"] for epoch in self.epochs)

    def val_metric(self, name: str) -> list[float]:
        """Of each epoch."""
        return [float(epoch["val"][name]) for epoch in self.epochs]

    @property
    def recent_steps(self) -> list[Line]:
        """The lines of the second half of the steps so far, without those at less than a tenth of the highest rate.

        Warm-up and the end of a schedule make small updates on purpose.
        """
        highest, last = max(line["learning_rate"] for line in self.steps), self.steps[-1]["step"]
        return [
            line for line in self.steps if 2 * line["step"] >= last and 10 * line["learning_rate"] >= highest
        ] or list(self.steps)


@dataclass(frozen=True)
class Verdict:
    """One thing that is wrong, or may be.

    Attributes:
        kind: What it is called, such as `dead_relus`; each kind is told once at most.
        severity: `problem`: training cannot go well like this. `warning`: it could go better. `notice`: numbers do not
            tell what they seem to.
        finding: One plain sentence, with the layer or the epoch concerned.
        evidence: The numbers that it follows from, as plain values.
        advice: What to try, with configuration keys.
    """

    kind: str
    severity: Literal["problem", "warning", "notice"]
    finding: str
    evidence: dict[str, Any]
    advice: str
