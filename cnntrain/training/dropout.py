"""Dropout where a batch is spread over several processes: each drops what one process would drop of its examples."""

import torch
from torch import Tensor, nn

from cnntrain.models.general import Dropout
from cnntrain.training.cutting import Portion


class Rows:
    """Which examples of a pass are at hand: `own` of `total`; the exchange sets them before each pass."""

    def __init__(self) -> None:
        self.own, self.total = slice(0), 0

    def set(self, portion: Portion) -> None:
        """To those of a portion."""
        start = portion.rows.start - portion.whole.start
        self.own, self.total = slice(start, start + portion.size), portion.whole.stop - portion.whole.start


class SharedDropout(Dropout):
    """Draws for the examples of all processes, as one process would, and takes those at hand.

    Srivastava et al.: "Dropout", JMLR 15, 2014.
    """

    layer: Dropout
    rows: Rows

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: float (N, ...), of which `rows` tells the place among those of all processes."""
        if not self.training or inputs.is_meta:  # without data nothing is dropped
            return inputs
        layout = torch.channels_last if inputs.ndim == 4 and _is_channels_last(inputs) else torch.contiguous_format
        ones = inputs.new_ones(self.rows.total, *inputs.shape[1:]).contiguous(memory_format=layout)
        dropped: Tensor = inputs * self.layer(ones)[self.rows.own]
        return dropped


def share_dropout(network: nn.Module, rows: Rows) -> None:
    """Puts `SharedDropout` in the place of each dropout of a network."""
    for name, module in list(network.named_modules()):
        if isinstance(module, Dropout) and name:
            shared = SharedDropout(module.p)
            shared.__dict__ |= {"layer": module, "rows": rows}  # no part of the network: it has no state
            module.train()
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, shared)


def _is_channels_last(inputs: Tensor) -> bool:
    return inputs.is_contiguous(memory_format=torch.channels_last) and not inputs.is_contiguous()
