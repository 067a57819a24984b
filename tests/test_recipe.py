"""Losses, optimizers, schedules, averaging and early stopping, against PyTorch's own as oracles."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import nn
from torch.optim import lr_scheduler, swa_utils

from cnntrain.tasks.losses import CrossEntropy, LossOptions, SingleLabelCriterion, SquaredError, balanced_weights
from cnntrain.training.averaging import WeightAverage
from cnntrain.training.early_stopping import MetricWatch
from cnntrain.training.optimizers import Optimizer, build_optimizer
from cnntrain.training.schedules import Schedule, Scheduler, build_scheduler

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(32, 5, generator=GENERATOR) * 3
TARGETS = torch.randint(0, 5, (32,), generator=GENERATOR)
MIXED = torch.rand(32, 5, generator=GENERATOR).softmax(1)
WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1, 3.0])


def mean_loss(criterion: SingleLabelCriterion, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return criterion(logits, targets) / criterion.weights(targets).sum()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_cross_entropy_is_pytorchs(weights: torch.Tensor | None) -> None:
    criterion = CrossEntropy().build(5, weights)
    torch.testing.assert_close(mean_loss(criterion, LOGITS, TARGETS), F.cross_entropy(LOGITS, TARGETS, weight=weights))


def test_label_smoothing_and_mixed_targets_are_pytorchs() -> None:
    criterion = CrossEntropy(label_smoothing=0.1).build(5)
    torch.testing.assert_close(
        mean_loss(criterion, LOGITS, TARGETS), F.cross_entropy(LOGITS, TARGETS, label_smoothing=0.1)
    )
    torch.testing.assert_close(mean_loss(criterion, LOGITS, MIXED), F.cross_entropy(LOGITS, MIXED, label_smoothing=0.1))


@pytest.mark.parametrize("options", [CrossEntropy, SquaredError])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_hot_targets_mean_the_same_as_labels(
    options: type[CrossEntropy] | type[SquaredError], smoothing: float
) -> None:
    criterion = options(label_smoothing=smoothing).build(5, WEIGHTS)
    one_hot = F.one_hot(TARGETS, 5).float()
    torch.testing.assert_close(mean_loss(criterion, LOGITS, one_hot), mean_loss(criterion, LOGITS, TARGETS))


def test_squared_error_is_on_probabilities() -> None:
    probabilities = np.exp(LOGITS.numpy()) / np.exp(LOGITS.numpy()).sum(1, keepdims=True)
    expected = ((probabilities - np.eye(5)[TARGETS.numpy()]) ** 2).sum(1).mean()
    assert float(mean_loss(SquaredError().build(5), LOGITS, TARGETS)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("options", "expected"), [(CrossEntropy(), math.log(5)), (SquaredError(), 1 - 1 / 5)])
def test_loss_at_chance(options: LossOptions, expected: float) -> None:
    assert options.build(5).at_chance() == pytest.approx(expected, rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(5), y=TARGETS.numpy())
    np.testing.assert_allclose(balanced_weights(TARGETS, 5).numpy(), expected, rtol=1e-6)


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


def optimizer_config(**values: object) -> Optimizer:
    config: Optimizer = TypeAdapter(Optimizer).validate_python(values)
    return config


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        (
            {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        ),
        ({"name": "adam", "lr": 0.01}, lambda p: torch.optim.Adam(p, lr=0.01)),
        ({"name": "adamw", "lr": 0.01, "weight_decay": 0.1}, lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)),
    ],
)
def test_optimizers_move_weights_as_pytorchs(config: dict[str, object], theirs: object) -> None:
    assert callable(theirs)
    ours_model, theirs_model = small_model(), small_model()
    optimizers = [build_optimizer(optimizer_config(**config), ours_model), theirs(theirs_model.parameters())]
    images, targets = torch.randn(8, 1, 8, 8, generator=GENERATOR), TARGETS[:8]
    for model, optimizer in zip((ours_model, theirs_model), optimizers, strict=True):
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(images), targets).backward()
            optimizer.step()
    for ours, expected in zip(ours_model.parameters(), theirs_model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_norms_and_biases_do_not_decay_when_asked() -> None:
    model = small_model()
    config = optimizer_config(name="adamw", weight_decay=0.1, decay_norms_and_biases=False)
    groups = {group["weight_decay"]: group["params"] for group in build_optimizer(config, model).param_groups}
    assert {id(p) for p in groups[0.1]} == {id(model[0].weight), id(model[4].weight)}  # type: ignore[index]
    assert len(groups[0.0]) == 3


def schedule(**values: object) -> Scheduler:
    config = TypeAdapter(Schedule).validate_python(values)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    return build_scheduler(config, optimizer, steps_per_epoch=10, total_steps=80)


def rates(scheduler: Scheduler, num_steps: int, first: int = 0) -> list[float]:
    rates = []
    for step in range(first, first + num_steps):
        scheduler.set_rates(step)
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize(
    ("config", "theirs", "per_epoch"),
    [
        ({"name": "constant"}, lambda o: lr_scheduler.ConstantLR(o, factor=1), False),
        ({"name": "step", "every_epochs": 3, "factor": 0.2}, lambda o: lr_scheduler.StepLR(o, 3, 0.2), True),
        ({"name": "multi_step", "milestones": [2, 5]}, lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.1), True),
        ({"name": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, 80), False),
        ({"name": "cosine", "final_fraction": 0.1}, lambda o: lr_scheduler.CosineAnnealingLR(o, 80, 0.05), False),
        (
            {"name": "one_cycle", "warmup_fraction": 0},
            lambda o: lr_scheduler.LinearLR(o, start_factor=1, end_factor=1e-12, total_iters=80),
            False,
        ),
    ],
)  # fmt: skip
def test_schedules_are_pytorchs(config: dict[str, object], theirs: object, per_epoch: bool) -> None:
    assert callable(theirs)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    oracle = theirs(optimizer)
    expected: list[float] = []
    for step in range(80):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if not per_epoch or step % 10 == 9:
            oracle.step()
    np.testing.assert_allclose(rates(schedule(**config), 80), expected, atol=1e-9)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "constant"}, {"name": "step"}, {"name": "multi_step", "milestones": [4]}, {"name": "cosine"},
        {"name": "one_cycle"}, {"name": "reduce_on_plateau"},
    ],
)  # fmt: skip
def test_every_schedule_warms_up_linearly_to_the_rate(config: dict[str, object]) -> None:
    found = rates(schedule(**config, warmup_fraction=0.25), 20)
    np.testing.assert_allclose(found, [0.5 * (step + 1) / 20 for step in range(20)])


def test_plateau_multiplies_the_rate_as_pytorchs() -> None:
    losses = [1.0, 0.9, 0.9, 0.91, 0.92, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    # PyTorch's patience is the number of bad epochs that are forgiven: ours less one.
    oracle = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0)
    ours = schedule(name="reduce_on_plateau", metric="loss", patience=2, factor=0.5)
    for epoch, loss in enumerate(losses, start=1):
        rates(ours, 10, first=10 * (epoch - 1))
        ours.see_validation(epoch, 10 * epoch, {"loss": loss})
        oracle.step(loss)
        assert ours.optimizer.param_groups[0]["lr"] == pytest.approx(optimizer.param_groups[0]["lr"])


def test_average_is_pytorchs_ema() -> None:
    model = small_model()
    oracle = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True)
    oracle.update_parameters(model)  # the first call copies
    ours = WeightAverage(model, decay=0.5)
    for step in range(8, 14):  # late enough that the decay is 0.5
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=GENERATOR))
        model(torch.randn(4, 1, 8, 8, generator=GENERATOR))
        oracle.update_parameters(model)
        ours.update(model, step)
    for name, value in ours.network.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, oracle.module.state_dict()[name])


def test_average_forgets_the_initial_weights_soon() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightAverage(model, decay=0.9999)
    nn.init.ones_(model.weight)
    for step in range(1, 51):
        average.update(model, step)
    assert float(average.network.weight) > 0.99  # type: ignore[arg-type]


def watch(metric: str = "accuracy", patience: int | None = 3, min_delta: float = 0.0) -> MetricWatch:
    return MetricWatch(metric, patience=patience, min_delta=min_delta)


def feed(stopping: MetricWatch, values: list[float], key: str = "accuracy") -> int | None:
    for epoch, value in enumerate(values, start=1):
        stopping.update(epoch, {"loss": 1.0, key: value})
        if stopping.gives_up:
            return epoch
    return None


def test_early_stopping_stops_after_patience_epochs() -> None:
    stopping = watch()
    assert feed(stopping, [0.1, 0.5, 0.4, 0.4, 0.4, 0.9]) == 5
    assert stopping.best_epoch == 2


def test_early_stopping_resets_when_the_metric_improves() -> None:
    assert feed(watch(), [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.2]) == 7


def test_less_than_min_delta_does_not_reset_the_wait_but_may_be_best() -> None:
    stopping = watch(min_delta=0.05)
    assert feed(stopping, [0.5, 0.51, 0.52, 0.53]) == 4
    assert stopping.best_epoch == 4


def test_small_gains_that_add_up_do_reset_the_wait() -> None:
    assert feed(watch(min_delta=0.05), [0.50, 0.52, 0.54, 0.56, 0.58]) is None


def test_of_a_loss_lower_is_better() -> None:
    stopping = watch("loss")
    assert feed(stopping, [1.0, 0.5, 0.6, 0.6, 0.6], "loss") == 5
    assert stopping.best_epoch == 2


def test_equal_accuracies_are_told_apart_by_loss() -> None:
    stopping = watch()
    assert stopping.update(1, {"accuracy": 0.9, "loss": 0.5})
    assert stopping.update(2, {"accuracy": 0.9, "loss": 0.4})
    assert not stopping.update(3, {"accuracy": 0.9, "loss": 0.45})


def test_nan_is_never_best() -> None:
    assert not watch("loss").update(1, {"loss": math.nan})


def test_without_patience_it_never_stops() -> None:
    assert feed(watch(patience=None), [0.5] * 100) is None


def test_early_stopping_goes_on_where_its_state_was_taken() -> None:
    first, second = watch(), watch()
    feed(first, [0.5, 0.4])
    second.load_state_dict(first.state_dict())
    assert second == first
