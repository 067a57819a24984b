"""The networks, and the one place where a name becomes a network."""

import torch
from torch import nn

from cnntrain.config import schema
from cnntrain.data.inputs import Inputs
from cnntrain.errors import ConfigError
from cnntrain.models.alexnet import AlexNet
from cnntrain.models.googlenet import GoogLeNet
from cnntrain.models.initialise import initialise
from cnntrain.models.lenet import LeNet5
from cnntrain.models.lenet_original import LeNet5Original
from cnntrain.models.resnet import ResNet
from cnntrain.models.resnet9 import ResNet9
from cnntrain.models.resnet_cifar import CifarResNet
from cnntrain.models.sequential import SequentialNet
from cnntrain.runtime.seeds import torch_seeded


def build_model(config: schema.Model, inputs: Inputs, num_outputs: int, *, seed: int = 0) -> nn.Module:
    """Builds the network that a configuration names, with initial weights drawn from `seed`.

    Args:
        config: Its name and options.
        inputs: What arrives.
        num_outputs: Values that it gives for each example: one for each class.
        seed: Of the weights.

    Raises:
        ConfigError: The network does not take such inputs, or its layers do not fit together.
    """
    with torch_seeded("initial weights", seed):
        model = _build(config, inputs, num_outputs)
        if config.init == "paper":
            if not hasattr(model, "paper_init"):
                raise ConfigError(f"{config.name} has no paper that says how its weights start", key="model.init")
            model.paper_init()  # type: ignore[operator]
        elif config.init != "default":
            initialise(model, config.init)
    return model


def build_outline(config: schema.Model, inputs: Inputs, num_outputs: int) -> nn.Module:
    """Builds the network with shapes but no values (torch's meta device), which takes no time and no memory.

    Raises:
        ConfigError: As `build_model`.
    """
    with torch.device("meta"):
        return build_model(config, inputs, num_outputs)


def _build(config: schema.Model, inputs: Inputs, num_outputs: int) -> nn.Module:
    shape = (inputs.channels, num_outputs, inputs.size[0])
    options = config.model_dump(exclude={"name", "init", "weights", "freeze"})
    depth = int(config.name.removeprefix("resnet")) if isinstance(config, schema.CifarResnet | schema.Resnet) else 0
    match config:
        case schema.Lenet5(variant="original"):
            return LeNet5Original(*shape, padding=config.padding)
        case schema.Lenet5():
            return LeNet5(*shape, activation=config.activation, pooling=config.pooling, padding=config.padding)
        case schema.Alexnet():
            return AlexNet(*shape, **options)
        case schema.Googlenet():
            return GoogLeNet(*shape, **options)
        case schema.CifarResnet():
            return CifarResNet(depth, *shape, **options)
        case schema.Resnet():
            return ResNet(depth, *shape, **options)
        case schema.Resnet9():
            return ResNet9(*shape, **options)
        case schema.Sequential():
            return SequentialNet(*shape, **options)


def torchvision_name(config: schema.Model) -> str | None:
    """What torchvision calls this very network, whose published weights fit; None where it has none like it."""
    match config:
        case schema.Alexnet(variant="torchvision") | schema.Googlenet(variant="torchvision"):
            return config.name
        case schema.Resnet(stem="imagenet", stride_placement="v1.5", shortcut="projection", preactivation=False):
            return config.name
    return None


def count_parameters(model: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(parameter.numel() for parameter in model.parameters())
