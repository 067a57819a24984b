"""Training: the ten steps of the textbook, in order.

`run` holds steps 1, 2 and 7 to 10; `train_step` holds 3 to 6.
"""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnntrain.config import Config
from cnntrain.data import Splits, default_data_root, prepare_data
from cnntrain.data.batches import Batch, steps_per_epoch, train_batches
from cnntrain.data.pipeline import AugmentationPipeline, build_pipeline
from cnntrain.errors import NumericalError
from cnntrain.evaluate import evaluate
from cnntrain.learner import Learner, build_learner, gradient_norms
from cnntrain.models import count_parameters
from cnntrain.records.checkpoints import About, load_network, save_network, save_training
from cnntrain.records.console import Console
from cnntrain.records.results import build_results
from cnntrain.records.run_folder import BEST, run_folder
from cnntrain.records.run_log import EpochFigures, RunLog
from cnntrain.runtime.device import autocast, device_name, resolve_device
from cnntrain.runtime.seeds import seed_torch


class TrainResult(NamedTuple):
    """The run folder, and the content of its results.json."""

    folder: Path
    results: dict[str, Any]


class StepResult(NamedTuple):
    """What a step leaves, on the device; reading a number makes the host wait."""

    loss_sum: Tensor
    weight_sum: Tensor
    num_correct: Tensor
    gradient_norms: dict[str, Tensor]


def run(config: Config, console: Console) -> TrainResult:
    """Trains, validates, stops and tests as the configuration says.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
    """
    started = time.perf_counter()
    device = resolve_device(config.run.device)

    console.step(1, "data preparation", config.data.source)
    data_root = config.run.data_root or str(default_data_root(config.data.source))
    splits = prepare_data(config.data, data_root=data_root, progress=console.progress).to(device)
    console.describe_data(splits)

    learner = build_learner(config, splits, device)
    num_parameters = count_parameters(learner.model)
    console.step(2, "model initialisation", f"{config.model.name}, {num_parameters:,} parameters")
    console.say(f"     {device_name(device)}, {learner.precision}, seed {config.run.seed}")

    config = config.pinned(precision=learner.precision, device=str(device), data_root=data_root)
    with run_folder(Path(config.run.output), str(config.run.name)) as folder:
        log = RunLog(folder, config, console)
        training_started = time.perf_counter()
        stopped_because = fit(learner, splits, config, log)
        train_seconds = time.perf_counter() - training_started
        console.step(9, "termination", f"{stopped_because}; best epoch {learner.stopping.best_epoch}")

        network, best = load_network(folder / BEST, device)
        console.step(10, "testing", f"the weights of epoch {best.epoch}, once, on {len(splits.test):,} test images")
        tested = evaluate(network, splits.test, splits.preprocessing, learner.task, config.recipe.batch_size)
        results = build_results(
            config,
            test=tested.summary(),
            val=best.val,
            epochs=log.epochs,
            best_epoch=best.epoch,
            stopped_because=stopped_because,
            train_seconds=train_seconds,
            total_seconds=time.perf_counter() - started,
            splits=splits.identity(),
            parameters=num_parameters,
            device=device_name(device),
        )
        log.finish(results, tested, splits.test, learner.step)
    return TrainResult(folder, results)


def fit(learner: Learner, splits: Splits, config: Config, log: RunLog) -> str:
    """Steps 7 and 8: epochs of training, each validated, until the last one or until early stopping says so.

    Returns:
        Why it stopped.
    """
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    about = About(config, splits.class_names, splits.preprocessing, splits.identity())
    for epoch in range(1, config.recipe.epochs + 1):  # 7 iteration
        figures = train_epoch(learner, splits, pipeline, config, epoch, log)

        # 8 evaluation: validate, judge, keep the best, save, in this order
        evaluation = evaluate(learner.network, splits.val, splits.preprocessing, learner.task, config.recipe.batch_size)
        val = evaluation.summary()
        learner.scheduler.epoch_end(epoch, val)
        verdict = learner.stopping.update(epoch, val)
        about = about.at(epoch, learner.step, val)
        if verdict.improved:
            save_network(log.folder / BEST, learner.network, about)
        save_training(log.folder / BEST.parent, learner.state_dict(), about)
        log.epoch(epoch, figures, val, learner.step, learner.last_learning_rate, best=verdict.improved)
        if verdict.stop:
            return learner.stopping.reason
    return f"all {config.recipe.epochs} epochs are done"


def train_epoch(
    learner: Learner, splits: Splits, pipeline: AugmentationPipeline, config: Config, epoch: int, log: RunLog
) -> EpochFigures:
    """One pass over the training images.

    Raises:
        NumericalError: The loss is no longer a finite number.
    """
    batches = train_batches(splits.train, pipeline, config.recipe.batch_size, seed=config.run.seed, epoch=epoch,
                            balanced=config.recipe.balance == "sampler")  # fmt: skip
    num_steps = steps_per_epoch(len(splits.train), config.recipe.batch_size)
    learner.model.train()
    sums = torch.zeros(3, device=learner.device)  # losses, weights, correct
    num_images, data_seconds, started = 0, 0.0, time.perf_counter()
    for _ in log.bar(range(num_steps), epoch):
        asked = time.perf_counter()
        batch = next(batches)
        data_seconds += time.perf_counter() - asked
        logged = learner.step % config.run.log_every_steps == 0
        result = train_step(learner, batch, with_norms=logged)
        sums += torch.stack([result.loss_sum, result.weight_sum, result.num_correct])
        num_images += len(batch.targets)
        if logged:
            log.step(
                learner.step,
                float(result.loss_sum / result.weight_sum),
                learner.last_learning_rate,
                result.gradient_norms,
            )
        if learner.step == 1:
            log.first_step(batch, splits, learner.criterion.at_chance(), num_steps)
    loss_sum, weight_sum, num_correct = sums.tolist()  # the host waits for the device here
    seconds = time.perf_counter() - started
    if not math.isfinite(loss_sum):
        raise NumericalError(
            f"the training loss is {loss_sum} after epoch {epoch} (step {learner.step}, learning rate "
            f"{learner.last_learning_rate:.3g}); try a lower recipe.optimizer.lr, a warm-up, "
            f"recipe.clip_grad_norm: 1.0 or recipe.precision: float32"
        )
    return EpochFigures(loss_sum / weight_sum, num_correct / num_images, num_images, seconds, data_seconds)


def train_step(learner: Learner, batch: Batch, *, with_norms: bool = False) -> StepResult:
    """Steps 3 to 6 on one batch: forward, loss, backward, update.

    With micro-batches, their gradients add up to that of the whole batch (batch norm still sees each apart).
    """
    if learner.has_dropout:
        seed_torch("dropout", learner.seed, learner.step)
    size = learner.micro_batch or len(batch.targets)
    weight_sum = learner.criterion.weights(batch.targets).sum()
    loss_sum, num_correct = torch.zeros_like(weight_sum), torch.zeros_like(weight_sum)
    for images, targets in zip(batch.images.split(size), batch.targets.split(size), strict=True):
        with autocast(learner.precision, learner.device):
            outputs = learner.model(images)  # 3 forward
        part = learner.criterion(outputs, targets)  # 4 loss
        learner.scaler.scale(part / weight_sum).backward()  # type: ignore[no-untyped-call]  # 5 backward
        loss_sum += part.detach()
        num_correct += learner.task.num_correct(outputs.detach(), targets)

    # 6 update
    learner.scaler.unscale_(learner.optimizer)
    norms = gradient_norms(learner.model) if with_norms else {}
    if learner.clip_grad_norm:
        nn.utils.clip_grad_norm_(learner.model.parameters(), learner.clip_grad_norm)
    learner.update()
    return StepResult(loss_sum, weight_sum, num_correct, norms)
