"""What is done when a loss or a gradient is infinite or not a number, and where that came from."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.data.batches import Batch, micro_batches
from cnntrain.errors import NumericalError
from cnntrain.learner import Learner
from cnntrain.progress import Progress
from cnntrain.runtime.device import autocast

MAX_IN_A_ROW = 10
ADVICE = "try a lower recipe.optimizer.lr, a warm-up, recipe.clip_grad_norm: 1.0 or recipe.precision: float32"


class NonfiniteStep(NumericalError):
    """A step that is to be left out when those since the last checkpoint are done again."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def leave_out(learner: Learner, batch: Batch, progress: Progress, say: Callable[[str], None]) -> None:
    """What `recipe.on_nonfinite` says, after a step that moved nothing.

    Args:
        learner: Is taken to the next step.
        batch: Of the step.
        progress: Counts such steps.
        say: Is told of a step that is left out.

    Raises:
        NonfiniteStep: To roll back.
        NumericalError: To stop; or too many steps in a row were left out.
    """
    reason = (
        f"the loss or a gradient of step {learner.step} is not finite (epoch {progress.epoch}, "
        f"learning rate {learner.learning_rate:.3g}); {describe_nonfinite(learner, batch)}"
    )
    if learner.on_nonfinite == "rollback":
        raise NonfiniteStep(reason, learner.step)
    progress.nonfinite_steps += 1
    progress.nonfinite_in_a_row += 1
    if learner.on_nonfinite == "stop":
        raise NumericalError(f"{reason}; {ADVICE}; or recipe.on_nonfinite: skip or rollback")
    if progress.nonfinite_in_a_row > MAX_IN_A_ROW:
        raise NumericalError(f"{reason}; so were {MAX_IN_A_ROW} steps before; {ADVICE}")
    say(f"     note: {reason}; it is left out")
    learner.advance()


def describe_nonfinite(learner: Learner, batch: Batch) -> str:
    """The first layer whose weights, output or gradient is not finite, when a step was computed and not yet applied."""
    if not is_finite(batch.images):
        return "the images themselves are not finite"
    layer = _first(learner.model.named_parameters())
    if layer:
        return f"the first layer concerned is {layer}: its weights are not finite"
    layer = _first_output(learner, batch)
    if layer:
        return f"the first layer concerned is {layer}: its output is not finite"
    gradients = [(name, parameter.grad) for name, parameter in learner.model.named_parameters()]
    layer = _first([(name, gradient) for name, gradient in reversed(gradients) if gradient is not None])
    return f"the first layer concerned is {layer}: its gradient is not finite" if layer else "all layers are finite"


def check_finite(loss: float, learner: Learner, what: str) -> None:
    """Stops before a checkpoint is spoilt.

    Raises:
        NumericalError: The loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        layer = _first(learner.model.state_dict().items())
        where = f"; the first layer whose weights are not finite is {layer}" if layer else ""
        rate = learner.last_learning_rate
        raise NumericalError(f"the {what} is {loss} (step {learner.step}, learning rate {rate:.3g}){where}; {ADVICE}")


def check_weights(learner: Learner) -> None:
    """Looks at the weights before they are saved.

    Raises:
        NumericalError: They are not finite.
    """
    layer = _first(learner.model.state_dict().items())
    if layer:
        raise NumericalError(
            f"the weights of {layer} are not finite (step {learner.step}, learning rate "
            f"{learner.last_learning_rate:.3g}), and not saved; {ADVICE}"
        )


def has_finite_weights(learner: Learner) -> bool:
    """Whether a checkpoint of this moment could be gone on from; the host waits for the device."""
    return not _first(learner.model.state_dict().items())


def is_finite(values: Tensor) -> bool:
    """Whether all are; the host waits for the device."""
    return bool(torch.isfinite(values).all())


def _first(named: Any) -> str:
    return next((name.rpartition(".")[0] for name, values in named if not is_finite(values)), "")


def _first_output(learner: Learner, batch: Batch) -> str:
    found: list[str] = []

    def watch(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not is_finite(output):
                found.append(name)

        return look

    leaves = [(name, module) for name, module in learner.model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    buffers = [buffer.clone() for buffer in learner.model.buffers()]
    try:
        with torch.no_grad(), learner.seeded_dropout(), autocast(learner.precision, learner.device):
            for part in micro_batches(batch, learner.micro_batch):
                learner.model(part.images)
    finally:
        for handle in handles:
            handle.remove()
        restore_buffers(learner.model, buffers)
    return found[0] if found else ""


@torch.no_grad()
def restore_buffers(model: nn.Module, buffers: list[Tensor]) -> None:
    """Puts back what `[buffer.clone() for buffer in model.buffers()]` held: batch norm's running mean and variance."""
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)
