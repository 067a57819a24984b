"""Optimizers, and which parameters decay."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cnntrain.config import schema


def build_optimizer(
    config: schema.Optimizer,
    model: nn.Module,
    stage_of: Mapping[str, str] | None = None,
    lr_factors: Mapping[str, float] | None = None,
) -> Optimizer:
    """The optimizer that a configuration names, over all parameters; those that are frozen have no gradient.

    With `decay_norms_and_biases: false`, parameters of fewer than two dimensions (norms, biases) do not decay.

    Args:
        config: The `recipe.optimizer` section.
        model: A network.
        stage_of: The stage of each parameter, where stages differ; each then has a group of its own, because the
            parameters of a group must begin to train together.
        lr_factors: By what the learning rate of each stage is multiplied.
    """
    grouped: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        decays = parameter.ndim >= 2 or config.decay_norms_and_biases
        grouped.setdefault((stage_of[name] if stage_of else "", decays), []).append(parameter)
    groups = [
        {"params": parameters, "lr": config.lr * (lr_factors or {}).get(stage, 1.0)}
        | ({} if decays else {"weight_decay": 0.0})
        for (stage, decays), parameters in grouped.items()
    ]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in model.parameters())
    match config:
        case schema.Sgd():
            options = config.model_dump(include={"lr", "momentum", "nesterov", "weight_decay"})
            return SGD(groups, fused=fused, **options)
        case schema.Adam():
            return Adam(groups, fused=fused, **config.model_dump(include={"lr", "betas", "eps", "weight_decay"}))
        case schema.Adamw():
            return AdamW(groups, fused=fused, **config.model_dump(include={"lr", "betas", "eps", "weight_decay"}))


_REMEMBERED = {"SGD": {"momentum_buffer"}, "Adam": {"step", "exp_avg", "exp_avg_sq"}}
_REMEMBERED["AdamW"] = _REMEMBERED["Adam"]


def check_state(optimizer: Optimizer, state: Mapping[int, Mapping[str, Any]]) -> None:
    """Compares what a checkpoint says that an optimizer remembers with the parameters that it is for.

    Args:
        optimizer: The optimizer.
        state: By the number of the parameter, counted through all groups.

    Raises:
        ValueError: Something is missing, one too much, of another shape or type, or not finite.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    for number, values in state.items():
        if number >= len(parameters):
            raise ValueError(f"optimizer.state.{number}: there are {len(parameters)} parameters")
        names = sorted(_REMEMBERED[type(optimizer).__name__])
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
