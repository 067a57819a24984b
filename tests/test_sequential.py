"""Networks written in YAML: what can be said, what is inferred, what is refused and where."""

import random
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Cli
from pydantic import TypeAdapter, ValidationError
from torch import nn

from cnntrain.data.inputs import image_inputs
from cnntrain.errors import ConfigError
from cnntrain.models import build_model, count_parameters
from cnntrain.models.sequential import Sequential, SequentialNet

DATA = "data: {source: digits, image_size: 32}\n"
AS_SPOKEN: list[Any] = [
    {"Conv2D": {"out_channels": 8, "kernel_size": 3, "activation": "relu"}},
    {"MaxPooling2D": 2},
    {"Dropout": 0.25},
    "Flatten",
    {"Dense": {"out_features": 16, "activation": "relu"}},
    "Dropout",
    "Dense",
    "Softmax",
]


def build(layers: list[Any], *, channels: int = 3, classes: int = 10, size: int = 32) -> SequentialNet:
    config = TypeAdapter(Sequential).validate_python({"name": "sequential", "layers": layers})
    model = build_model(config, image_inputs(channels, size), classes)
    assert isinstance(model, SequentialNet)
    return model


def outputs(model: nn.Module, channels: int = 3, size: int = 32) -> torch.Tensor:
    found = model.eval()(torch.randn(2, channels, size, size))
    assert isinstance(found, torch.Tensor)
    return found


def test_the_textbooks_network_is_what_pytorch_would_be() -> None:
    model = build(AS_SPOKEN)
    expected = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(8 * 15 * 15, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 10),
    )  # fmt: skip
    expected.load_state_dict(dict(zip(expected.state_dict(), model.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(images), expected.eval()(images))


def test_a_long_and_a_short_form_mean_the_same() -> None:
    long = [
        {"name": "conv2d", "out_channels": 8, "kernel_size": [3, 3], "activation": "relu"},
        {"name": "max_pool2d", "kernel_size": 2},
        {"name": "dropout", "probability": 0.25},
        {"name": "flatten"},
        {"name": "linear", "out_features": 16, "activation": "relu"},
        {"name": "dropout"},
        {"name": "linear"},
        {"name": "softmax"},
    ]
    validate = TypeAdapter(Sequential).validate_python
    assert validate({"layers": long}) == validate({"layers": AS_SPOKEN})


@pytest.mark.parametrize(
    "activation", ["relu", "tanh", "sigmoid", "gelu", "leaky_relu", {"LeakyReLU": 0.2}, {"gelu": None}]
)
def test_every_activation_can_be_a_layer(activation: Any) -> None:
    assert outputs(build([activation, "flatten", "linear"])).shape == (2, 10)


def test_an_inception_module_stacks_the_channels_of_its_branches() -> None:
    layers = [
        {"parallel": [
            [{"conv2d": {"out_channels": 4, "kernel_size": 1}}],
            [{"conv2d": {"out_channels": 2, "kernel_size": 1}}, {"conv2d": {"out_channels": 6, "padding": "same"}}],
            [{"max_pool2d": {"kernel_size": 3, "stride": 1, "padding": 1}}],
            [],
        ]},
        "batch_norm2d", "adaptive_avg_pool2d", "flatten", "linear",
    ]  # fmt: skip
    model = build(layers)
    assert model.layers[-1].in_features == 4 + 6 + 3 + 3
    images = torch.randn(2, 3, 8, 8)
    module = model.eval().layers[0]
    assert torch.equal(module(images)[:, -3:], images)
    assert outputs(model).shape == (2, 10)


def test_a_residual_block_adds_what_arrives_or_its_shortcut() -> None:
    convolution = {"conv2d": {"out_channels": 3, "padding": 1}}
    model = build([{"residual": [convolution, "relu", convolution]}, "flatten", "linear"])
    images = torch.randn(2, 3, 32, 32)
    block = model.eval().layers[0]
    torch.testing.assert_close(block(images), block.layers(images) + images)  # type: ignore[operator]
    half = {"conv2d": {"out_channels": 8, "padding": 1, "stride": 2}}
    around = {"conv2d": {"out_channels": 8, "kernel_size": 1, "stride": 2}}
    model = build([{"residual": {"layers": [half, "batch_norm2d"], "shortcut": [around]}}, "flatten", "linear"])
    assert outputs(model).shape == (2, 10)


def test_a_resnet_can_be_written_in_yaml_to_the_last_parameter() -> None:
    def convolution(maps: int, stride: int = 1) -> dict[str, Any]:
        return {"conv2d": {"out_channels": maps, "padding": 1, "stride": stride, "bias": False}}

    def block(maps: int, stride: int) -> list[Any]:
        layers = [convolution(maps, stride), "batch_norm2d", "relu", convolution(maps), "batch_norm2d"]
        around = [{"conv2d": {"out_channels": maps, "kernel_size": 1, "stride": stride, "bias": False}}, "batch_norm2d"]
        return [{"residual": {"layers": layers, "shortcut": around if stride == 2 else None}}, "relu"]

    stage = [block(maps, stride) for maps, first in ((16, 1), (32, 2), (64, 2)) for stride in (first, 1, 1)]
    layers = [convolution(16), "batch_norm2d", "relu", *chain(*stage), "adaptive_avg_pool2d", "flatten", "linear"]
    assert count_parameters(build(layers)) == 272_474  # ResNet-20 with projections


REFUSED: list[tuple[list[Any], str, str]] = [
    ([{"linear": 5}], "model.layers.0", "linear takes a row of values, and 32x32x3 arrives; put flatten before it"),
    (["flatten", {"conv2d": 4}], "model.layers.1", "conv2d takes maps .height x width x channels., and 3072 values arrive"),
    (["flatten", "batch_norm2d"], "model.layers.1", "batch_norm2d does not take 3072 values, which arrives here; use batch_norm1d"),
    ([{"conv2d": {"out_channels": 4, "kernel_size": 40}}], "model.layers.0", "conv2d needs at least 40x40 px with its padding of 0x0, and 32x32x3 arrives"),
    ([{"max_pool2d": 16}, {"max_pool2d": 4}], "model.layers.1", "max_pool2d needs at least 4x4 px .*, and 2x2x3 arrives"),
    ([{"conv2d": {"out_channels": 4, "groups": 2}}], "model.layers.0", "groups: 2 must divide the 3 channels that arrive and out_channels: 4"),
    ([{"max_pool2d": {"kernel_size": 2, "padding": 2}}], "model.layers.0", "must be at most half of kernel_size"),
    (["flatten", {"linear": 7}], "model.layers.1", "ends with 7 values, and needs 10, one for each class"),
    ([{"conv2d": 10}], "model.layers.0", "ends with 30x30x10, and needs 10.*flatten and linear"),
    (["softmax", "flatten", "linear"], "model.layers.0", "softmax stands at the very end"),
    ([{"residual": [{"conv2d": 3}]}], "model.layers.0", "residual adds what its layers give, 30x30x3, to what comes around them, 32x32x3"),
    ([{"residual": [{"conv2d": 3}, {"linear": 3}]}], "model.layers.0.layers.1", "linear takes a row of values"),
    ([{"parallel": [[{"conv2d": 4}], []]}], "model.layers.0", "they give 30x30x4, 32x32x3"),
    ([{"parallel": [["softmax"], []]}], "model.layers.0.branches.0.0", "softmax stands at the very end"),
]  # fmt: skip


@pytest.mark.parametrize(("layers", "key", "message"), REFUSED, ids=[key for _, key, _ in REFUSED])
def test_layers_that_do_not_fit_are_refused_by_name(layers: list[Any], key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build(layers)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"conv2d": {"out_channels": 4, "padding": "same", "stride": 2}}, "padding: same goes with stride: 1"),
        (
            {"conv2d": {"out_channels": 4, "padding": "same", "kernel_size": [3, 2]}},
            "padding: same goes with an odd kernel",
        ),
        ({"conv2d": {"out_channels": 4, "kernel_size": 0}}, "must be a whole number from 1 to 65536, or two of them"),
        ({"conv2d": {"out_channels": 4, "kernel_size": [3, 3, 3]}}, "must be a whole number from 1 to 65536, or two"),
        ({"conv2d": {"out_channels": 4, "padding": "sane"}}, "or two of them for height and width or same .got 'sane'"),
        ({"parallel": [[]]}, "at least 2"),
        ({"residual": []}, "at least 1"),
    ],
)
def test_impossible_values_are_refused(layer: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Sequential).validate_python({"layers": [layer]})


def test_a_fault_is_reported_with_its_line_even_inside_a_block(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(
        "model:\n  name: sequential\n  layers:\n    - residual:\n        - Conv2D: 1\n        - Dense: 3\n" + DATA
    )
    outcome = cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs")
    assert outcome.code == 2
    assert "my.yaml:6: model.layers.0.layers.1: linear takes a row of values, and 30x30x1 arrives" in outcome.err
    (tmp_path / "my.yaml").write_text("model:\n  name: sequential\n  layers:\n    - Conv2D: {maps: 3}\n" + DATA)
    outcome = cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs")
    assert "my.yaml:4: model.layers.0.Conv2D.maps: unknown key" in outcome.err
    assert "my.yaml:4: model.layers.0.Conv2D.out_channels: is missing and has no default" in outcome.err


FAULTS = [
    ("- residual:\n        - Conv2D: 1\n        - Conv2D:\n            out_channels: 1\n            kernel: 3\n", "my.yaml:8: model.layers.0.residual.1.Conv2D.kernel: unknown key"),
    ("- parallel:\n        - [ReLU]\n        - [Dense: {units: -1}]\n", "my.yaml:6: model.layers.0.parallel.1.0.Dense.out_features: must be above 0 (got -1)"),
    ("- Cov2D: 8\n", "unknown name 'Cov2D'; did you mean 'conv2d'?"),
    ("- {Dense: 8, activation: relu}\n", "the options of Dense must be indented under it"),
    ("- ReLU: 8\n", "ReLU takes no such value, only options by name, indented under it (got {'ReLU': 8}"),
    ("- Conv2D: {in_channels: 3, out_channels: 8}\n", "in_channels: unknown key: what arrives at a layer is inferred; remove it"),
    ("- conv2d: 99999999999\n", "out_channels: must be at most 16777216 (got 99999999999)"),
    ("- conv2d: {out_channels: 8, stride: 99999999999}\n", "must be a whole number from 1 to 65536"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "message"), FAULTS)
def test_faults_in_layers_are_explained_once_and_in_their_place(
    cli: Cli, tmp_path: Path, layer: str, message: str
) -> None:
    (tmp_path / "my.yaml").write_text(f"model:\n  name: sequential\n  layers:\n    {layer}{DATA}")
    outcome = cli("check", tmp_path / "my.yaml")
    assert outcome.code == 2
    assert message in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_keras_own_words_are_understood() -> None:
    keras = [
        {"Conv2D": {"filters": 8, "kernel_size": 3, "strides": 2, "padding": "valid", "activation": "relu"}},
        "BatchNormalization",
        {"MaxPooling2D": {"pool_size": 2}},
        {"Dropout": {"rate": 0.25}},
        "GlobalAveragePooling2D",
        {"Dense": {"units": 16, "activation": "relu"}},
        "BatchNormalization",
        {"Dense": {"units": 10, "activation": "softmax"}},
    ]
    model = build(keras)
    kinds = [type(layer) for layer in model.modules() if not list(layer.children())]
    assert kinds == [
        nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.MaxPool2d, nn.Dropout, nn.AdaptiveAvgPool2d, nn.Flatten,
        nn.Linear, nn.ReLU, nn.BatchNorm1d, nn.Linear,
    ]  # fmt: skip
    assert outputs(model).shape == (2, 10)


def test_the_shortcut_that_is_advised_works() -> None:
    for stride, size in ((1, 32), (2, 32), (2, 31), (3, 16)):
        block = {"residual": {"layers": [{"conv2d": {"out_channels": 8, "padding": 1, "stride": stride}}]}}
        with pytest.raises(ConfigError, match="give it `shortcut: ") as caught:
            build([block, "flatten", "linear"], size=size)
        block["residual"]["shortcut"] = yaml.safe_load(str(caught.value).split("`")[1])["shortcut"]
        assert outputs(build([block, "flatten", "linear"], size=size), size=size).shape == (2, 10)


def test_a_network_in_yaml_trains_and_predicts(cli: Cli, tmp_path: Path) -> None:
    layers = "[Conv2D: 8, ReLU, MaxPooling2D, {parallel: [[conv2d: 4], [conv2d: 2]]}, Flatten, Dropout: 0.1, Dense]"
    (tmp_path / "my.yaml").write_text(
        f"model: {{name: sequential, layers: {layers}}}\nrecipe: {{epochs: 3, optimizer: {{lr: 0.01}}}}\n" + DATA
    )
    outcome = cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert cli("evaluate", "--output", tmp_path / "runs").code == 0
    assert cli("train", tmp_path / "runs/latest/config.yaml", "--output", tmp_path / "again").code == 0


def random_layers(rng: random.Random, depth: int = 0) -> list[Any]:
    def layer() -> Any:
        kind = rng.choice(
            ["conv2d", "max_pool2d", "avg_pool2d", "relu", "batch_norm2d", "residual", "parallel", "pool"]
        )
        sizes = {"kernel_size": rng.randint(1, 5), "stride": rng.randint(1, 3), "padding": rng.randint(0, 2)}
        if kind == "conv2d":
            return {kind: {"out_channels": rng.randint(1, 6), "dilation": rng.randint(1, 2), **sizes}}
        if kind in ("max_pool2d", "avg_pool2d"):
            return {kind: {**sizes, "ceil_mode": rng.random() < 0.5}}
        if kind == "pool":
            return {rng.choice(["adaptive_avg_pool2d", "adaptive_max_pool2d"]): rng.randint(1, 6)}
        if kind == "residual" and depth < 2:
            return {kind: random_layers(rng, depth + 1)}
        if kind == "parallel" and depth < 2:
            return {kind: [random_layers(rng, depth + 1), random_layers(rng, depth + 1)]}
        return "relu"

    return [layer() for _ in range(rng.randint(1, 4))]


def test_random_networks_either_run_with_the_inferred_shapes_or_are_refused_by_name() -> None:
    rng, built, refused = random.Random(0), 0, list[str]()
    for _ in range(400):
        channels, size = rng.choice([1, 3]), rng.randint(4, 24)
        layers = [*random_layers(rng), "flatten", "linear"]
        try:
            model = build(layers, channels=channels, size=size, classes=3)
        except ConfigError as error:
            refused.append(str(error.key))
            continue
        built += 1
        assert outputs(model, channels, size).shape == (2, 3), layers
    assert 100 < built < 350
    assert all(key.startswith("model.layers.") for key in refused)
