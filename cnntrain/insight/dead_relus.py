"""ReLUs that are silent whatever the network sees."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.data.batches import Batch
from cnntrain.data.split import Split

NUM_IMAGES = 256  # that are looked at


def is_looked_at(epoch: int, *, is_last: bool) -> bool:
    """Whether ReLUs are looked at after an epoch: after 1, 2, 4, 8, ... and the last one."""
    return is_last or epoch.bit_count() == 1


def spread(split: Split) -> Split:
    """`NUM_IMAGES` images spread over a split; all where there are fewer."""
    return split.subset(torch.linspace(0, len(split) - 1, min(NUM_IMAGES, len(split))).round().long())


@torch.inference_mode()
def dead_relus(network: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Of each ReLU the share of units, in [0, 1], that are 0 at every place of every image.

    A unit is a channel of a convolution or a feature of a linear layer. While it is 0 it gets no gradient, so it hardly
    ever comes back (Lu et al.: "Dying ReLU and initialization", arXiv:1903.06733).

    Args:
        network: On the device of the batches; left in evaluation mode.
        batches: Of images to look at, such as the batches of `spread(split)`.

    Returns:
        By the name of the layer that the ReLU follows, the last one with parameters; where another ReLU has followed
        it already, by the ReLU's own.

    Raises:
        DataError: A streamed image cannot be read.
    """
    network.eval()
    largest: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        watch = _Watch(network, hooks)
        for images, _ in batches:
            watch.largest = {}
            network(images)
            largest = {name: torch.maximum(largest.get(name, values), values) for name, values in watch.largest.items()}
    return {name: float((values <= 0).float().mean()) for name, values in largest.items()}


class _Watch:
    """Notes the largest output of each unit of each ReLU in a pass, float (units,), in `largest`."""

    def __init__(self, model: nn.Module, hooks: ExitStack) -> None:
        self.largest: dict[str, Tensor] = {}
        self._layer = ""
        for name, module in model.named_modules():
            has_parameters = any(True for _ in module.parameters(recurse=False))
            if isinstance(module, nn.ReLU) or has_parameters:
                note = self._note_layer(name) if has_parameters else self._note_relu(name)
                hooks.callback(module.register_forward_hook(note).remove)

    def _note_layer(self, name: str) -> Any:
        def note(*_: Any) -> None:
            self._layer = name

        return note

    def _note_relu(self, name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            unit = self._layer if self._layer not in self.largest else name
            self.largest[unit] = output.amax([axis for axis in range(output.ndim) if axis != 1])

        return note
