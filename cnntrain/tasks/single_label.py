"""Single label: each image has one of K classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnntrain.errors import CheckpointError
from cnntrain.models.options import WithAuxiliary
from cnntrain.runtime.names import printable, shortened
from cnntrain.runtime.plain_text import percent
from cnntrain.tasks.intervals import Interval, spoken
from cnntrain.tasks.losses import CrossEntropy, LossOptions, SingleLabelCriterion, balanced_weights
from cnntrain.tasks.metrics import SingleLabelEvaluation
from cnntrain.tasks.tables import evaluation_text
from cnntrain.tasks.task import (
    NOT_FINITE,
    Column,
    Criterion,
    Decoded,
    ExportNotes,
    Targets,
    TrainingLoss,
    training_loss,
)
from cnntrain.tasks.temperature import fit_temperature


@dataclass(frozen=True)
class SingleLabel:
    """Each image has one class; the outputs are logits, one per class. Its methods are described in `Task`.

    Attributes:
        class_names: K names.
        loss: What is minimised.
        temperature: Divides the outputs of a trained network, so that its confidence is its accuracy (Guo et al.:
            "On calibration of modern neural networks", ICML 2017); 1 changes nothing.
    """

    class_names: tuple[str, ...]
    loss: LossOptions = field(default_factory=CrossEntropy)
    temperature: float = 1.0

    headline: ClassVar[str] = "accuracy"
    score: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1")

    sections: ClassVar[tuple[str, ...]] = ("classes", "mistakes", "calibration", "robustness")
    shares: ClassVar[Mapping[str, str]] = {
        "accuracy": "accuracy",
        "top5_accuracy": "among the five likeliest",
        "balanced_accuracy": "balanced accuracy",
        "macro_f1": "macro F1",
    }

    @property
    def num_outputs(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def targets(self) -> Targets:
        """Labels; where they are mixed, the share of each class."""
        return Targets(torch.int64, (), mixed_size=len(self.class_names))

    def criterion(self, balanced_over: Tensor | None = None) -> SingleLabelCriterion:
        """The loss to train with; its weights give every class of these labels the same say."""
        num_classes = len(self.class_names)
        weights = None if balanced_over is None else balanced_weights(balanced_over, num_classes)
        return self.loss.build(num_classes, weights)

    def training_loss(self, criterion: Criterion, outputs: Tensor | WithAuxiliary, targets: Tensor) -> TrainingLoss:
        """What is minimised in a step, and what is reported of it."""
        return training_loss(criterion, outputs, targets)

    def num_correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many outputs (N, K) have their maximum at the target, int64; of mixed labels the larger share counts."""
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        return (self.decisions(outputs) == labels).sum()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that is reported, float32 (N,): neither smoothed nor weighted, so that recipes compare.

        Args:
            outputs: (N, K).
            targets: int64 (N,).
        """
        plain = replace(self.criterion(), label_smoothing=0.0)
        return plain.per_image(outputs / self.temperature, targets)

    def outcomes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """The columns of `SingleLabelEvaluation`, each (N,)."""
        confidences, predictions = self.activation(outputs).max(1)
        top5 = outputs.topk(min(5, outputs.shape[1]), dim=1).indices
        in_top5 = (top5 == targets[:, None]).any(1)
        return targets, predictions, self.losses(outputs, targets), confidences, in_top5

    def evaluation(self, columns: Sequence[Column]) -> SingleLabelEvaluation:
        """From the outcomes of a whole split."""
        return SingleLabelEvaluation(self.class_names, *columns)

    def epoch_text(self, metrics: Mapping[str, Any]) -> str:
        """Loss and accuracy."""
        return f"loss {metrics['loss']:.4f} acc {percent(metrics['accuracy']):>8}"

    def result_text(self, metrics: Mapping[str, Any]) -> str:
        """Accuracy with its interval, and the loss."""
        interval = spoken(Interval(*metrics["accuracy_interval"]), 2)
        return f"accuracy {percent(metrics['accuracy'])} (95 % interval {interval}), loss {metrics['loss']:.4f}"

    def headline_text(self, metrics: Mapping[str, Any]) -> str:
        """Accuracy."""
        return percent(metrics["accuracy"])

    def evaluation_text(self, summary: Mapping[str, Any]) -> list[str]:
        """Totals, classes and the most confused pairs."""
        return evaluation_text(summary)

    def facts(self, targets: Tensor) -> dict[str, Any]:
        """How many images each class has."""
        counts = targets.bincount(minlength=len(self.class_names)).tolist()
        return {"class_counts": dict(zip(self.class_names, counts, strict=True))}

    @property
    def in_brief(self) -> tuple[str, str]:
        """The classes."""
        names = self.class_names
        more = ", ..." if len(names) > 12 else ""
        return "classes", f"{len(names)}: {', '.join(map(shortened, names[:12]))}{more}"

    def guess(self, targets: Tensor) -> float:
        """The accuracy of always naming the most frequent class."""
        return float(np.bincount(targets.cpu().numpy()).max() / len(targets))

    def strata(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The classes."""
        return targets

    def activation(self, outputs: Tensor) -> Tensor:
        """The probabilities of the classes, float32 (N, K); they add up to 1."""
        return (outputs.float() / self.temperature).softmax(1)

    def decode(self, outputs: Tensor, top: int) -> list[Decoded]:
        """The likeliest classes with their probabilities."""
        probabilities = self.activation(outputs)
        values, classes = probabilities.topk(min(top, probabilities.shape[1]), dim=1)
        if not torch.isfinite(values).all():
            raise CheckpointError(NOT_FINITE)
        return [
            tuple(zip([self.class_names[index] for index in row], shares, strict=True))
            for row, shares in zip(classes.tolist(), values.tolist(), strict=True)
        ]

    def calibrated(self, outputs: Tensor, targets: Tensor) -> "SingleLabel":
        """The same with the temperature that fits outputs, (N, K), of images that were not trained on."""
        return replace(self, temperature=fit_temperature(outputs, targets))

    def exported(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and probabilities, each (N, K)."""
        logits = outputs / self.temperature
        return logits, logits.softmax(1)

    def decisions(self, outputs: Tensor) -> Tensor:
        """The likeliest class, int64 (N,)."""
        return outputs.argmax(1)

    @property
    def export_notes(self) -> ExportNotes:
        """Logits, probabilities and the names of the classes."""
        num_classes = len(self.class_names)
        shape = f"float32 (batch, {num_classes})"
        return ExportNotes(
            kind="image classifier",
            size=f"{num_classes} classes",
            outputs={
                "logits": f"{shape}, divided by the temperature",
                "probabilities": f"{shape}, the softmax of the logits; each row adds up to 1",
            },
            gives=f"probabilities (batch, {num_classes}) and their logits",
            bare_outputs={"logits": f"{shape}; divided by the temperature, their softmax is the probabilities"},
            labels={"class_names": list(self.class_names)},
            fitted={"temperature": self.temperature},
            decision="top class",
            activation=f"({{outputs}} / {self.temperature}).softmax(1)",
            answer="best = int(probabilities[0].argmax())\nprint(class_names[best], float(probabilities[0][best]))",
        )

    def caption(self, target: Tensor) -> str:
        """The class; of a mixed target the two with the largest shares."""
        if not target.is_floating_point():
            return printable(self.class_names[int(target)])
        shares = sorted(zip(target.tolist(), self.class_names, strict=True), reverse=True)
        return "\n".join(f"{printable(name)}: {share:.0%}" for share, name in shares[:2] if share >= 0.005)
