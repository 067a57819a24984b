"""Training: the ten steps of the textbook, in order.

`run` holds steps 1, 2 and 7 to 10; `train_step` holds 3 to 6.
"""

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cnntrain.config import Config
from cnntrain.data import Splits, prepare_data, resolve_data_root
from cnntrain.data.batches import Batch, steps_per_epoch, train_batches
from cnntrain.data.pipeline import AugmentationPipeline, build_pipeline
from cnntrain.errors import NumericalError
from cnntrain.evaluate import evaluate
from cnntrain.learner import Learner, build_learner, gradient_norms
from cnntrain.models import count_parameters
from cnntrain.recipe.resizing import training_size
from cnntrain.records.checkpoints import Header, load_network, save_network, save_training
from cnntrain.records.console import Console
from cnntrain.records.results import build_results
from cnntrain.records.run_folder import BEST, check_writable, run_folder
from cnntrain.records.run_log import SUMMARY_METRICS, EpochFigures, RunLog
from cnntrain.runtime.device import MEMORY_FORMAT, autocast, device_name, resolve_device
from cnntrain.start import initial_weights


class TrainResult(NamedTuple):
    """The run folder, and the content of its results.json."""

    folder: Path
    results: dict[str, Any]


class SetUp(NamedTuple):
    """The configuration as resolved, and what steps 1 and 2 made of it."""

    config: Config
    splits: Splits
    learner: Learner


class FitResult(NamedTuple):
    """Why training stopped, and the validation metrics of the best epoch."""

    stopped_because: str
    val: dict[str, Any]


class StepResult(NamedTuple):
    """What a step leaves, on the device; reading a number makes the host wait."""

    loss_sum: Tensor
    total_weight: Tensor | int
    num_correct: Tensor
    gradient_norms: dict[str, Tensor]


def run(config: Config, console: Console) -> TrainResult:
    """Trains, validates, stops and tests as the configuration says.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
    """
    started = time.perf_counter()
    device, output = resolve_device(config.run.device), Path(config.run.output).expanduser()
    check_writable(output)

    config, splits, learner = set_up(config, device, console)
    with run_folder(output, str(config.run.name)) as folder, closing(RunLog(folder, config, console)) as log:
        training_started = time.perf_counter()
        stopped_because, val = fit(learner, splits, config, log)
        train_seconds = time.perf_counter() - training_started
        console.step(9, "termination", f"{stopped_because}; best epoch {learner.stopping.best_epoch}")

        best, header = load_network(folder / BEST, device)
        console.step(10, "testing", f"the weights of epoch {header.epoch}, once, on {len(splits.test):,} test images")
        tested = evaluate(best, splits.test, **evaluation_settings(learner, splits, config))
        results = build_results(
            config,
            test=tested.summary(),
            val=val,
            epochs=log.epochs,
            best_epoch=header.epoch,
            stopped_because=stopped_because,
            train_seconds=train_seconds,
            total_seconds=time.perf_counter() - started,
            splits=header.splits,
            parameters=count_parameters(learner.model),
            weights=learner.weights,
            device=device_name(device),
            images_held=splits.held,
            contention_share=log.contention.share(),
        )
        log.finish(results, tested, splits.test, learner.step)
        share = max(tested.confusion.sum(1)) / len(tested.targets)
        if results["test"]["accuracy"] <= 1.1 * share:
            console.say(
                "     note: no better than naming the most frequent class; try another learning rate or more epochs"
            )
    return TrainResult(folder, results)


def set_up(config: Config, device: torch.device, console: Console) -> SetUp:
    """Steps 1 and 2: the data, and a network ready to learn from them.

    Raises:
        CnntrainError: The configuration, the data, the weights or the device does not allow it.
    """
    config, weights = initial_weights(config)
    console.step(1, "data preparation", config.data.source)
    data_root = resolve_data_root(config.data.source, config.run.data_root)
    splits = prepare_data(config.data, data_root=data_root, device=device, reporter=console)
    console.describe_data(splits)

    learner = build_learner(config, splits, device, weights)
    start = f"from {weights.source}" if weights else f"random weights, init: {config.model.init}"
    parameters = f"{count_parameters(learner.model):,} parameters"
    console.step(2, "model initialisation", f"{config.model.name}, {parameters}, {start}")
    chosen = " (auto)" if config.recipe.precision == "auto" else ""
    console.say(f"     {device_name(device)}, {learner.precision}{chosen}, {MEMORY_FORMAT}, seed {config.run.seed}")
    for notice in learner.notices:
        console.say(f"     note: {notice}")
    if weights:
        console.describe_preprocessing(splits.preprocessing)
    config = config.pinned(
        precision=learner.precision,
        weights=weights.source if weights else None,
        data=splits.preprocessing.sizes(),
        device=str(device),
        data_root=data_root,
    )
    return SetUp(config, splits, learner)


def fit(learner: Learner, splits: Splits, config: Config, log: RunLog) -> FitResult:
    """Steps 7 and 8: epochs of training, each validated, until the last one or until early stopping says so.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: The loss is no longer a finite number.
    """
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    header = Header(config, splits.class_names, splits.preprocessing, splits.identity())
    stopped_because, best_val = f"the last epoch, {config.recipe.epochs}, is done", dict[str, Any]()
    for epoch in range(1, config.recipe.epochs + 1):  # 7 iteration
        figures = train_epoch(learner, splits, pipeline=pipeline, config=config, epoch=epoch, log=log)

        if epoch == 1:
            log.first_epoch(splits)
        # 8 evaluation: validate, judge, keep the best, save, in this order
        val = evaluate(learner.kept, splits.val, **evaluation_settings(learner, splits, config)).summary()
        check_finite(val["loss"], learner, f"validation loss after epoch {epoch}")
        learner.scheduler.epoch_end(epoch, val)
        verdict = learner.stopping.update(epoch, val)
        header = header.at(epoch, learner.step, {key: val[key] for key in SUMMARY_METRICS if key in val})
        if verdict.improved:
            best_val = val
            save_network(log.folder / BEST, learner.kept, header)
        save_training(log.folder / BEST.parent, learner.state_dict(), header)
        log.epoch(
            epoch, figures, val, step=learner.step, learning_rate=learner.last_learning_rate, best=verdict.improved
        )
        if verdict.stop:
            stopped_because = learner.stopping.reason
            break
    return FitResult(stopped_because, best_val)


def train_epoch(
    learner: Learner, splits: Splits, *, pipeline: AugmentationPipeline, config: Config, epoch: int, log: RunLog
) -> EpochFigures:
    """One pass over the training images.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: The loss is no longer a finite number.
    """
    recipe = config.recipe
    seed, balanced = config.run.seed, recipe.balance == "sampler"
    size = training_size(recipe, epoch, splits.preprocessing.image_size)
    batches = train_batches(
        splits.train, pipeline, recipe.batch_size, seed=seed, epoch=epoch, balanced=balanced, image_size=size
    )
    num_steps = steps_per_epoch(len(splits.train), recipe.batch_size)
    learner.begin_epoch(epoch)
    if news := learner.describe_freezing(epoch):
        log.console.say(f"     {news}")
    if size < splits.preprocessing.image_size:
        log.console.say(f"     images of {size} px")
    loss_sum, num_correct = torch.zeros((), device=learner.device), torch.zeros((), device=learner.device)
    total_weight: Tensor | int = 0
    num_images, data_seconds, started = 0, 0.0, time.perf_counter()
    for _ in log.bar(range(num_steps), epoch):
        asked = time.perf_counter()
        batch = next(batches)
        data_seconds += time.perf_counter() - asked
        logged = learner.step % config.run.log_every_steps == 0
        result = train_step(learner, batch, with_norms=logged)
        loss_sum += result.loss_sum
        num_correct += result.num_correct
        total_weight += result.total_weight
        num_images += len(batch.targets)
        if logged:  # the host waits for the device here
            loss = float(result.loss_sum / result.total_weight)
            check_finite(loss, learner, f"training loss in epoch {epoch}")
            log.step(learner.step, loss, learner.last_learning_rate, result.gradient_norms)
        if learner.step == 1:
            log.first_step(batch, splits, learner.criterion.at_chance(), num_steps)
    mean_loss, accuracy = float(loss_sum / total_weight), float(num_correct) / num_images  # and here
    seconds = time.perf_counter() - started
    check_finite(mean_loss, learner, f"training loss in epoch {epoch}")
    return EpochFigures(mean_loss, accuracy, num_images, seconds, data_seconds)


def check_finite(loss: float, learner: Learner, what: str) -> None:
    """Stops before a checkpoint is spoilt.

    Raises:
        NumericalError: The loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise NumericalError(
            f"the {what} is {loss} (step {learner.step}, learning rate {learner.last_learning_rate:.3g}); "
            f"try a lower recipe.optimizer.lr, a warm-up, recipe.clip_grad_norm: 1.0 or recipe.precision: float32"
        )


def evaluation_settings(learner: Learner, splits: Splits, config: Config) -> dict[str, Any]:
    """How validation and test are measured alike."""
    return {
        "preprocessing": splits.preprocessing,
        "task": learner.task,
        "batch_size": config.recipe.images_at_once,
    }


def train_step(learner: Learner, batch: Batch, *, with_norms: bool = False) -> StepResult:
    """Steps 3 to 6 on one batch: forward, loss, backward, update.

    With micro-batches, their gradients add up to that of the whole batch (batch norm still sees each apart).
    """
    total_weight = learner.criterion.total_weight(batch.targets)
    loss_sum, num_correct = torch.zeros((), device=learner.device), torch.zeros((), device=learner.device)
    with learner.seeded_dropout():
        for images, targets in micro_batches(batch, learner.micro_batch):
            with autocast(learner.precision, learner.device):
                outputs = learner.forward(images)  # 3 forward
            loss, reported, logits = learner.task.training_loss(learner.criterion, outputs, targets)  # 4 loss
            learner.scaler.scale(loss / total_weight).backward()  # type: ignore[no-untyped-call]  # 5 backward
            loss_sum += reported
            num_correct += learner.task.num_correct(logits, targets)

    # 6 update
    learner.scaler.unscale_(learner.optimizer)
    norms = gradient_norms(learner.model) if with_norms else {}
    if learner.clip_grad_norm:
        nn.utils.clip_grad_norm_(learner.model.parameters(), learner.clip_grad_norm)
    learner.update()
    return StepResult(loss_sum, total_weight, num_correct, norms)


def micro_batches(batch: Batch, size: int | None) -> Iterator[Batch]:
    """A batch in parts of at most `size` images, nearly equal: a part of one image batch norm could not take."""
    num_images = len(batch.targets)
    if size is None or size >= num_images:
        yield batch
        return
    num_parts = max(1, min(math.ceil(num_images / size), num_images // min(size, 2)))
    for images, targets in zip(
        batch.images.tensor_split(num_parts), batch.targets.tensor_split(num_parts), strict=True
    ):
        yield Batch(images, targets)
