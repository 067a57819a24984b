"""What a task has to say: the questions that training, evaluation, prediction and their pages ask it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnntrain.models.options import WithAuxiliary
from cnntrain.tasks.metrics import Confusion

NOT_FINITE = (
    "the network's outputs are not finite numbers (NaN or infinite), so they tell nothing: its training went wrong, or "
    "its weights were changed; train it anew"
)

Column = npt.NDArray[Any]
Decoded = tuple[tuple[str, float], ...]  # what is predicted and how likely it is, likeliest first; or what, how much


class Targets(NamedTuple):
    """The targets of N examples in a batch: a tensor of `dtype`, (N, *shape).

    Where augmentation mixes examples, their targets are mixed too and become float32 (N, `mixed_size`).
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    mixed_size: int


class Criterion(Protocol):
    """A loss, as sums beside the sums of its weights, so that batches of any size give the same number."""

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """The sum of the weighted losses of a batch, a float32 scalar; to be divided by `total_weight`."""

    def total_weight(self, targets: Tensor) -> Tensor | int:
        """The sum of the weights of these examples."""

    def at_chance(self) -> float:
        """The loss of a network that knows nothing."""

    def to(self, device: torch.device) -> "Criterion":
        """The same for outputs on a device."""


@dataclass(frozen=True)
class ExportNotes:
    """What whoever uses an exported network must know of its outputs, for its card and for Python without cnntrain.

    Attributes:
        kind: What the network is, such as `image classifier`.
        size: How large its answer is, such as `10 classes`.
        outputs: By name, what `Task.exported` returns.
        gives: The same in a few words.
        bare_outputs: By name, what the network alone returns, to whoever builds it to take the weights.
        labels: What names the outputs, as plain values.
        fitted: What was fitted on validation.
        decision: What the network decides, such as `top class`.
        activation: Python that turns `{outputs}`, those of the network alone, into the last of `outputs`.
        answer: Python that prints the answer for the first image.
    """

    kind: str
    size: str
    outputs: Mapping[str, str]
    gives: str
    bare_outputs: Mapping[str, str]
    labels: Mapping[str, Any]
    fitted: Mapping[str, float]
    decision: str
    activation: str
    answer: str


class TrainingLoss(NamedTuple):
    """The loss of a batch in training; sums, as in `Criterion`.

    Attributes:
        minimised: Where there are auxiliary outputs, with their losses.
        reported: The part of it that compares with validation's loss.
        outputs: The main ones, (N, num_outputs).
    """

    minimised: Tensor
    reported: Tensor
    outputs: Tensor


class Evaluation(Protocol):
    """What came out for each example of a split, in its order, on the CPU."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, those of `confusion`; none where there are no classes."""

    @property
    def losses(self) -> npt.NDArray[np.float32]:
        """float32 (N,), unweighted and without label smoothing, so that recipes compare."""

    def summary(self) -> dict[str, Any]:
        """The metrics as plain values, `num_images`, `loss` and the headline among them; and their intervals."""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Which examples are answered rightly, bool (N,); where nothing is right or wrong, none."""

    @property
    def confusion(self) -> Confusion | None:
        """How often each class was called another; None where none excludes another."""

    @property
    def remark(self) -> str:
        """What should make people doubt the network; empty where nothing does."""

    def worst_mistakes(self, limit: int) -> npt.NDArray[np.int64]:
        """Positions of the examples that it was most mistaken about, worst first."""

    def caption(self, position: int) -> str:
        """What the network says of an example, and what it is, as written under a picture."""


E_co = TypeVar("E_co", bound=Evaluation, covariant=True)


class Task(Protocol[E_co]):
    """What targets are and what outputs mean.

    `outputs` are those of the network: float (N, num_outputs). `targets` are as `targets` says.
    """

    @property
    def num_outputs(self) -> int:
        """How many numbers the network gives for an example."""

    @property
    def targets(self) -> Targets:
        """What targets are."""

    # Training

    def criterion(self, balanced_over: Tensor | None = None) -> Criterion:
        """The loss to train with; its weights give whatever is rare among these targets the same say."""

    def training_loss(self, criterion: Criterion, outputs: Tensor | WithAuxiliary, targets: Tensor) -> TrainingLoss:
        """What is minimised in a step, and what is reported of it."""

    def num_correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What a step adds to the epoch's training score, a scalar; the score is its mean over the examples."""

    # Evaluation

    @property
    def headline(self) -> str:
        """The metric that is named first, and watched unless something else is asked for; see `tasks.watched`."""

    @property
    def score(self) -> str:
        """What the mean over what `num_correct` adds up is called: a key beside `loss` in records of training."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The keys of `Evaluation.summary` that are kept of every epoch, those which not every network has included."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss that is reported of each example, float32 (N,): neither smoothed nor weighted."""

    def outcomes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """What is kept of each example, on the device of the outputs: tensors (N, ...)."""

    def evaluation(self, columns: Sequence[Column]) -> E_co:
        """From the outcomes of a whole split, each joined and on the CPU."""

    def epoch_text(self, metrics: Mapping[str, Any]) -> str:
        """What the line of an epoch says of training or validation; `metrics` has the loss and the score at least."""

    def result_text(self, metrics: Mapping[str, Any]) -> str:
        """What is said of the final test: the headline with its interval, and the loss."""

    def headline_text(self, metrics: Mapping[str, Any]) -> str:
        """The headline alone, with its unit."""

    def evaluation_text(self, summary: Mapping[str, Any]) -> list[str]:
        """The lines of `cnntrain evaluate`, each number with what it rests on."""

    @property
    def shares(self) -> Mapping[str, str]:
        """By key, what the report calls those metrics that are shares of the examples."""

    @property
    def sections(self) -> tuple[str, ...]:
        """The sections of the report that have something to show, of classes, mistakes, calibration and robustness."""

    def facts(self, targets: Tensor) -> dict[str, Any]:
        """What results.json keeps of the targets of training, and the doctor knows of them."""

    @property
    def in_brief(self) -> tuple[str, str]:
        """What the outputs are called, and which there are, for a line of `cnntrain check`."""

    def guess(self, targets: Tensor) -> float:
        """The score of the best answer that is always the same; NaN where nothing is right or wrong."""

    def strata(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """The groups in which a split is carved, so that each part has its share of every group: int64 (N,)."""

    # Use

    def activation(self, outputs: Tensor) -> Tensor:
        """What outputs come to, float32 (N, num_outputs)."""

    def decode(self, outputs: Tensor, top: int) -> list[Decoded]:
        """For each example what is predicted, at most `top` of it.

        Raises:
            CheckpointError: The outputs are no finite numbers.
        """

    def exported(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """What an exported network returns, in plain operations that compilers of graphs know."""

    def decisions(self, outputs: Tensor) -> Tensor:
        """What outputs decide, int64 (N, ...), so that networks can be compared; (N, 0) where nothing is decided."""

    @property
    def export_notes(self) -> ExportNotes:
        """What to tell whoever uses an exported network."""

    def caption(self, target: Tensor) -> str:
        """A target of a batch, which may be mixed, as it is written under a picture."""


def kept_metrics(task: Task[Any], metrics: Mapping[str, Any]) -> dict[str, float]:
    """Those metrics of an evaluation's summary that are kept of every epoch."""
    return {key: metrics[key] for key in task.metrics if key in metrics}


def training_loss(criterion: Criterion, outputs: Tensor | WithAuxiliary, targets: Tensor) -> TrainingLoss:
    """The loss of outputs, with those of auxiliary classifiers where there are any."""
    if isinstance(outputs, Tensor):
        loss = criterion(outputs, targets)
        return TrainingLoss(loss, loss.detach(), outputs.detach())
    loss = criterion(outputs.logits, targets)
    auxiliary = sum(criterion(logits, targets) for logits in outputs.auxiliary)
    return TrainingLoss(loss + outputs.weight * auxiliary, loss.detach(), outputs.logits.detach())
