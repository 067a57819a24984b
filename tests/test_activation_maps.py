"""Class-activation maps against captum's."""

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from cnntrain.config.loading import parse_config
from cnntrain.data.inputs import image_inputs
from cnntrain.insight.activation_maps import activation_maps
from cnntrain.models import build_model


# LeNet-5 pools before it activates, so its finest plane is the convolution's own.
@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("lenet5", 28, "features.3"),
        ("resnet20", 32, "layer3"),
        ("resnet18", 224, "layer4"),
        ("resnet18", 64, "layer2"),
        ("alexnet", 64, "features.4"),
    ],
)
def test_maps_are_those_of_captum(name: str, size: int, layer: str) -> None:
    config = parse_config(f"model: {name}\ndata: {{source: digits, image_size: {size}}}\n", "test")
    model = build_model(config.model, image_inputs(3, size), 5).eval()
    images, classes = torch.rand(2, 3, size, size), torch.tensor([0, 4])
    found = activation_maps(model, images, classes)
    chosen = dict(model.named_modules())[layer]
    expected = LayerGradCam(model, chosen).attribute(images, classes, relu_attributions=True)
    torch.testing.assert_close(found.heat, expected.squeeze(1))
    assert min(found.heat.shape[1:]) >= 7
    assert not found.is_coarse


def test_a_network_without_planes_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ValueError, match="keeps the image's plane"):
        activation_maps(model, torch.rand(1, 3, 2, 2), torch.tensor([0]))


def test_without_a_layer_of_7x7_the_map_says_how_coarse_it_is() -> None:
    layers = (nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Flatten())
    model = nn.Sequential(*layers, nn.Linear(16, 2))
    found = activation_maps(model, torch.rand(1, 3, 8, 8), torch.tensor([1]))
    assert found.is_coarse
    assert found.layer == "0"
    assert found.described.startswith("a map of 4 x 4 at 0, so coarse")
