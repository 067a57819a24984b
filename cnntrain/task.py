"""What a network's outputs mean. Single-label classification; other kinds of task would stand beside it."""

from dataclasses import dataclass, field, replace

from torch import Tensor

from cnntrain.models.outputs import WithAuxiliary
from cnntrain.tasks.losses import Criterion, CrossEntropy, LossOptions, balanced_weights

NOT_FINITE = (
    "the network's outputs are not finite numbers (NaN or infinite), so they tell nothing: its training went wrong, or "
    "its weights were changed; train it anew"
)


@dataclass(frozen=True)
class SingleLabel:
    """Each image has one class; the outputs are logits, one per class.

    Attributes:
        class_names: K names.
        loss: What is minimised.
        temperature: Divides the outputs of a trained network, so that its confidence is its accuracy (Guo et al.:
            "On calibration of modern neural networks", ICML 2017); 1 changes nothing.
    """

    class_names: tuple[str, ...]
    loss: LossOptions = field(default_factory=CrossEntropy)
    temperature: float = 1.0

    def criterion(self, balanced_over: Tensor | None = None) -> Criterion:
        """The loss to train with; its weights give every class of these targets, int64 (N,), the same say."""
        num_classes = len(self.class_names)
        weights = None if balanced_over is None else balanced_weights(balanced_over, num_classes)
        return self.loss.build(num_classes, weights)

    def training_loss(
        self, criterion: Criterion, outputs: Tensor | WithAuxiliary, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What is minimised, the part of it that compares with validation's loss, and the logits.

        The two differ where auxiliary classifiers add their losses. Both are sums over the batch, as in `Criterion`.
        """
        if isinstance(outputs, Tensor):
            loss = criterion(outputs, targets)
            return loss, loss.detach(), outputs.detach()
        loss = criterion(outputs.logits, targets)
        auxiliary = sum(criterion(logits, targets) for logits in outputs.auxiliary)
        return loss + outputs.weight * auxiliary, loss.detach(), outputs.logits.detach()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that is reported, float32 (N,): neither smoothed nor weighted, so that recipes compare.

        Args:
            outputs: (N, K).
            targets: int64 (N,).
        """
        plain = replace(self.criterion(), label_smoothing=0.0)
        return plain.per_image(outputs / self.temperature, targets)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Logits (N, K) -> float32 (N, K) that add up to 1."""
        return (outputs.float() / self.temperature).softmax(1)

    def num_correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How many outputs (N, K) have their maximum at the target, int64; of mixed labels the larger share counts."""
        labels = targets.argmax(1) if targets.is_floating_point() else targets
        return (outputs.argmax(1) == labels).sum()
