import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from cnntrain.config.schema import Model
from cnntrain.errors import ConfigError
from cnntrain.models import build_model, count_parameters
from cnntrain.models.lenet import LeNet5
from cnntrain.models.resnet import ResNet

SMALLEST = {"lenet5": 16, "resnet20": 8, "resnet18": 32, "resnet50": 32}


def build(name: str, channels: int = 3, classes: int = 10, size: int = 32, **options: object) -> nn.Module:
    config = TypeAdapter(Model).validate_python({"name": name, **options})
    return build_model(config, in_channels=channels, num_classes=classes, image_size=size, seed=0)


@pytest.mark.parametrize(
    ("name", "channels", "classes", "size", "parameters"),
    [
        ("lenet5", 1, 10, 32, 61_706),
        ("lenet5", 3, 10, 32, 62_006),
        ("resnet20", 3, 10, 32, 269_722),
        ("resnet32", 3, 10, 32, 464_154),
        ("resnet44", 3, 10, 32, 658_586),
        ("resnet56", 3, 10, 32, 853_018),
        ("resnet110", 3, 10, 32, 1_727_962),
        ("resnet18", 3, 1000, 224, 11_689_512),
        ("resnet34", 3, 1000, 224, 21_797_672),
        ("resnet50", 3, 1000, 224, 25_557_032),
        ("resnet101", 3, 1000, 224, 44_549_160),
        ("resnet152", 3, 1000, 224, 60_192_808),
    ],
)
def test_known_parameter_counts(name: str, channels: int, classes: int, size: int, parameters: int) -> None:
    assert count_parameters(build(name, channels, classes, size)) == parameters


def test_padded_lenet_on_28_px_is_the_32_px_network() -> None:
    assert count_parameters(LeNet5(1, 10, 28, padding=2)) == 61_706


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extra", [0, 1, 13])
def test_output_shape_from_the_smallest_size_up(name: str, channels: int, extra: int) -> None:
    size = SMALLEST[name] + extra
    model = build(name, channels, 7, size).eval()
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", SMALLEST)
def test_too_small_an_image_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=f"at least {SMALLEST[name]} px") as caught:
        build(name, size=SMALLEST[name] - 1)
    assert caught.value.key == "data.image_size"


def test_small_stem_keeps_the_resolution_of_small_images() -> None:
    model = build("resnet18", stem="small").eval()
    assert isinstance(model, ResNet)
    assert model.conv1.stride == (1, 1)
    assert count_parameters(model) == 11_173_962  # 11,689,512 with a 3x3 stem and 10 classes
    assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(("activation", "kind"), [("tanh", nn.Tanh), ("relu", nn.ReLU)])
@pytest.mark.parametrize(("pooling", "pool"), [("average", nn.AvgPool2d), ("max", nn.MaxPool2d)])
def test_lenet_options_are_what_they_say(
    activation: str, kind: type[nn.Module], pooling: str, pool: type[nn.Module]
) -> None:
    model = build("lenet5", 1, activation=activation, pooling=pooling)
    assert sum(isinstance(module, kind) for module in model.modules()) == 4
    assert sum(isinstance(module, pool) for module in model.modules()) == 2


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_imagenet_resnets_equal_torchvisions(depth: int) -> None:
    import torchvision

    theirs = getattr(torchvision.models, f"resnet{depth}")().eval()
    ours = ResNet(depth, 3, 1000, 64).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = build("resnet20").state_dict()
    torch.manual_seed(2)
    second = build("resnet20").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("lenet5")
    assert torch.equal(torch.rand(3), expected)


def test_convolutions_of_resnets_start_with_kaimings_variance() -> None:
    model = build("resnet18", classes=1000, size=64)
    assert isinstance(model, ResNet)
    for module in (model.layer2[1].conv1, model.layer3[0].conv2):
        assert isinstance(module, nn.Conv2d)
        fan_out = module.out_channels * 9
        assert float(module.weight.detach().var()) == pytest.approx(2 / fan_out, rel=0.02)
