"""What all layers of a list share: how they are written, and how they are built one after the other."""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field
from torch import nn

from cnntrain.config.section import Section

MAX_MAPS = 2**24  # of channels and features: what is larger could not be counted by PyTorch

Shape = tuple[int, ...]  # (C, *sides), or (F,) after flatten
Size = Annotated[int, Field(gt=0, le=MAX_MAPS)]


class Arriving(NamedTuple):
    """What a layer is built for.

    Attributes:
        shape: What arrives, without the batch.
        num_outputs: What a linear layer without a size gives.
        key: Where the layer stands in the configuration, for messages.
        at_end: Whether it is the network's last.
    """

    shape: Shape
    num_outputs: int
    key: str
    at_end: bool = True


class Built(NamedTuple):
    """A layer, and the shape that leaves it, without the batch."""

    module: nn.Module
    shape: Shape


class LayerOptions(Section):
    """What every layer has.

    Attributes:
        spoken: How other libraries, and people, call it: word to name; upper and lower case do not matter.
        main_key: The option whose value may be written alone: `dropout: 0.5`.
        spoken_keys: How other libraries call its options.
    """

    spoken: ClassVar[Mapping[str, str]] = {}
    main_key: ClassVar[str | None] = None
    spoken_keys: ClassVar[Mapping[str, str]] = {}

    name: str

    def build(self, arriving: Arriving) -> Built:
        """The layer for what arrives.

        Raises:
            ConfigError: It does not fit what arrives.
        """
        raise NotImplementedError


def build_layers(layers: Sequence[LayerOptions], arriving: Arriving) -> tuple[nn.Sequential, Shape]:
    """Builds the layers of a list one after the other, and says what shape leaves the last.

    Args:
        layers: Their options.
        arriving: What arrives at the first, where the list stands, and whether it ends the network.

    Raises:
        ConfigError: A layer does not fit what arrives.
    """
    built, shape = nn.Sequential(), arriving.shape
    for index, layer in enumerate(layers):
        at_end = arriving.at_end and index == len(layers) - 1
        here = arriving._replace(shape=shape, key=f"{arriving.key}.{index}", at_end=at_end)
        module, shape = layer.build(here)
        if not isinstance(module, nn.Identity):  # that of softmax, which the loss computes
            built.add_module(str(index), module)
    return built, shape


def show(shape: Shape) -> str:
    """(16, 32, 32) -> `32x32x16`, height x width x channels; (10,) -> `10 values`."""
    channels, *sides = shape
    return "x".join(str(side) for side in (*sides, channels)) if sides else f"{channels} values"
