"""`cnntrain models` and `cnntrain summary`, with torch's own counter and torchvision's published figures as oracles."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli
from pydantic import TypeAdapter
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnntrain.config.schema import Data
from cnntrain.data.expected import expect_data
from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import ConfigError
from cnntrain.models import CATALOGUE, Model, build_model, build_outline, count_parameters
from cnntrain.models.options import Entry
from cnntrain.models.stages import stages
from cnntrain.models.summary import Summary, summarise
from cnntrain.runtime.plain_text import memory, quantity, shape_text

PARAMETERS = {
    "lenet5 modern": 61_706, "lenet5 original": 60_000,
    "alexnet paper": 60_965_224, "alexnet torchvision": 61_100_840, "alexnet small": 5_671_754,
    "googlenet paper": 13_378_280, "googlenet torchvision": 13_004_888, "googlenet small": 10_333_886,
    "resnet20": 269_722, "resnet32": 464_154, "resnet44": 658_586, "resnet56": 853_018, "resnet110": 1_727_962,
    "resnet18": 11_689_512, "resnet18 stem: small": 11_173_962, "resnet34": 21_797_672, "resnet50": 25_557_032,
    "resnet101": 44_549_160, "resnet152": 60_192_808, "resnet9": 6_573_120,
}  # fmt: skip


def title(entry: Entry) -> str:
    return f"{entry.name} {entry.variant}".strip()


ALL = pytest.mark.parametrize("entry", CATALOGUE, ids=title)


def outline(config: dict[str, Any], channels: int, classes: int, size: int) -> nn.Module:
    model = TypeAdapter[Model](Model).validate_python(config)
    return build_outline(model, image_inputs(channels, size), classes)


@functools.cache
def all_usual() -> dict[str, tuple[nn.Module, Summary]]:
    """Every network at its usual size and its summary, by title."""
    models = {title(e): outline(e.config, e.inputs.channels, e.num_outputs, e.inputs.size[0]).eval() for e in CATALOGUE}
    return {title(e): (models[title(e)], summarise(models[title(e)], e.inputs)) for e in CATALOGUE}


def summary_of(channels: int = 3, size: int = 224, classes: int = 1000, **config: Any) -> Summary:
    return summarise(outline(config, channels, classes, size), image_inputs(channels, size))


def sees(summary: Summary) -> dict[str, tuple[int, ...] | None]:
    """By layer; of a layer that is met again, what it sees the last time."""
    return {layer.name: layer.receptive_field_px for layer in summary.layers}


def as_json(text: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_known_parameters_of_every_network() -> None:
    assert {name: count_parameters(model) for name, (model, _) in all_usual().items()} == PARAMETERS


@ALL
def test_multiply_adds_agree_with_torchs_counter_and_parameters_with_the_network(entry: Entry) -> None:
    model, summary = all_usual()[title(entry)]
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, entry.inputs.channels, entry.inputs.size[0], entry.inputs.size[0], device="meta"))
    class_codes = 10 * 84 if entry.variant == "original" else 0  # distances, which the counter does not know
    assert summary.totals.multiply_adds == counter.get_total_flops() // 2 + class_codes
    assert summary.totals.parameters == count_parameters(model)


@ALL
def test_every_stage_learns_and_every_parameter_belongs_to_one_stage(entry: Entry) -> None:
    model, summary = all_usual()[title(entry)]
    owned = [[id(p) for module in modules for p in module.parameters()] for modules in stages(model).values()]
    assert all(owned) or entry.variant == "original"  # whose head is fixed codes
    assert sorted(number for stage in owned for number in stage) == sorted(id(p) for p in model.parameters())
    assert [stage.name for stage in summary.stages] == list(stages(model))
    assert [stage.parameters for stage in summary.stages] == [
        sum(p.numel() for module in modules for p in module.parameters()) for modules in stages(model).values()
    ]
    assert sum(stage.multiply_adds for stage in summary.stages) == summary.totals.multiply_adds


@ALL
def test_the_smallest_size_is_true(entry: Entry) -> None:
    smallest = entry.smallest_size
    model = outline(entry.config, entry.inputs.channels, 7, smallest).eval()
    assert model(torch.empty(1, entry.inputs.channels, smallest, smallest, device="meta")).shape == (1, 7)
    with pytest.raises(ConfigError, match=f"at least {smallest} px"):
        outline(entry.config, entry.inputs.channels, 7, smallest - 1)


@ALL
def test_the_head_sees_the_whole_image(entry: Entry) -> None:
    _, summary = all_usual()[title(entry)]
    assert min(summary.stages[-1].receptive_field_px) >= entry.inputs.size[0]


@pytest.mark.parametrize(
    ("name", "giga"), [("alexnet", 0.714), ("googlenet", 1.498), ("resnet18", 1.814), ("resnet50", 4.089)]
)
def test_multiply_adds_are_those_torchvision_publishes(name: str, giga: float) -> None:
    assert summary_of(name=name).totals.multiply_adds / 1e9 == pytest.approx(giga, rel=0.01)


def test_receptive_fields_of_lenet() -> None:
    modern = sees(summary_of(1, 32, 10, name="lenet5"))
    of_maps = [("features.0", 5), ("features.2", 6), ("features.3", 14), ("features.5", 16)]
    assert all(modern[layer] == (side, side) for layer, side in of_maps)
    assert modern["classifier.0"] == (16, 16)  # flattened values are still those of S4
    assert modern["classifier.1"] == (32, 32)
    original = sees(summary_of(1, 32, 10, name="lenet5", variant="original"))
    assert [original[layer] for layer in ("c1", "s2", "c3", "s4", "c5")] == [(n, n) for n in (5, 6, 14, 16, 32)]


def test_receptive_fields_of_deeper_networks() -> None:
    resnet = sees(summary_of(name="resnet18"))
    assert [resnet[layer] for layer in ("conv1", "maxpool", "layer4.1.relu")] == [(7, 7), (11, 11), (435, 435)]
    assert sees(summary_of(name="resnet50", stride_placement="v1"))["layer4.2.relu"] == (483, 483)
    assert sees(summary_of(name="alexnet"))["features.12"] == (195, 195)
    assert sees(summary_of(name="alexnet", variant="paper"))["features.14"] == (195, 195)


def test_receptive_field_is_what_the_gradient_reaches() -> None:
    layers = [
        {"name": "conv2d", "out_channels": 2, "kernel_size": [3, 5], "dilation": [2, 1]},
        {"name": "avg_pool2d", "kernel_size": 3, "stride": 2},
        {"name": "parallel", "branches": [
            [{"name": "conv2d", "out_channels": 2, "kernel_size": 5, "padding": "same"}],
            [{"name": "avg_pool2d", "kernel_size": [3, 1], "stride": 1, "padding": [1, 0]}],
            [],
        ]},
        {"name": "residual", "layers": [{"name": "conv2d", "out_channels": 6, "padding": 1}]},
        {"name": "adaptive_avg_pool2d", "output_size": [4, 5]},
    ]  # fmt: skip
    ending = [{"name": "flatten"}, {"name": "linear"}]
    config = TypeAdapter[Model](Model).validate_python({"name": "sequential", "layers": [*layers, *ending]})
    model = build_model(config, image_inputs(1, 64), 2)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0)  # so that nothing cancels
    image = torch.ones(1, 1, 64, 64, requires_grad=True)
    body = model.get_submodule("layers")[: len(layers)]  # type: ignore[index]
    body(image)[0, 0, 2, 2].backward()
    assert image.grad is not None
    reached = image.grad[0, 0].nonzero()
    spans = reached.amax(0) - reached.amin(0) + 1
    summary = summarise(model, image_inputs(1, 64))
    assert sees(summary)["layers.4"] == tuple(spans.tolist())


class Toy(nn.Module):
    """Convolutions over one, two or three sides."""

    stages = {"body": ("body",), "head": ("head",)}  # noqa: RUF012 (constant)

    def __init__(self, sides: int) -> None:
        super().__init__()
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[sides - 1]
        max_pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[sides - 1]
        avg_pool = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[sides - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[sides - 1]
        self.body = nn.Sequential(
            conv(2, 4, 3, stride=2, padding=1), norm(4), nn.ReLU(), max_pool(2), conv(4, 4, 3, groups=2), avg_pool(3, 1)
        )
        self.head = nn.Sequential((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[sides - 1](1))
        self.head.extend([nn.Flatten(), nn.Linear(4, 3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(x))
        return out


@pytest.mark.parametrize(("kind", "sides"), [("series", 1), ("image", 2), ("volume", 3)])
def test_convolutions_of_any_number_of_sides_are_measured(kind: str, sides: int) -> None:
    inputs = Inputs(kind, (2, *[32] * sides))
    model = Toy(sides).eval()
    summary = summarise(model, inputs)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *inputs.shape))
    assert summary.totals.multiply_adds == counter.get_total_flops() // 2
    assert summary.walk[0] == (*[32] * sides, 2)
    assert summary.walk[-1] == (3,)
    by = "x".join("3" * sides)
    assert [layer.kind for layer in summary.layers if "Conv" in layer.kind] == [
        f"Conv{sides}d {by}/2", f"Conv{sides}d {by}, groups 2",
    ]  # fmt: skip
    assert next(layer.kind for layer in summary.layers if "AvgPool" in layer.kind) == f"AvgPool{sides}d {by}"
    for parameter in model.parameters():
        nn.init.constant_(parameter, 1.0)  # so that nothing cancels
    model.body[3] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)[sides - 1](2)  # whose gradient reaches all that it sees
    example = torch.ones(1, *inputs.shape, requires_grad=True)
    model.body(example)[(0, 0, *[1] * sides)].backward()
    assert example.grad is not None
    reached = example.grad[0, 0].nonzero()
    assert sees(summary)["body.5"] == tuple((reached.amax(0) - reached.amin(0) + 1).tolist())


def test_the_walk_shows_each_shape_of_the_main_way() -> None:
    assert " ".join(map(shape_text, summary_of(1, 32, 10, name="lenet5").walk)) == "32x32x1 28x28x6 14x14x6 10x10x16 5x5x16 400 120 84 10"  # fmt: skip
    assert " ".join(map(shape_text, summary_of(3, 32, 10, name="resnet20").walk)) == "32x32x3 32x32x16 16x16x32 8x8x64 1x1x64 10"  # fmt: skip
    googlenet = [shape_text(shape) for shape in summary_of(name="googlenet").walk]
    assert "28x28x256" in googlenet  # inception 3a as a whole
    assert "28x28x96" not in googlenet  # a branch of it


def test_activations_are_what_layers_return() -> None:
    layers = {layer.name: layer for layer in summary_of(3, 32, 10, name="resnet20").layers}
    assert layers["conv1"].activation_bytes == 4 * 32 * 32 * 16
    assert layers["relu"].activation_bytes == 0  # in place


def test_a_summary_leaves_the_network_alone() -> None:
    model = outline({"name": "lenet5"}, 1, 10, 32).to_empty(device="cpu").train()
    summarise(model, image_inputs(1, 32))
    assert model.training
    assert next(model.parameters()).device.type == "cpu"
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("init", ["default", "kaiming", "xavier", "orthogonal", "paper"])
def test_no_initial_weights_ask_for_values(init: str) -> None:
    assert count_parameters(outline({"name": "lenet5", "init": init}, 1, 10, 32)) == 61_706
    assert summary_of(1, 32, 47, name="lenet5", variant="original").walk[-1] == (47,)


@pytest.mark.parametrize("options", [{}, {"channels": 3}, {"image_size": 20, "mean": (0.5,) * 3, "std": (0.5,) * 3}])
def test_expected_data_are_those_that_come(options: dict[str, Any], photos: Path) -> None:
    small = {"image_size": 24} | options
    for config in (Data(source="digits", **options), Data(source="image_folder", root=str(photos), **small)):
        splits = prepare_data(config)
        assert expect_data(config) == (splits.preprocessing.inputs, splits.num_classes)


def test_models_lists_every_network_with_its_numbers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = cli("models")
    assert outcome.code == 0
    for expected in ("61,706", "6,624,904      13,004,888         1.50 G", "4.09 G", "224x224x3", "as written in YAML"):
        assert expected in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 120
    assert len(outcome.out[: outcome.out.index("\n\n")].splitlines()) == 1 + len(CATALOGUE) + 1
    monkeypatch.setattr(
        "cnntrain.insight.summarise.CATALOGUE", [entry for entry in CATALOGUE if entry.name == "resnet50"]
    )
    resnet50, sequential = json.loads(cli("models", "--json").out)
    assert resnet50["multiply_adds"] == 4_089_184_256
    assert resnet50["input_shape"] == [224, 224, 3]
    assert sequential["parameters"] is None


def test_summary_prints_a_table_or_everything_as_json(cli: Cli) -> None:
    text = cli("summary", "digits_lenet").out
    assert "32x32x1 -> 28x28x6 -> 14x14x6 -> 10x10x16 -> 5x5x16 -> 400 -> 120 -> 84 -> 10" in text
    assert "parameters     61,706" in text
    found = as_json(cli("summary", "digits_lenet", "--json").out)
    assert set(found) == {"name", "num_classes", "notices", "walk", "stages", "layers", "totals"}
    assert sum(layer["parameters"] for layer in found["layers"]) == found["totals"]["parameters"] == 61_706
    assert found["layers"][0]["receptive_field_px"] == [5, 5]


def test_auxiliary_classifiers_are_shown_as_parts_for_training(cli: Cli) -> None:
    text = cli("summary", "cifar10_resnet20", "--set", "model={name: googlenet, variant: small}").out
    assert "parameters     10,333,886 (4,350,484 of them in training alone)" in text
    assert max(map(len, text.splitlines())) <= 120


def test_classes_of_a_folder_are_counted_or_assumed(
    cli: Cli, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert as_json(cli("summary", "image_folder_resnet18", "--json").out)["walk"][-1] == [3]
    monkeypatch.chdir("/")
    assumed = cli("summary", "image_folder_resnet18", "--json")
    assert as_json(assumed.out)["walk"][-1] == [1000]
    assert "1,000 are assumed; --classes N changes it" in assumed.err
    said = cli("summary", "image_folder_resnet18", "--classes", 5, "--json")
    assert as_json(said.out)["walk"][-1] == [5]
    assert said.err == ""


def test_trained_weights_are_not_read(cli: Cli) -> None:
    outcome = cli("summary", "cifar10_resnet20", "--set", "model.weights=nowhere.pth")
    assert outcome.code == 0
    assert "269,722" in outcome.out


def test_what_does_not_fit_is_said_as_by_train(cli: Cli) -> None:
    outcome = cli("summary", "digits_lenet", "--set", "data.image_size=12")
    assert outcome.code == 2
    assert outcome.err.startswith("error: --set data.image_size=12: data.image_size: LeNet-5 with padding 0 needs")


def test_quantities_have_three_digits_and_a_unit() -> None:
    found = [quantity(count) for count in (840, 999, 9_999, 99_960, 999_600, 4_089_184_256)]
    assert found == ["840", "999", "10.0 k", "100 k", "1.00 M", "4.09 G"]
    assert [memory(count) for count in (512, 65_536, 89_726_880)] == ["512 B", "64.0 KiB", "85.6 MiB"]
