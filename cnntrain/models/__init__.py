"""The networks: a file for each, with its options beside it, and the table from which a name becomes a network."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from cnntrain.config.shorthand import Shorthand, choice_of
from cnntrain.data.inputs import Inputs
from cnntrain.errors import ConfigError
from cnntrain.models.alexnet import Alexnet
from cnntrain.models.googlenet import Googlenet
from cnntrain.models.initialise import initialise
from cnntrain.models.lenet import Lenet5
from cnntrain.models.options import Entry, NetworkOptions
from cnntrain.models.resnet import Resnet
from cnntrain.models.resnet9 import Resnet9
from cnntrain.models.resnet_cifar import CifarResnet
from cnntrain.models.sequential import Sequential
from cnntrain.runtime.seeds import torch_seeded

NETWORKS: tuple[type[NetworkOptions], ...] = (Lenet5, Alexnet, Googlenet, CifarResnet, Resnet, Resnet9, Sequential)
CATALOGUE: tuple[Entry, ...] = tuple(entry for network in NETWORKS for entry in network.usual)

if TYPE_CHECKING:
    Model = NetworkOptions
else:
    Model = choice_of(NETWORKS, Shorthand())


def build_model(options: NetworkOptions, inputs: Inputs, num_outputs: int, *, seed: int = 0) -> nn.Module:
    """Builds a network, with initial weights drawn from a seed.

    Args:
        options: Its name and options.
        inputs: What arrives.
        num_outputs: Values that it gives for each example: one for each class.
        seed: Of the weights.

    Raises:
        ConfigError: The network does not take such inputs, or its layers do not fit together.
    """
    with torch_seeded("initial weights", seed):
        model = options.build(inputs, num_outputs)
        if options.init == "paper":
            if not hasattr(model, "paper_init"):
                raise ConfigError(f"{options.name} has no paper that says how its weights start", key="model.init")
            model.paper_init()  # type: ignore[operator]
        elif options.init != "default":
            initialise(model, options.init)
    return model


def build_outline(options: NetworkOptions, inputs: Inputs, num_outputs: int) -> nn.Module:
    """Builds a network with shapes but no values (torch's meta device), which takes no time and no memory.

    Raises:
        ConfigError: As `build_model`.
    """
    with torch.device("meta"):
        return build_model(options, inputs, num_outputs)


def count_parameters(model: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in model.parameters())
