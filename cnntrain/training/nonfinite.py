"""What is done when a loss or a gradient is infinite or not a number, and where that came from."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.data.batches import Batch
from cnntrain.errors import NumericalError
from cnntrain.runtime.device import autocast
from cnntrain.training.cutting import cut_up
from cnntrain.training.events import EpochDone, Event, StepDone
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState

MAX_IN_A_ROW = 10
ADVICE = "try a lower recipe.optimizer.lr, a warm-up, recipe.clip_grad_norm: 1.0 or recipe.precision: float32"


class NonfiniteStep(NumericalError):
    """A step that is to be left out when those since the last checkpoint are taken again.

    Attributes:
        step: From 0.
    """

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


def clip_gradients(state: TrainingState, settings: Settings, loss_sum: Tensor) -> bool:
    """Clips the gradients, if that was asked for; False where loss or gradients are infinite or not a number.

    To look costs the host of a GPU a wait, so with `on_nonfinite: stop` that is left there to who reads the loss.
    Under float16 the scaler looks after the gradients.
    """
    looks = settings.on_nonfinite != "stop" or settings.device.type == "cpu"
    if not looks and not settings.clip_grad_norm:
        return True
    norm = _clipped_norm(state.optimizer, settings.clip_grad_norm)
    watched = loss_sum if state.scaler.is_enabled() else loss_sum + norm
    return not looks or math.isfinite(float(watched))


def _clipped_norm(optimizer: torch.optim.Optimizer, max_norm: float | None) -> Tensor:
    """A scalar that is finite where all gradients are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not max_norm:
        return torch.stack(torch._foreach_norm(gradients)).sum()  # half the time of the Euclidean norm of all
    norm = nn.utils.get_total_norm(gradients)
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return norm


def reason_to_leave_out(state: TrainingState, batch: Batch, settings: Settings) -> str:
    """Why a step that was computed is not taken, in words, where the recipe leaves such steps out.

    Raises:
        NonfiniteStep: The recipe wants to go back.
        NumericalError: The recipe stops at such steps, or leaves them out and too many came in a row.
    """
    reason = (
        f"the loss or a gradient of step {state.step} is not finite (epoch {state.epoch}, "
        f"learning rate {state.learning_rate:.3g}); {describe_nonfinite(state, batch, settings)}"
    )
    if settings.on_nonfinite == "rollback":
        raise NonfiniteStep(reason, state.step)
    if settings.on_nonfinite == "stop":
        raise NumericalError(f"{reason}; {ADVICE}; or recipe.on_nonfinite: skip or rollback")
    if state.nonfinite_in_a_row >= MAX_IN_A_ROW:
        raise NumericalError(f"{reason}; so were {MAX_IN_A_ROW} steps before; {ADVICE}")
    return reason


def describe_nonfinite(state: TrainingState, batch: Batch, settings: Settings) -> str:
    """The first layer whose weights, output or gradient is not finite, when a step was computed and not yet taken."""
    if settings.processes.any(not is_finite(batch.images)):
        return "the images themselves are not finite"
    layer = _first(state.network.named_parameters())
    if layer:
        return f"the first layer concerned is {layer}: its weights are not finite"
    layer = _first_output(state, batch, settings)
    if layer:
        return f"the first layer concerned is {layer}: its output is not finite"
    gradients = [(name, parameter.grad) for name, parameter in state.network.named_parameters()]
    layer = _first([(name, gradient) for name, gradient in reversed(gradients) if gradient is not None])
    return f"the first layer concerned is {layer}: its gradient is not finite" if layer else "all layers are finite"


def check_event(event: Event, network: nn.Module) -> None:
    """Stops before anything that went wrong is kept.

    Raises:
        NumericalError: A loss that is known by now is infinite or not a number.
    """
    match event:
        case StepDone(norms=norms) if norms:
            loss, what = event.loss, f"training loss in epoch {event.epoch}"
            _check_loss(loss, what, event.step, event.learning_rate, network)
        case EpochDone(val=val) if val:
            loss, what = val["loss"], f"validation loss after epoch {event.epoch}"
            _check_loss(loss, what, event.step, event.learning_rate, network)


def check_epoch(state: TrainingState) -> None:
    """Waits for the device, and stops before an epoch of training that went wrong is validated.

    Raises:
        NumericalError: Its loss is infinite or not a number.
    """
    if state.sums.num_images:  # else every step was left out
        loss, what = state.sums.figures().loss, f"training loss in epoch {state.epoch}"
        _check_loss(loss, what, state.step, state.last_learning_rate, state.network)


def _check_loss(loss: float, what: str, step: int, learning_rate: float, network: nn.Module) -> None:
    if not math.isfinite(loss):
        layer = _first(network.state_dict().items())
        where = f"; the first layer whose weights are not finite is {layer}" if layer else ""
        at = f"step {step}, learning rate {learning_rate:.3g}"
        raise NumericalError(f"the {what} is {loss} ({at}){where}; {ADVICE}")


def check_weights(state: TrainingState) -> None:
    """Looks at the weights before they are saved; the host waits for the device.

    Raises:
        NumericalError: They are not finite.
    """
    layer = _first(state.network.state_dict().items())
    if layer:
        raise NumericalError(
            f"the weights of {layer} are not finite (step {state.step}, learning rate "
            f"{state.last_learning_rate:.3g}), and not saved; {ADVICE}"
        )


def is_finite(values: Tensor) -> bool:
    """Whether all are; the host waits for the device."""
    return bool(torch.isfinite(values).all())


def _first(named: Iterable[tuple[str, Tensor]]) -> str:
    return next((name.rpartition(".")[0] for name, values in named if not is_finite(values)), "")


def _first_output(state: TrainingState, batch: Batch, settings: Settings) -> str:
    layers: list[str] = []

    def watch(name: str) -> Any:
        def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not is_finite(output):
                layers.append(name)

        return look

    leaves = [(name, module) for name, module in state.network.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    buffers = [buffer.clone() for buffer in state.network.buffers()]
    try:
        with torch.no_grad(), settings.seeded_dropout(state.step), autocast(settings.precision, settings.device):
            portions = settings.portions(settings.num_images_of(batch, state.step))
            for portion, some in zip(portions, cut_up(batch, portions), strict=True):
                state.exchange.at(portion)
                state.network(some.images)
    finally:
        for handle in handles:
            handle.remove()
        restore_buffers(state.network, buffers)
    everywhere = [layer for own in settings.processes.gather(layers[:1]) for layer in own]
    return min(everywhere, key=[name for name, _ in leaves].index, default="")


@torch.no_grad()
def restore_buffers(network: nn.Module, buffers: list[Tensor]) -> None:
    """Puts back what `[buffer.clone() for buffer in network.buffers()]` held, if it was made.

    Batch norm's running mean and variance are such buffers.
    """
    for buffer, before in zip(network.buffers(), buffers, strict=bool(buffers)):
        buffer.copy_(before)
