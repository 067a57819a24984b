"""Networks written out layer by layer, with residual and parallel blocks.

Channels and features that arrive are inferred, and a layer that does not fit what arrives is named.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.errors import ConfigError
from cnntrain.models.general import BatchNorm
from cnntrain.models.layers import Layers
from cnntrain.models.layers.base import Arriving, LayerOptions, build_layers, show
from cnntrain.models.options import NetworkOptions


class Sequential(NetworkOptions):
    """Layers, one after the other, as written; channels and features that arrive are inferred."""

    name: Literal["sequential"] = "sequential"
    layers: Layers

    def build(self, inputs: Inputs, num_outputs: int) -> nn.Module:
        return SequentialNet(inputs, num_outputs, layers=self.layers)


class SequentialNet(nn.Module):
    """Layers as listed.

    Args:
        inputs: Of a kind and size that the layers take.
        num_outputs: Size of the output.
        layers: The options of each layer.

    Raises:
        ConfigError: A layer does not fit what arrives, or the last does not give a value for each class.
    """

    def __init__(self, inputs: Inputs, num_outputs: int, *, layers: Sequence[LayerOptions]) -> None:
        super().__init__()
        self.layers, shape = build_layers(layers, Arriving(inputs.shape, num_outputs, "model.layers"))
        if shape != (num_outputs,):
            raise ConfigError(
                f"the network ends with {show(shape)}, and needs {num_outputs}, one for each class; let it end with "
                f"{'flatten and ' if len(shape) > 1 else ''}linear (out_features: null is one per class)",
                key=f"model.layers.{len(layers) - 1}",
            )
        self.stages = _stages(self.layers)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs float32 (N, C, *size), normalised -> logits (N, num_outputs)."""
        logits: Tensor = self.layers(inputs)
        return logits


def _stages(layers: nn.Sequential) -> dict[str, tuple[str, ...]]:
    """A stage for each layer that learns, called by its number in the list; a batch norm belongs to what it follows."""
    listed: dict[str, tuple[str, ...]] = {}
    for name, layer in layers.named_children():
        if not any(True for _ in layer.parameters()):
            continue
        if isinstance(layer, BatchNorm) and listed:
            last = next(reversed(listed))
            listed[last] = (*listed[last], f"layers.{name}")
        else:
            listed[name] = (f"layers.{name}",)
    if not listed:
        return {"head": ()}
    *body, (_, head) = listed.items()
    return dict(body) | {"head": head}
