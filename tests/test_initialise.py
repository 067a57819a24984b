"""Initial weights have the variance that their rule promises."""

import math
from typing import Any

import pytest
import torch
from conftest import Cli
from pydantic import TypeAdapter
from torch import nn

from cnntrain.data.inputs import image_inputs
from cnntrain.models import Model, build_model
from cnntrain.models.initialise import initialise, kaiming_fan_out, uniform_by_fan_in
from cnntrain.models.lenet_original import LeNet5Original, SparseConv2d, Subsampling


def build(name: str, *, channels: int = 3, classes: int = 200, size: int = 64, **options: Any) -> nn.Module:
    config = TypeAdapter(Model).validate_python({"name": name, **options})
    return build_model(config, image_inputs(channels, size), classes)


def weighted(model: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def fans(module: nn.Conv2d | nn.Linear) -> tuple[int, int]:
    receptive = module.weight[0][0].numel()
    return module.weight.shape[1] * receptive, module.weight.shape[0] * receptive


def variance(module: nn.Conv2d | nn.Linear) -> float:
    return float(module.weight.detach().double().square().mean())


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "googlenet", "resnet20", "resnet9"])
@pytest.mark.parametrize("rule", ["kaiming", "xavier"])
def test_rules_give_every_layer_the_intended_variance(name: str, rule: str) -> None:
    size = {"alexnet": 64, "googlenet": 32}.get(name, 16)
    for module in weighted(build(name, init=rule, size=size, classes=40)):
        fan_in, fan_out = fans(module)
        intended = 2 / fan_in if rule == "kaiming" else 2 / (fan_in + fan_out)
        tolerance = 6 * math.sqrt(2 / module.weight.numel())  # six standard errors of a normal's variance
        assert variance(module) == pytest.approx(intended, rel=tolerance)
        if module.bias is not None:
            assert not module.bias.any()


@pytest.mark.parametrize("convolution", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_convolutions_of_any_number_of_sides_are_drawn_anew(convolution: Any) -> None:
    for draw in (lambda model: initialise(model, "kaiming"), kaiming_fan_out, uniform_by_fan_in):
        layer = convolution(4, 8, 3)
        before = layer.weight.detach().clone()
        draw(nn.Sequential(layer))
        assert not torch.equal(layer.weight, before)


def test_orthogonal_weights_have_orthonormal_rows_or_columns() -> None:
    for module in weighted(build("lenet5", init="orthogonal", size=32)):
        matrix = module.weight.detach().flatten(1)
        matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(len(matrix)), rtol=1e-5, atol=1e-5)


def test_convolutions_of_resnets_start_with_kaimings_variance() -> None:
    for init in ("default", "paper"):
        for module in weighted(build("resnet18", init=init)):
            if isinstance(module, nn.Conv2d):
                tolerance = 6 * math.sqrt(2 / module.weight.numel())
                assert variance(module) == pytest.approx(2 / fans(module)[1], rel=tolerance)


def test_alexnets_paper_variant_starts_as_its_section_5_says() -> None:
    layers = weighted(build("alexnet", variant="paper"))
    assert [float(layer.weight.detach().std()) for layer in layers] == pytest.approx([0.01] * 8, rel=0.02)
    biases = [set(layer.bias.tolist()) for layer in layers if layer.bias is not None]
    assert biases == [{0.0}, {1.0}, {0.0}, {1.0}, {1.0}, {1.0}, {1.0}, {0.0}]


def test_lenets_paper_weights_are_uniform_by_fan_in() -> None:
    for module in weighted(build("lenet5", init="paper", channels=1, size=32)):
        bound = 2.4 / fans(module)[0]
        assert float(module.weight.detach().abs().max()) <= bound
        assert variance(module) == pytest.approx(bound**2 / 3, rel=6 * math.sqrt(0.8 / module.weight.numel()))


def test_the_original_lenets_own_layers_start_by_fan_in_too() -> None:
    torch.manual_seed(0)
    models = [LeNet5Original(image_inputs(1, 32), 10, padding=0) for _ in range(40)]
    sparse = [module for model in models for module in model.modules() if isinstance(module, SparseConv2d)]
    connections = torch.tensor(sparse[0].maps_seen)
    weights = torch.stack([module.weight.detach() for module in sparse])
    for count in (3, 4, 6):
        bound = 2.4 / (count * 25)
        chosen = weights[:, connections == count]
        assert float(chosen.abs().max()) <= bound
        assert float(chosen.square().mean()) == pytest.approx(bound**2 / 3, rel=0.05)
    coefficients = torch.cat(
        [m.weight.detach() for model in models for m in model.modules() if isinstance(m, Subsampling)]
    )
    assert float(coefficients.square().mean()) == pytest.approx(0.6**2 / 3, rel=0.1)


def test_googlenets_paper_variant_starts_with_xaviers_variance_and_living_relus() -> None:
    for module in weighted(build("googlenet", variant="paper", size=32)):
        fan_in, fan_out = fans(module)
        tolerance = 6 * math.sqrt(2 / module.weight.numel())
        assert variance(module) == pytest.approx(2 / (fan_in + fan_out), rel=tolerance)
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            assert module.bias.tolist() == pytest.approx([0.2] * len(module.bias))


@pytest.mark.parametrize("init", ["default", "kaiming", "xavier", "orthogonal", "paper"])
def test_initial_weights_depend_on_the_seed_alone(init: str) -> None:
    config = TypeAdapter(Model).validate_python({"name": "lenet5", "init": init})

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(int(torch.randint(1000, ()).item()))
        model = build_model(config, image_inputs(1, 32), 10, seed=seed)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_zeroed_norms_make_blocks_identities_under_any_rule() -> None:
    for init in ("default", "xavier"):
        model = build("resnet20", init=init, zero_init=True, size=8).eval()
        x = torch.rand(2, 16, 8, 8)
        torch.testing.assert_close(model.get_submodule("layer1.1")(x), x)


@pytest.mark.parametrize("model", ["resnet9", "{name: sequential, layers: [flatten, linear]}"])
def test_a_network_without_a_paper_has_no_paper_weights(cli: Cli, model: str) -> None:
    outcome = cli("check", "digits_lenet", "--set", f"model={model}", "--set", "model.init=paper")
    assert outcome.code == 2
    assert "model.init: " in outcome.err
    assert "has no paper that says how its weights start" in outcome.err
