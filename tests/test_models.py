import hashlib
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.errors import ConfigError
from cnntrain.models import CATALOGUE, Model, build_model, build_outline, count_parameters
from cnntrain.models.alexnet import LocalResponseNorm
from cnntrain.models.googlenet import GoogLeNet
from cnntrain.models.lenet import Lenet5
from cnntrain.models.lenet_original import ClassCodes, LeNet5Original, ScaledTanh, class_codes
from cnntrain.models.options import Entry, WithAuxiliary
from cnntrain.models.residual import PaddingShortcut
from cnntrain.models.resnet import ResNet

SMALLEST = {"lenet5": 16, "resnet20": 8, "resnet18": 32, "resnet50": 32}


def build(name: str, channels: int = 3, classes: int = 10, size: int = 32, **options: object) -> nn.Module:
    config = TypeAdapter(Model).validate_python({"name": name, **options})
    return build_model(config, image_inputs(channels, size), classes, seed=0)


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
    assert count_parameters(Lenet5(padding=2).build(image_inputs(1, 28), 10)) == 61_706


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


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build("lenet5")
    assert torch.equal(torch.rand(3), expected)


def test_the_original_lenet_connects_c3_by_the_papers_table() -> None:
    layer = LeNet5Original(image_inputs(1, 32), 10, padding=0).c3
    table = torch.zeros(16 * 6, dtype=torch.bool).index_fill(0, layer.places, True).view(16, 6)
    assert table.sum(1).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table[:3].nonzero()[:, 1].tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4]
    # The same as sixteen convolutions, each over the maps that it is connected to.
    maps = torch.randn(2, 6, 14, 14)
    start, expected = 0, []
    for connected, bias in zip(table, layer.bias, strict=True):
        kernels = layer.weight[start : start + int(connected.sum())]
        expected.append(nn.functional.conv2d(maps[:, connected], kernels[None], bias[None]))
        start += len(kernels)
    torch.testing.assert_close(layer(maps), torch.cat(expected, 1), rtol=1e-5, atol=1e-5)


def test_the_original_lenet_measures_distances_to_class_codes() -> None:
    codes = class_codes(10)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    assert len(codes.unique(dim=0)) == 10
    layer = ClassCodes(codes)
    x = torch.randn(5, 84)
    torch.testing.assert_close(layer(x), -torch.cdist(x, codes).square(), rtol=1e-4, atol=1e-4)
    assert layer(codes).argmax(1).tolist() == list(range(10))
    assert class_codes(3).shape == (3, 84)
    assert torch.equal(class_codes(3), class_codes(3))


def test_scaled_tanh_keeps_plus_and_minus_one() -> None:
    torch.testing.assert_close(
        ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0.0, 1.0]), rtol=0, atol=1e-4
    )


def test_alexnets_response_norm_is_the_papers_formula() -> None:
    x = torch.rand(1, 9, 2, 2) * 50
    squares = nn.functional.pad(x.square(), (0, 0, 0, 0, 2, 2))
    sums = sum(squares[:, shift : shift + 9] for shift in range(5))
    torch.testing.assert_close(LocalResponseNorm()(x), x / (2 + 1e-4 * sums) ** 0.75)


@pytest.mark.parametrize(("variant", "kernel"), [("paper", 5), ("small", 5), ("torchvision", 3)])
def test_googlenets_third_branch_is_5x5_except_in_torchvision(variant: str, kernel: int) -> None:
    model = build("googlenet", variant=variant)
    assert isinstance(model, GoogLeNet)
    convolution = model.inception4c.branch3.get_submodule("1.conv")
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.kernel_size == (kernel, kernel)


def test_googlenets_paper_variant_pools_its_auxiliaries_as_published_at_224_px() -> None:
    model = build("googlenet", variant="paper", size=224)
    assert isinstance(model, GoogLeNet)
    assert model.aux1 is not None
    assert isinstance(model.aux1.pool, nn.AvgPool2d)
    assert model.aux1.pool(torch.zeros(1, 1, 14, 14)).shape == (1, 1, 4, 4)


def test_auxiliary_classifiers_vanish_at_evaluation() -> None:
    model = build("googlenet", variant="small")
    images = torch.randn(4, 3, 32, 32)
    trained = model.train()(images)
    assert isinstance(trained, WithAuxiliary)
    assert [tuple(logits.shape) for logits in (trained.logits, *trained.auxiliary)] == [(4, 10)] * 3
    assert isinstance(model.eval()(images), torch.Tensor)
    assert isinstance(build("googlenet", auxiliary=False).train()(images), torch.Tensor)


@pytest.mark.parametrize(("placement", "strides"), [("v1", (2, 1)), ("v1.5", (1, 2))])
def test_bottlenecks_halve_where_they_are_told(placement: str, strides: tuple[int, int]) -> None:
    for preactivation in (False, True):
        block = build("resnet50", stride_placement=placement, preactivation=preactivation).get_submodule("layer2.0")
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides  # type: ignore[union-attr,index]


@pytest.mark.parametrize("name", ["resnet20", "resnet18", "resnet50"])
@pytest.mark.parametrize("preactivation", [False, True])
def test_shortcuts_are_projections_or_padding(name: str, preactivation: bool) -> None:
    plain = build(name, shortcut="padding", preactivation=preactivation)
    projected = build(name, shortcut="projection", preactivation=preactivation)
    assert count_parameters(plain) < count_parameters(projected)
    assert not any("downsample" in key for key, _ in plain.named_parameters())
    shortcut = PaddingShortcut(4, 2)(torch.ones(1, 3, 6, 6))
    assert shortcut.shape == (1, 7, 3, 3)
    assert shortcut.sum((0, 2, 3)).tolist() == [0, 0, 9, 9, 9, 0, 0]


def test_preactivation_puts_norm_and_relu_first() -> None:
    block = build("resnet20", preactivation=True).get_submodule("layer2.1").eval()
    x = torch.randn(2, 32, 8, 8)
    relu = nn.functional.relu
    expected = x + block.conv2(relu(block.bn2(block.conv1(relu(block.bn1(x))))))  # type: ignore[operator]
    torch.testing.assert_close(block(x), expected)


def test_preactivation_parts_the_ways_after_the_first_activation() -> None:
    relu = nn.functional.relu
    model = build("resnet50", shortcut="projection", preactivation=True)
    block = model.get_submodule("layer2.0").eval()
    x = torch.randn(2, 256, 8, 8)
    activated = relu(block.bn1(x))  # type: ignore[operator]
    out = block.conv2(relu(block.bn2(block.conv1(activated))))  # type: ignore[operator]
    expected = block.downsample(activated) + block.conv3(relu(block.bn3(out)))  # type: ignore[operator]
    torch.testing.assert_close(block(x), expected)
    assert isinstance(model.get_submodule("layer1.0.bn1"), nn.Identity)  # it stands in the stem
    assert count_parameters(build("resnet20", preactivation=True)) == 269_722


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_zero_init_zeroes_the_last_norm_of_each_block(name: str) -> None:
    norms = dict(build(name, zero_init=True).named_parameters())
    last = "bn2" if name == "resnet20" else "bn3"
    for key, parameter in norms.items():
        if key.endswith("weight") and ".bn" in key:
            assert bool(parameter.any()) == (last not in key), key


def test_dropout_is_as_strong_as_published() -> None:
    def probabilities(name: str, **options: Any) -> list[float]:
        return [module.p for module in build(name, size=64, **options).modules() if isinstance(module, nn.Dropout)]

    assert probabilities("alexnet", variant="paper") == [0.5, 0.5]
    assert probabilities("googlenet", variant="paper") == [0.7, 0.7, 0.4]
    assert probabilities("googlenet", variant="torchvision") == [0.7, 0.7, 0.2]


def test_class_codes_never_change() -> None:
    pictures = (class_codes(10) > 0).to(torch.uint8).numpy().tobytes()
    assert hashlib.sha256(pictures).hexdigest()[:16] == "d55ec21d19f315da"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet18", "stride_placement": "v1"}, "stride_placement applies to networks with bottlenecks"),
        ({"name": "resnet20", "preactivation": True, "zero_init": True}, "zero_init has no meaning with preactivation"),
        ({"name": "googlenet", "auxiliary": False, "aux_weight": 0.5}, "aux_weight applies to auxiliary: true"),
        ({"name": "lenet5", "variant": "original", "activation": "tanh"}, "activation applies to variant: modern"),
        ({"name": "lenet5", "variant": "original", "init": "xavier"}, "variant: original starts as its paper says"),
    ],
)
def test_options_without_meaning_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Model).validate_python(options)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: f"{entry.name} {entry.variant}".strip())
def test_networks_for_images_refuse_what_is_none_and_take_those_that_are_not_square(entry: Entry) -> None:
    options = TypeAdapter[Model](Model).validate_python(entry.config)
    series = Inputs("series", (12, 5000))
    with pytest.raises(ConfigError, match=r"takes images \(got series, 5000 x 12\)") as caught:
        build_outline(options, series, 5)
    assert caught.value.key == "model.name"
    size = entry.smallest_size
    wide = Inputs("image", (3, size, size + 9))
    assert build_outline(options, wide, 5).eval()(torch.empty(2, *wide.shape, device="meta")).shape == (2, 5)


def test_layers_as_written_take_what_fits_each_of_them() -> None:
    series = Inputs("series", (12, 50))
    options: dict[str, Any] = {"name": "sequential", "layers": ["batch_norm", "flatten", "linear"]}
    model = build_model(TypeAdapter[Model](Model).validate_python(options), series, 5)
    assert model(torch.zeros(2, 12, 50)).shape == (2, 5)
    options["layers"] = [{"conv2d": 4}, "flatten", "linear"]
    with pytest.raises(ConfigError, match=r"conv2d takes maps \(height x width x channels\), and 50x12 arrive$"):
        build_model(TypeAdapter[Model](Model).validate_python(options), series, 5)
