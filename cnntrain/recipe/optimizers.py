"""Optimizers, and which parameters decay."""

from collections.abc import Mapping

import torch
from torch import nn
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
