"""Optimizers, and which parameters decay."""

from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from cnntrain.config import schema


def build_optimizer(config: schema.Optimizer, model: nn.Module) -> Optimizer:
    """The optimizer that a configuration names, over all trainable parameters.

    With `decay_norms_and_biases: false`, parameters of fewer than two dimensions (norms, biases) do not decay.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 or config.decay_norms_and_biases]
    undecayed = [p for p in parameters if p.ndim < 2 and not config.decay_norms_and_biases]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": undecayed, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.dtype == torch.float32 for p in parameters)
    match config:
        case schema.Sgd():
            options = config.model_dump(include={"lr", "momentum", "nesterov", "weight_decay"})
            return SGD(groups, fused=fused, **options)
        case schema.Adam():
            return Adam(groups, fused=fused, **config.model_dump(include={"lr", "betas", "eps", "weight_decay"}))
        case schema.Adamw():
            return AdamW(groups, fused=fused, **config.model_dump(include={"lr", "betas", "eps", "weight_decay"}))
