"""Averages of the weights over training."""

import copy
from typing import Literal

import torch
from torch import nn

from cnntrain.config.section import ProperFraction, Section


class Ema(Section):
    """Exponential moving average of the weights; the average is what is validated, tested and kept."""

    name: Literal["ema"] = "ema"
    decay: ProperFraction = 0.999

    def build(self, network: nn.Module) -> "WeightAverage":
        """The average of this network's weights."""
        return WeightAverage(network, self.decay)


class WeightAverage:
    """Exponential moving average of weights and buffers.

    average <- decay average + (1 - decay) weights, after every step. Early on the decay is
    (1 + step) / (10 + step) where that is smaller, so that the initial weights are soon forgotten
    (as in tf.train.ExponentialMovingAverage).

    Attributes:
        network: A copy of the network that holds the averages; it is what is validated and kept.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes in the weights after `step` updates."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        averages, values = self.network.state_dict(), network.state_dict()
        floating = [name for name, value in values.items() if value.is_floating_point()]
        torch._foreach_lerp_([averages[name] for name in floating], [values[name] for name in floating], weight)
        for name in values.keys() - floating:  # batch norm's step counter
            averages[name].copy_(values[name])
