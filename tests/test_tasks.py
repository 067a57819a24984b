"""Whoever asks a task asks any: a second one, which exists here alone, goes through the same steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from cnntrain.config.loading import parse_config
from cnntrain.data.batches import Batch
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import CheckpointError
from cnntrain.models.options import WithAuxiliary
from cnntrain.tasks.evaluation import evaluate
from cnntrain.tasks.losses import CrossEntropy, SquaredError
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.tasks.task import Column, Decoded, ExportNotes, Targets, Task, TrainingLoss, training_loss
from cnntrain.trained.export.agreement import RealImages, compare
from cnntrain.training.early_stopping import MetricWatch
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.setup import build_training

TEXT = (
    "model: lenet5\ndata: {source: digits, image_size: 16}\n"
    "recipe: {optimizer: {name: adam, lr: 0.003}, schedule: constant}\n"
)


@dataclass(frozen=True)
class MeanSquare:
    """The square of the distance."""

    def __call__(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        return (outputs.float() - targets).square().sum()

    def total_weight(self, targets: Tensor) -> int:
        return len(targets)

    def at_chance(self) -> float:
        return 1.0

    def to(self, device: torch.device) -> "MeanSquare":
        return self


@dataclass(frozen=True)
class Distances:
    """What came out for each example."""

    losses: npt.NDArray[np.float32]
    errors: npt.NDArray[np.float32]

    class_names: ClassVar[tuple[str, ...]] = ()
    confusion: ClassVar[None] = None
    remark: ClassVar[str] = ""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        return np.zeros(len(self.losses), dtype=bool)

    def worst_mistakes(self, limit: int) -> npt.NDArray[np.int64]:
        return np.argsort(-self.losses)[:limit]

    def caption(self, position: int) -> str:
        return f"off by {self.errors[position]:.2f}"

    def summary(self) -> dict[str, Any]:
        return {"num_images": len(self.losses), "loss": float(self.losses.mean()), "mae": float(self.errors.mean())}


@dataclass(frozen=True)
class Numbers:
    """Each image has some numbers, the outputs are these numbers: no classes, and nothing is right or wrong."""

    names: tuple[str, ...]

    headline: ClassVar[str] = "loss"
    score: ClassVar[str] = "mae"
    sections: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[Mapping[str, str]] = {}
    metrics: ClassVar[tuple[str, ...]] = ("loss", "mae")

    @property
    def num_outputs(self) -> int:
        return len(self.names)

    @property
    def targets(self) -> Targets:
        return Targets(torch.float32, (len(self.names),), mixed_size=len(self.names))

    def criterion(self, balanced_over: Tensor | None = None) -> MeanSquare:
        return MeanSquare()

    def training_loss(self, criterion: Any, outputs: Tensor | WithAuxiliary, targets: Tensor) -> TrainingLoss:
        return training_loss(criterion, outputs, targets)

    def num_correct(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean(1).sum()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(1)

    def outcomes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        return self.losses(outputs, targets), (outputs - targets).abs().mean(1)

    def evaluation(self, columns: Sequence[Column]) -> Distances:
        return Distances(*columns)

    def epoch_text(self, metrics: Mapping[str, Any]) -> str:
        return f"loss {metrics['loss']:.4f}"

    def result_text(self, metrics: Mapping[str, Any]) -> str:
        return f"mean error {metrics['mae']:.2f}"

    def headline_text(self, metrics: Mapping[str, Any]) -> str:
        return f"{metrics['loss']:.2f}"

    def evaluation_text(self, summary: Mapping[str, Any]) -> list[str]:
        return [f"{key} {summary[key]:.4f}" for key in self.metrics]

    def facts(self, targets: Tensor) -> dict[str, Any]:
        return {}

    @property
    def in_brief(self) -> tuple[str, str]:
        return "numbers", ", ".join(self.names)

    def guess(self, targets: Tensor) -> float:
        return math.nan

    def strata(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        middle: npt.NDArray[np.int64] = (targets[:, 0] > np.median(targets[:, 0])).astype(np.int64)
        return middle

    def activation(self, outputs: Tensor) -> Tensor:
        return outputs

    def decode(self, outputs: Tensor, top: int) -> list[Decoded]:
        return [tuple(zip(self.names[:top], row, strict=False)) for row in outputs.tolist()]

    def exported(self, outputs: Tensor) -> tuple[Tensor, ...]:
        return (outputs,)

    def decisions(self, outputs: Tensor) -> Tensor:
        return torch.empty(len(outputs), 0, dtype=torch.int64)

    @property
    def export_notes(self) -> ExportNotes:
        shape = f"(batch, {len(self.names)})"
        return ExportNotes(
            kind="network that measures",
            size=f"{len(self.names)} numbers",
            outputs={"values": f"float32 {shape}"},
            gives=f"values {shape}",
            bare_outputs={"values": f"float32 {shape}"},
            labels={"names": list(self.names)},
            fitted={},
            decision="",
            activation="{outputs}",
            answer="print(values)",
        )

    def caption(self, target: Tensor) -> str:
        return ", ".join(f"{name} {value:.1f}" for name, value in zip(self.names, target.tolist(), strict=True))


NUMBERS = Numbers(tuple(f"n{index}" for index in range(10)))


def test_a_task_without_classes_is_trained_and_evaluated() -> None:
    config = parse_config(TEXT, "test")
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, torch.device("cpu"))
    settings = replace(settings, task=NUMBERS, criterion=NUMBERS.criterion())
    begin_epoch(state.network, settings, 1)
    images = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, images.mean((1, 2, 3))[:, None].repeat(1, 10))
    losses = [train_step(state, batch, settings).loss for _ in range(30)]
    assert losses[-1] < 0.1 * losses[0]
    assert 0 < state.sums.figures().accuracy < 0.5  # the score of the steps: here a mean error

    parts = [Batch(batch.images[start:stop], batch.targets[start:stop]) for start, stop in ((0, 40), (40, 64))]
    found = evaluate(state.kept, parts, NUMBERS).summary()
    with torch.inference_mode():
        differences = (state.kept.eval()(batch.images) - batch.targets).numpy()
    assert found["num_images"] == 64
    assert found["loss"] == pytest.approx((differences**2).sum(1).mean(), rel=1e-5)
    assert found["mae"] == pytest.approx(np.abs(differences).mean(), rel=1e-5)

    watch = MetricWatch(NUMBERS.headline)
    assert [watch.update(epoch, {"loss": loss}) for epoch, loss in ((1, 2.0), (2, 1.0), (3, 1.5))] == [True, True, False]  # fmt: skip


def test_a_single_label_is_decoded_by_probability() -> None:
    task: Task[Any] = SingleLabel(("a", "b", "c"), temperature=2.0)
    outputs = torch.tensor([[0.0, 2.0, 4.0]])
    ((first, second),) = task.decode(outputs, top=2)
    expected = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    assert (first[0], second[0]) == ("c", "b")
    assert (first[1], second[1]) == pytest.approx((expected[2], expected[1]))
    logits, probabilities = task.exported(outputs)
    torch.testing.assert_close(probabilities, task.activation(outputs))
    assert list(task.export_notes.outputs) == ["logits", "probabilities"]
    assert logits.tolist() == [[0.0, 1.0, 2.0]]
    assert len(task.decode(outputs, top=100)[0]) == task.num_outputs
    with pytest.raises(CheckpointError, match="not finite"):
        task.decode(outputs * torch.nan, top=1)


def test_the_loss_that_is_reported_is_neither_smoothed_nor_weighted() -> None:
    outputs, targets = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    for plain, smoothed in (
        (CrossEntropy(), CrossEntropy(label_smoothing=0.2)),
        (SquaredError(), SquaredError(label_smoothing=0.2)),
    ):
        task, other = (SingleLabel(("a", "b", "c"), loss) for loss in (plain, smoothed))
        torch.testing.assert_close(task.losses(outputs, targets), other.losses(outputs, targets))
        assert float(other.criterion(targets)(outputs, targets)) != pytest.approx(float(task.criterion()(outputs, targets)))  # fmt: skip
        assert task.losses(outputs, targets).sum() == pytest.approx(float(task.criterion()(outputs, targets)))


def test_a_mixed_label_is_written_with_its_larger_shares() -> None:
    task = SingleLabel(("a", "b", "c"))
    assert task.caption(torch.tensor(1)) == "b"
    assert task.caption(torch.tensor([0.3, 0.7, 0.0])) == "b: 70%\na: 30%"
    assert task.caption(torch.tensor([0.0, 1.0, 0.001])) == "b: 100%"


def test_an_export_is_compared_by_what_its_task_returns() -> None:
    def original(images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float32], ...]:
        outputs = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32))
        return tuple(values.numpy() for values in NUMBERS.exported(outputs))

    images = RealImages(np.zeros((4, 2, 5, 1), dtype=np.uint8), "made up")
    found = compare(original, original, images, NUMBERS)
    assert found.holds
    assert found.to_dict().keys() >= {"max_difference_values", "allowed_difference_values"}
    assert not compare(original, lambda pixels: (original(pixels)[0] + 1,), images, NUMBERS).holds


@pytest.mark.parametrize("augment", ["[]", "[mixup]"])
def test_batches_hold_the_targets_that_the_task_says(augment: str) -> None:
    config = parse_config(TEXT.replace("image_size: 16", f"image_size: 16, augment: {augment}"), "test")
    splits = prepare_data(config.data)
    settings = build_training(config, splits, torch.device("cpu")).settings
    targets, spec = next(epoch_batches(splits, settings, epoch=1)).targets, settings.task.targets
    if augment == "[]":
        assert (targets.dtype, targets.shape[1:]) == (spec.dtype, spec.shape)
    else:
        assert (targets.dtype, targets.shape[1:]) == (torch.float32, (spec.mixed_size,))
    assert splits.train.targets.dtype == spec.dtype
