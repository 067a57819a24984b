"""Training: the ten steps of the textbook, in order.

`run` holds steps 1, 2 and 7 to 10; `train_step` holds 3 to 6.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cnntrain.analysis.step_norms import StepNorms
from cnntrain.checkpointing import Checkpointing
from cnntrain.config.loading import Config
from cnntrain.data import Splits, prepare_data, resolve_data_root
from cnntrain.data.batches import Batch, micro_batches, steps_per_epoch, train_batches
from cnntrain.data.pipeline import AugmentationPipeline, build_pipeline
from cnntrain.evaluate import eval_batches_with_bar, evaluate, find_dead_relus
from cnntrain.learner import Learner, build_learner
from cnntrain.memory import fit_into_memory, smaller_batches
from cnntrain.models import count_parameters
from cnntrain.nonfinite import NonfiniteStep, check_finite, leave_out, restore_buffers
from cnntrain.progress import EpochFigures, Progress
from cnntrain.recipe.resizing import training_size
from cnntrain.records.checkpoints import Header, Saved
from cnntrain.records.console import Console
from cnntrain.records.results import build_results
from cnntrain.records.resume import Resumed, understood
from cnntrain.records.run_folder import check_writable, run_folder, run_folder_again
from cnntrain.records.run_log import RunLog
from cnntrain.records.runs import BEST
from cnntrain.records.signal_lines import is_logged
from cnntrain.runtime.device import MEMORY_FORMAT, autocast, device_name, memory_explained, resolve_device, use_threads
from cnntrain.runtime.signals import Stopped, StopSignals
from cnntrain.start import initial_weights
from cnntrain.trained import load
from cnntrain.trained.calibrate import save_temperature


class TrainResult(NamedTuple):
    """The run folder, and the content of its results.json."""

    folder: Path
    results: dict[str, Any]


class SetUp(NamedTuple):
    """The configuration as resolved, and what steps 1 and 2 made of it."""

    config: Config
    splits: Splits
    learner: Learner


class StepResult(NamedTuple):
    """What a step leaves, on the device; reading a number makes the host wait.

    Attributes:
        updated: Whether the weights were moved; not where loss or gradients are infinite or not a number.
        norms: Of gradients, weights and update, if they were asked for.
    """

    loss_sum: Tensor
    total_weight: Tensor | int
    num_correct: Tensor
    updated: bool = True
    norms: StepNorms | None = None


def run(
    config: Config, console: Console, resumed: Resumed | None = None, on_begin: Callable[[], None] = lambda: None
) -> TrainResult:
    """Trains, validates, stops and tests as the configuration says.

    Args:
        config: What to do.
        console: Where lines and bars go.
        resumed: The run to go on with, instead of a new one.
        on_begin: Is called when there is a run folder for others to find.

    Raises:
        CnntrainError: The configuration, the data, the device or the disk does not allow it.
        Stopped: A signal came; what was learnt until then is saved.
    """
    started = time.monotonic()
    device, output = resolve_device(config.run.device), Path(config.run.output).expanduser()
    check_writable(resumed.folder if resumed else output, "" if resumed else "; say where with --output")

    saved = resumed.saved if resumed else None
    with StopSignals(training=True) as stop:
        config, splits, learner = set_up(config, device, console, saved)
        stop.check()
        header = Header(config, splits.class_names, splits.preprocessing, splits.identity())
        if resumed:
            resumed.check_data(header)
        where = run_folder_again(resumed.folder) if resumed else run_folder(output, str(config.run.name))
        too_large = memory_explained(smaller_batches(config))
        with where as folder, closing(RunLog(folder, config, console)) as log, too_large:
            on_begin()
            log.data(splits, learner.criterion.at_chance())
            checkpointing = Checkpointing(learner, log, header, stop, started=started)
            if resumed:
                checkpointing.resume(saved, resumed.changes)
            fit(learner, splits, config, checkpointing)
            outcome = checkpointing.outcome()
            why = learner.reason_to_stop(config.recipe.epochs)
            console.step(9, "termination", f"{why}; best epoch {learner.stopping.best_epoch}")

            best = load(folder / BEST, device)
            if config.recipe.temperature_scaling:
                best, outcome["val"] = save_temperature(best, splits.val)
                fitted = f"fitted on validation: {best.header.says_of_confidence}"
                console.say(f"     temperature {best.task.temperature:.3f}, {fitted}")
            on = f"once, on {len(splits.test):,} test images" if len(splits.test) else "left out: no test images"
            console.step(10, "testing", f"the weights of epoch {best.header.epoch}, {on}")
            batches = eval_batches_with_bar(splits.test, splits.preprocessing, config.recipe.images_at_once, console)
            tested = evaluate(best.network, batches, best.task) if len(splits.test) else None
            results = build_results(
                config,
                **outcome,
                verdicts=[asdict(verdict) for verdict in log.verdicts(outcome["val"])],
                test=tested.summary() if tested else None,
                best_epoch=best.header.epoch,
                stopped_because=why,
                total_seconds=checkpointing.total_seconds,
                device=device_name(device),
                images_held=splits.held,
                skipped_images={part: len(faults) for part, faults in splits.skipped.items()},
            )
            log.finish(results, tested, splits.test, learner.step)
    return TrainResult(folder, results)


def set_up(config: Config, device: torch.device, console: Console, saved: Saved | None = None) -> SetUp:
    """Steps 1 and 2: the data, and a network ready to learn from them.

    Args:
        config: What to do.
        device: Where.
        console: Where lines go.
        saved: The checkpoint that will be gone on with, if any; its weights need no others to start from.

    Raises:
        CnntrainError: The configuration, the data, the weights or the device does not allow it.
    """
    use_threads(config.run.threads)
    config, weights = (config, None) if saved else initial_weights(config)
    console.step(1, "data preparation", config.data.source)
    data_root = resolve_data_root(config.data.source, config.run.data_root)
    splits = prepare_data(config.data, data_root=data_root, device=device, reporter=console)
    console.describe_data(splits)

    learner = build_learner(config, splits, device, weights)
    if saved:
        with understood(saved):
            learner.load_state_dict(saved.state)
    start = f"from {weights.source}" if weights else f"random weights, init: {config.model.init}"
    name = f"{config.model.name}, {count_parameters(learner.model):,} parameters"
    console.step(2, "model initialisation", f"{name}, {f'from {saved.path}' if saved else start}")
    chosen = " (auto)" if config.recipe.precision == "auto" else ""
    console.say(f"     {device_name(device)}, {learner.precision}{chosen}, {MEMORY_FORMAT}, seed {config.run.seed}")
    fit_into_memory(learner, splits, config, train_step, console)
    for notice in () if saved else learner.notices:
        console.say(f"     note: {notice}")
    if weights:
        console.describe_preprocessing(splits.preprocessing)
    config = config.pinned(
        precision=learner.precision,
        micro_batch=learner.micro_batch,
        weights=weights.source if weights else config.model.weights,
        data=splits.preprocessing.sizes(),
        device=str(device),
        data_root=data_root,
        threads=torch.get_num_threads(),
    )
    return SetUp(config, splits, learner)


def fit(learner: Learner, splits: Splits, config: Config, checkpointing: Checkpointing) -> None:
    """Steps 7 and 8: epochs of training, each validated, until the last one or until early stopping says so.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: The loss is no longer a finite number.
        StorageError: A checkpoint cannot be written.
        Stopped: A signal came; a checkpoint has been saved.
    """
    log, progress, stop = checkpointing.log, checkpointing.progress, checkpointing.stop
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    if config.recipe.on_nonfinite == "rollback" and learner.step == 0:
        checkpointing.save()
    try:
        while progress.epoch <= config.recipe.epochs and not learner.stopping.gives_up:  # 7 iteration
            with stop.later():  # a signal waits for the end of a step
                try:
                    figures = train_epoch(
                        learner, splits, pipeline=pipeline, config=config, progress=progress, log=log,
                        after_step=checkpointing.after_step,
                    )  # fmt: skip
                except NonfiniteStep as error:
                    checkpointing.roll_back(error.step, str(error))
                    continue
            if progress.epoch == 1:
                log.first_epoch(splits)
            # 8 evaluation: validate, judge, keep the best, save, in this order
            batches = eval_batches_with_bar(splits.val, splits.preprocessing, config.recipe.images_at_once, log.console)
            val = evaluate(learner.kept, batches, learner.task).summary() if len(splits.val) else {}
            check_finite(val.get("loss", 0.0), learner, f"validation loss after epoch {progress.epoch}")
            with stop.later():  # or for the end of all this
                learner.scheduler.epoch_end(progress.epoch, val)
                verdict = learner.stopping.update(progress.epoch, val)
                dead = find_dead_relus(learner, splits, config, progress.epoch)
                if verdict.improved:
                    checkpointing.keep_best(val)
                step, rate = learner.step, learner.last_learning_rate
                log.epoch(progress.epoch, figures, val, step=step, learning_rate=rate, best=verdict.improved, dead=dead)
                progress.next_epoch()
                checkpointing.save()
    except Stopped:
        checkpointing.save_at_stop()
        raise


def train_epoch(
    learner: Learner,
    splits: Splits,
    *,
    pipeline: AugmentationPipeline,
    config: Config,
    progress: Progress,
    log: RunLog,
    after_step: Callable[[], None] = lambda: None,
) -> EpochFigures:
    """One pass over the training images, or what is left of it.

    Raises:
        DataError: A streamed image cannot be read.
        NonfiniteStep: A step is to be left out, and those since the last checkpoint done again.
        NumericalError: The loss is no longer a finite number.
    """
    epoch, sums, full_size = progress.epoch, progress.sums, splits.preprocessing.image_size
    size = training_size(config.recipe, epoch, full_size)
    num_steps = steps_per_epoch(len(splits.train), config.recipe.batch_size)
    done = learner.step - (epoch - 1) * num_steps
    batches = epoch_batches(splits, config, epoch, pipeline=pipeline, image_size=size, first=done)
    learner.begin_epoch(epoch)
    log.begin_epoch(learner.describe_freezing(epoch), f"images of {size} px" if size < full_size else "")
    mark = time.perf_counter()
    for _ in log.bar(range(done, num_steps), epoch, sums):
        asked = time.perf_counter()
        batch = next(batches)
        sums.data_seconds += time.perf_counter() - asked
        if learner.step in progress.left_out:
            learner.advance()
        else:
            result = train_step(learner, batch, with_norms=is_logged(learner.step, config.run.log_every_steps))
            if not result.updated:
                leave_out(learner, batch, progress, log.console.say)
            else:
                progress.nonfinite_in_a_row = 0
                sums.add(result.loss_sum, result.total_weight, result.num_correct, len(batch.targets))
            if result.norms and result.updated:  # the host waits for the device here
                loss = float(result.loss_sum / result.total_weight)
                check_finite(loss, learner, f"training loss in epoch {epoch}")
                log.step(learner.step, epoch, loss, learner.last_learning_rate, result.norms.by_layer())
            if epoch == 1 and result.updated and sums.num_images == len(batch.targets):  # not left out
                log.first_step(batch, splits, learner.criterion.at_chance(), num_steps)
        sums.seconds += time.perf_counter() - mark
        after_step()
        mark = time.perf_counter()
    sums.wait()  # and here
    sums.seconds += time.perf_counter() - mark
    figures = sums.figures()
    if sums.num_images:  # else every step was left out
        check_finite(figures.loss, learner, f"training loss in epoch {epoch}")
    return figures


def epoch_batches(
    splits: Splits, config: Config, epoch: int, *, pipeline: AugmentationPipeline, image_size: int, first: int = 0
) -> Iterator[Batch]:
    """The batches of an epoch as the recipe wants them, without the `first` ones; see `train_batches`."""
    size, seed, balanced = config.recipe.batch_size, config.run.seed, config.recipe.balance == "sampler"
    return train_batches(
        splits.train, pipeline, size, seed=seed, epoch=epoch, first=first, balanced=balanced, image_size=image_size
    )


def train_step(learner: Learner, batch: Batch, *, with_norms: bool = False) -> StepResult:
    """Steps 3 to 6 on one batch: forward, loss, backward, update.

    With micro-batches, their gradients add up to that of the whole batch (batch norm still sees each apart).
    """
    total_weight = learner.criterion.total_weight(batch.targets)
    loss_sum, num_correct = torch.zeros((), device=learner.device), torch.zeros((), device=learner.device)
    buffers = learner.buffers_to_restore()
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
    norms = StepNorms(learner.model) if with_norms else None
    updated = learner.update(loss_sum)
    if norms:
        norms.weights_moved()
    if buffers and not updated:
        restore_buffers(learner.model, buffers)
    return StepResult(loss_sum, total_weight, num_correct, updated, norms)
