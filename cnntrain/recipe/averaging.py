"""Averages of the weights over training."""

import copy

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average of weights and buffers.

    average <- decay average + (1 - decay) weights, after every step. Early on the decay is
    (1 + step) / (10 + step) where that is smaller, so that the initial weights are soon forgotten
    (as in tf.train.ExponentialMovingAverage).

    Attributes:
        model: A copy of the network that holds the averages; it is what is validated and kept.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights after `step` updates."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, values = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in values.items() if value.is_floating_point()]
        torch._foreach_lerp_([averages[name] for name in floating], [values[name] for name in floating], weight)
        for name in values.keys() - floating:  # batch norm's step counter
            averages[name].copy_(values[name])
