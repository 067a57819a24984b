"""Optimizers: their options, what each builds, and which parameters decay."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor, nn, optim

from cnntrain.config.section import Betas, Section
from cnntrain.config.shorthand import Shorthand, choice_of

Groups = list[dict[str, Any]]  # as `torch.optim` takes them


class OptimizerOptions(Section):
    """What every optimizer has."""

    name: str
    lr: PositiveFloat
    if TYPE_CHECKING:  # the last key of each, where a configuration is written out
        decay_norms_and_biases: bool

    def build(self, groups: Groups, *, fused: bool) -> optim.Optimizer:
        """The optimizer over groups of parameters, each with its own rate."""
        raise NotImplementedError


class Sgd(OptimizerOptions):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 5e-4
    decay_norms_and_biases: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self

    def build(self, groups: Groups, *, fused: bool) -> optim.Optimizer:
        """`torch.optim.SGD`."""
        options = self.model_dump(include={"lr", "momentum", "nesterov", "weight_decay"})
        return optim.SGD(groups, fused=fused, **options)


class AdamOptions(OptimizerOptions):
    """What both forms of Adam have."""

    lr: PositiveFloat = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat
    decay_norms_and_biases: bool = True


class Adam(AdamOptions):
    """Adam (Kingma and Ba 2014); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    weight_decay: NonNegativeFloat = 0.0

    def build(self, groups: Groups, *, fused: bool) -> optim.Optimizer:
        """`torch.optim.Adam`."""
        return optim.Adam(groups, fused=fused, **self.model_dump(include={"lr", "betas", "eps", "weight_decay"}))


class Adamw(AdamOptions):
    """AdamW (Loshchilov and Hutter 2017): weight decay apart from the gradient."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01

    def build(self, groups: Groups, *, fused: bool) -> optim.Optimizer:
        """`torch.optim.AdamW`."""
        return optim.AdamW(groups, fused=fused, **self.model_dump(include={"lr", "betas", "eps", "weight_decay"}))


OPTIMIZERS = (Sgd, Adam, Adamw)
if TYPE_CHECKING:
    Optimizer = OptimizerOptions
else:
    Optimizer = choice_of(OPTIMIZERS, Shorthand(default="sgd"))

# What each remembers of a parameter: so many more tensors of its shape, and what a checkpoint must hold.
REMEMBERED = {
    "SGD": {"momentum_buffer"},
    "Adam": {"step", "exp_avg", "exp_avg_sq"},
    "AdamW": {"step", "exp_avg", "exp_avg_sq"},
}


def build_optimizer(
    options: OptimizerOptions,
    model: nn.Module,
    stage_of: Mapping[str, str] | None = None,
    lr_factors: Mapping[str, float] | None = None,
) -> optim.Optimizer:
    """The optimizer that the options name, over all parameters; those that are frozen have no gradient.

    With `decay_norms_and_biases: false`, parameters of fewer than two dimensions (norms, biases) do not decay.

    Args:
        options: The `recipe.optimizer` section.
        model: A network.
        stage_of: The stage of each parameter, where stages differ; each then has a group of its own, because the
            parameters of a group must begin to train together.
        lr_factors: By what the learning rate of each stage is multiplied.
    """
    grouped: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 or options.decay_norms_and_biases
        grouped.setdefault((stage_of[name] if stage_of else "", decays), []).append(parameter)
    groups = [
        {"params": parameters, "lr": options.lr * (lr_factors or {}).get(stage, 1.0)}
        | ({} if decays else {"weight_decay": 0.0})
        for (stage, decays), parameters in grouped.items()
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in model.parameters())
    return options.build(groups, fused=fused)


def begin_momentum(optimizer: optim.Optimizer) -> None:
    """Gives what the next update moves for the first time a momentum of zero, before it is looked at.

    PyTorch's fused SGD takes memory as it finds it for that, which it fills only where the scaler does not leave the
    update out (`found_inf`): the one after it would move the weights anywhere.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group.get("momentum") else []:
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def load_optimizer(optimizer: optim.Optimizer, name: str, saved: Mapping[str, Any]) -> None:
    """Goes on with what an optimizer remembered; rates and other options stay as they are now.

    Where another optimizer, or other groups of parameters, were saved, nothing is remembered.

    Args:
        optimizer: The optimizer.
        name: The class of the one that was saved.
        saved: Its `state_dict`.

    Raises:
        ValueError: What was saved is not of this network, or not finite.
    """
    own = optimizer.state_dict()
    sizes, own_sizes = ([len(group["params"]) for group in state["param_groups"]] for state in (saved, own))
    if name == type(optimizer).__name__ and sizes == own_sizes:
        _check_state(optimizer, saved["state"])
        optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})
    else:
        optimizer.state.clear()


def _check_state(optimizer: optim.Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Compares what a checkpoint says that an optimizer remembers with the parameters that it is for.

    Args:
        optimizer: The optimizer.
        state: By the number of the parameter, counted through all groups.

    Raises:
        ValueError: Something is missing, one too much, of another shape or type, or not finite.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, values in state.items():
        if number >= len(parameters):
            raise ValueError(f"optimizer.state.{number}: there are {len(parameters)} parameters")
        names = sorted(REMEMBERED[type(optimizer).__name__])
        if values and sorted(values) != names:
            raise ValueError(f"optimizer.state.{number}: must hold {names} (got {sorted(values)})")
        for name, value in values.items():
            if value is not None or name != "momentum_buffer":
                shape = () if name == "step" else tuple(parameters[number].shape)
                _check_remembered(f"optimizer.state.{number}.{name}", name, value, shape)
    first = 0
    for group in optimizer.param_groups:  # whose parameters began to train together
        remembered = [state.get(first + index, {}).values() for index in range(len(group["params"]))]
        known = {any(value is not None for value in values) for values in remembered}
        if len(known) > 1:
            raise ValueError(f"optimizer.state: must hold all or none of a group of {len(group['params'])} parameters")
        first += len(group["params"])


def _check_remembered(place: str, name: str, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or tuple(value.shape) != shape:
        raise ValueError(f"{place}: must be a tensor float32 {shape}")
    if value.layout != torch.strided or value.device.type != "cpu" or not torch.isfinite(value).all():
        raise ValueError(f"{place}: must hold finite numbers")
    if name in ("step", "exp_avg_sq") and bool((value < 0).any()):
        raise ValueError(f"{place}: must not be negative")
