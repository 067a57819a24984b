"""What a training left behind to be judged by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cnntrain.errors import CheckpointError

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Signals:
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


def read_signals(folder: Path) -> Signals:
    """The signals of a run, from its folder.

    Files that a run of an older version lacks, or one that has not ended, are missing in what is found.

    Raises:
        CheckpointError: A file is damaged.
    """
    results = _read(folder / "results.json", json.loads) or {}
    config = _read(folder / "config.yaml", yaml.safe_load) or {}
    return Signals(
        epochs=_read(folder / "metrics.jsonl", _lines) or [],
        steps=_read(folder / "signals.jsonl", _lines) or [],
        val=results.get("val", {}),
        chance_loss=results.get("chance_loss"),
        class_counts=results.get("class_counts", {}),
        early_stopping=config.get("recipe", {}).get("early_stopping"),
        finished=bool(results),
    )


def _lines(text: str) -> list[Line]:
    return [json.loads(line) for line in text.splitlines()]


def _read(path: Path, parse: Any) -> Any:
    """What a file says; None where there is none."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
