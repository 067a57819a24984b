"""The networks, and the one place where a name becomes a network."""

from torch import nn

from cnntrain.config import schema
from cnntrain.models.lenet import LeNet5
from cnntrain.models.resnet import ResNet
from cnntrain.models.resnet_cifar import CifarResNet
from cnntrain.runtime.seeds import torch_seeded


def build_model(
    config: schema.Model, *, in_channels: int, num_classes: int, image_size: int, seed: int = 0
) -> nn.Module:
    """The network that a configuration names, with initial weights drawn from `seed`.

    Raises:
        ConfigError: The images are too small for the network.
    """
    with torch_seeded("initial weights", seed):
        match config:
            case schema.Lenet5():
                options = config.model_dump(include={"activation", "pooling", "padding"})
                return LeNet5(in_channels, num_classes, image_size, **options)
            case schema.CifarResnet():
                return CifarResNet(_depth(config.name), in_channels, num_classes, image_size)
            case schema.Resnet():
                return ResNet(_depth(config.name), in_channels, num_classes, image_size, stem=config.stem)


def count_parameters(model: nn.Module) -> int:
    """How many trainable numbers a network has."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _depth(name: str) -> int:
    return int(name.removeprefix("resnet"))
