"""Losses, as sums beside the sums of their weights, so that batches of any size give the same number."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Criterion:
    """A loss over single-label targets.

    Attributes:
        name: `cross_entropy`: -sum over classes of t log p; or `squared_error`: sum over classes of (p - t)^2,
            with p the softmax of the logits and t the target probabilities.
        num_classes: K.
        label_smoothing: t becomes (1 - s) t + s / K (Szegedy et al., arXiv:1512.00567, section 7).
        class_weights: float32 (K,) or None; the weight of an image is that of its class.
    """

    name: str
    num_classes: int
    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The sum of the weighted losses of a batch, a float32 scalar; to be divided by the sum of the weights.

        Args:
            logits: float (N, K).
            targets: int64 (N,), or float32 (N, K) probabilities where labels are mixed.
        """
        if self.class_weights is not None:
            return (self.per_image(logits, targets) * self.weights(targets)).sum()
        return (
            self._cross_entropy(logits, targets, "sum")
            if self.name == "cross_entropy"
            else self.per_image(logits, targets).sum()
        )

    def total_weight(self, targets: Tensor) -> Tensor | int:
        """The sum of the weights of the images, by which their summed loss is to be divided."""
        return len(targets) if self.class_weights is None else self.weights(targets).sum()

    def weights(self, targets: Tensor) -> Tensor:
        """The weight of each image, float32 (N,)."""
        if self.class_weights is None:
            return torch.ones(len(targets), device=targets.device)
        return targets @ self.class_weights if targets.is_floating_point() else self.class_weights[targets]

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Unweighted losses, float32 (N,), for logits and targets as above."""
        if self.name == "cross_entropy":
            return self._cross_entropy(logits, targets, "none")
        if not targets.is_floating_point():
            targets = F.one_hot(targets, self.num_classes).float()
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return (logits.float().softmax(1) - targets).square().sum(1)

    def _cross_entropy(self, logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
        return F.cross_entropy(logits.float(), targets, reduction=reduction, label_smoothing=self.label_smoothing)

    def at_chance(self) -> float:
        """The loss of a network that gives every class the same probability: ln K, or 1 - 1/K."""
        return float(self.per_image(torch.zeros(1, self.num_classes), torch.zeros(1, dtype=torch.int64)))


def balanced_weights(targets: Tensor, num_classes: int) -> Tensor:
    """Class weights N / (K n_k), float32 (K,): every class counts the same, and the mean weight is 1.

    Args:
        targets: int64 (N,).
        num_classes: K.
    """
    counts = torch.bincount(targets, minlength=num_classes).clamp(min=1)
    return (len(targets) / (num_classes * counts)).float()
