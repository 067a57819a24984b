"""The training loop: steps 3 to 9 of the textbook's ten. It only learns, and yields what happened.

Saving, logging, bars, signals and the doctor look at the events from outside (see `cnntrain/ten_steps.py`).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from torch import Tensor, nn

from cnntrain.data.batches import Batch, eval_batches, train_batches
from cnntrain.data.splits import Splits
from cnntrain.runtime.device import autocast
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training.cutting import cut_up
from cnntrain.training.events import EpochDone, Event, StepDone
from cnntrain.training.nonfinite import check_epoch, clip_gradients, reason_to_leave_out, restore_buffers
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState
from cnntrain.training.step_norms import StepNorms
from cnntrain.training.sums import timed

Passage = Callable[[Iterable[Batch]], Iterable[Batch]]


def learn(
    state: TrainingState,
    splits: Splits,
    settings: Settings,
    *,
    training: Passage = iter,
    validating: Passage = iter,
) -> Iterator[Event]:
    """Trains from where the state stands to the last epoch, or until early stopping says so.

    Args:
        state: Is changed by every step.
        splits: Trained on and validated on.
        settings: The recipe.
        training: What an epoch's batches pass through on their way, such as a bar.
        validating: The same for those of its validation.

    Yields:
        `StepDone` after each step, `EpochDone` after each epoch.

    Raises:
        DataError: A streamed image cannot be read.
        NonfiniteStep: A loss or gradient is not finite, and the recipe goes back.
        NumericalError: The same, and the recipe stops, or has left out too many such steps.
    """
    # 7 iteration: one look at each image is not enough, for every step is small.
    # 9 termination: what is learnt in the end are the training images by heart; early stopping sees it coming.
    while not state.is_over(settings.epochs):
        epoch, sums = state.epoch, state.sums
        yield from train_epoch(state, splits, settings, training)
        # 8 evaluation: on images that were never trained on, for only these tell what was learnt for good.
        batches = eval_batches(splits.val, splits.preprocessing, settings.eval_batch_size, settings.processes)
        val = {}
        if len(splits.val):
            val = evaluate(state.kept, validating(batches), settings.task, settings.processes).summary()
        improved = state.judge(val)
        yield EpochDone(epoch, state.step, state.last_learning_rate, sums.figures(), val, improved)


def train_epoch(
    state: TrainingState, splits: Splits, settings: Settings, training: Passage = iter
) -> Iterator[StepDone]:
    """One pass over the training images, or what is left of it; the time that it takes is among the epoch's sums.

    Raises:
        DataError: A streamed image cannot be read.
        NumericalError: As `learn`.
    """
    return timed(_steps_of_epoch(state, splits, settings, training), state.sums.add_seconds)


def _steps_of_epoch(state: TrainingState, splits: Splits, settings: Settings, training: Passage) -> Iterator[StepDone]:
    begin_epoch(state.network, settings, state.epoch)
    batches = epoch_batches(splits, settings, state.epoch, first=state.position(settings.steps_per_epoch))
    for batch in training(timed(batches, state.sums.add_data_seconds)):
        yield train_step(state, batch, settings, measured=settings.is_measured(state.step))
    check_epoch(state)


def begin_epoch(network: nn.Module, settings: Settings, epoch: int) -> None:
    """Puts the network into training mode, save for what is frozen in this epoch (from 1)."""
    network.train()
    settings.freezing.apply(epoch)


def epoch_batches(splits: Splits, settings: Settings, epoch: int, *, first: int = 0) -> Iterator[Batch]:
    """The batches of an epoch (from 1) as the recipe wants them, without the `first` ones; see `train_batches`."""
    return train_batches(
        splits.train,
        settings.pipeline,
        settings.batch_size,
        seed=settings.seed,
        epoch=epoch,
        first=first,
        balanced=settings.balanced,
        image_size=settings.training_size(epoch),
        rows_of=settings.rows,
    )


def train_step(state: TrainingState, batch: Batch, settings: Settings, *, measured: bool = False) -> StepDone:
    """Steps 3 to 6 on one batch: forward, loss, backward, update.

    With micro-batches, their gradients add up to that of the whole batch (batch norm still sees each apart).

    Args:
        state: Is taken to the next step.
        batch: On the state's device.
        settings: The recipe.
        measured: Whether the norms of gradients, weights and update are wanted.

    Raises:
        NumericalError: As `learn`.
    """
    done = StepDone(state.step + 1, state.epoch, state.learning_rate, batch, state.sums)
    if state.step in state.left_out:
        state.advance()
        return done
    num_images, exchange = settings.num_images_of(batch, state.step), state.exchange
    portions = settings.portions(num_images)
    passes = cut_up(batch, portions)
    total_weight = exchange.weight(settings.criterion, [targets for _, targets in passes], num_images)
    losses, correct = list[Tensor](), list[Tensor]()
    buffers = [buffer.clone() for buffer in state.network.buffers()] if settings.on_nonfinite == "skip" else []
    with settings.seeded_dropout(state.step):
        for portion, (images, targets) in zip(portions, passes, strict=True):
            with exchange.around(portion, is_last=portion is portions[-1], keys=(settings.seed, state.step)):
                # 3 forward: from images to logits, in the precision that is fast on this device.
                with autocast(settings.precision, settings.device):
                    outputs = state.forward(images)
                # 4 loss: one number says how wrong the logits are; in float32, for small differences count.
                loss, reported, logits = settings.task.training_loss(settings.criterion, outputs, targets)
                # 5 backward: the gradient says how each weight moves that number; those of all portions add up.
                state.scaler.scale(loss / total_weight).backward()  # type: ignore[no-untyped-call]
            losses.append(reported)
            correct.append(settings.task.num_correct(logits, targets))
    exchange.finish()
    loss_sum, num_correct = exchange.sums(losses, correct)
    # 6 update: a small step against the gradient, unless there is none that makes sense.
    state.scaler.unscale_(state.optimizer)
    norms = StepNorms(state.network) if measured else None
    done = replace(done, num_images=num_images, loss_sum=loss_sum, total_weight=total_weight)
    if not clip_gradients(state, settings, loss_sum):
        restore_buffers(state.network, buffers)
        done = replace(done, reason=reason_to_leave_out(state, batch, settings))
        state.leave_out()
        return done
    state.update()
    if norms:
        norms.weights_moved()
    state.count(loss_sum, total_weight, num_correct, num_images)
    return replace(done, updated=True, norms=norms)
