"""Losses, as sums beside the sums of their weights, so that batches of any size give the same number."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from cnntrain.config.section import Section
from cnntrain.config.shorthand import Shorthand, choice_of


@dataclass(frozen=True)
class SingleLabelCriterion(ABC):
    """A loss over targets of which one class is right.

    Attributes:
        num_classes: K.
        label_smoothing: The target probabilities t become (1 - s) t + s / K (Szegedy et al., arXiv:1512.00567,
            section 7).
        class_weights: float32 (K,) or None; the weight of an image is that of its class.
    """

    num_classes: int
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def to(self, device: torch.device) -> Self:
        """The same for outputs on a device."""
        return self if self.class_weights is None else replace(self, class_weights=self.class_weights.to(device))

    @abstractmethod
    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Unweighted losses, float32 (N,).

        Args:
            logits: float (N, K).
            targets: int64 (N,), or float32 (N, K) probabilities where labels are mixed.
        """

    def unweighted_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the unweighted losses, a float32 scalar."""
        return self.per_image(logits, targets).sum()

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the weighted losses of a batch, a float32 scalar; to be divided by the sum of the weights."""
        if self.class_weights is None:
            return self.unweighted_sum(logits, targets)
        return (self.per_image(logits, targets) * self.weights(targets)).sum()

    def total_weight(self, targets: Tensor) -> Tensor | int:
        """The sum of the weights of the images, by which their summed loss is to be divided."""
        return len(targets) if self.class_weights is None else self.weights(targets).sum()

    def weights(self, targets: Tensor) -> Tensor:
        """The weight of each image, float32 (N,)."""
        if self.class_weights is None:
            return torch.ones(len(targets), device=targets.device)
        return targets @ self.class_weights if targets.is_floating_point() else self.class_weights[targets]

    def at_chance(self) -> float:
        """The loss of a network that gives every class the same probability: ln K, or 1 - 1/K."""
        return float(self.per_image(torch.zeros(1, self.num_classes), torch.zeros(1, dtype=torch.int64)))


@dataclass(frozen=True)
class CrossEntropyCriterion(SingleLabelCriterion):
    """-sum over classes of t log p, with p the softmax of the logits."""

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._cross_entropy(logits, targets, "none")

    def unweighted_sum(self, logits: Tensor, targets: Tensor) -> Tensor:
        """PyTorch's own sum, which is quicker."""
        return self._cross_entropy(logits, targets, "sum")

    def _cross_entropy(self, logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(logits.float(), targets, reduction=reduction, label_smoothing=self.label_smoothing)


@dataclass(frozen=True)
class SquaredErrorCriterion(SingleLabelCriterion):
    """Sum over classes of (p - t)^2, with p the softmax of the logits."""

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        if not targets.is_floating_point():
            targets = F.one_hot(targets, self.num_classes).float()
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return (logits.float().softmax(1) - targets).square().sum(1)


class LossOptions(Section):
    """What every loss has."""

    chance_formula: ClassVar[str]  # what the loss at chance is

    name: str
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def build(self, num_classes: int, class_weights: Tensor | None = None) -> SingleLabelCriterion:
        """The loss; see `SingleLabelCriterion` for the arguments."""
        raise NotImplementedError


class CrossEntropy(LossOptions):
    """-log of the probability given to the right class."""

    chance_formula = "ln of the number of classes"

    name: Literal["cross_entropy"] = "cross_entropy"

    def build(self, num_classes: int, class_weights: Tensor | None = None) -> SingleLabelCriterion:
        return CrossEntropyCriterion(num_classes, self.label_smoothing, class_weights)


class SquaredError(LossOptions):
    """Sum over the classes of (probability - target)^2, the textbook's other loss."""

    chance_formula = "1 - 1 / number of classes"

    name: Literal["squared_error"] = "squared_error"

    def build(self, num_classes: int, class_weights: Tensor | None = None) -> SingleLabelCriterion:
        return SquaredErrorCriterion(num_classes, self.label_smoothing, class_weights)


LOSSES = (CrossEntropy, SquaredError)
if TYPE_CHECKING:
    Loss = LossOptions
else:
    Loss = choice_of(LOSSES, Shorthand(default="cross_entropy"))


def balanced_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Class weights N / (K n_k), float32 (K,): every class counts the same, and the mean weight is 1.

    Args:
        targets: int64 (N,).
        num_classes: K.
    """
    counts = torch.bincount(targets, minlength=num_classes).clamp(min=1)
    return (len(targets) / (num_classes * counts)).float()
