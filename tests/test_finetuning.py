"""Freezing, slower backbones, gradual unfreezing."""

import copy
from typing import Any

import pytest
import torch
from conftest import Cli
from pydantic import TypeAdapter
from torch import nn

from cnntrain.config.loading import parse_config
from cnntrain.config.schema import Config
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.inputs import image_inputs
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.errors import ConfigError
from cnntrain.models import Model, build_model
from cnntrain.models.stages import frozen_stages, learning_rate_factors, stages
from cnntrain.training.freezing import Freezing
from cnntrain.training.loop import begin_epoch, train_step
from cnntrain.training.settings import Settings
from cnntrain.training.setup import build_training
from cnntrain.training.state import TrainingState

DIGITS = "data: {source: digits, image_size: 32}\nrecipe: {batch_size: 32, epochs: 9, schedule: constant%s}\n"


@pytest.fixture(scope="module")
def splits() -> Splits:
    return prepare_data(parse_config("model: lenet5\n" + DIGITS % "", "test").data)


def build(text: str, splits: Splits, recipe: str = "") -> tuple[Config, TrainingState, Settings]:
    config = parse_config(text + DIGITS % recipe, "test")
    state, settings, _ = build_training(config, splits, torch.device("cpu"))
    return config, state, settings


def batches(config: Config, splits: Splits) -> list[Batch]:
    pipeline = splits.preprocessing.augmentation(config.data.augment, splits.num_classes)
    return list(train_batches(splits.train, pipeline, 32, seed=0, epoch=1))


def changed(before: dict[str, Any], model: Any) -> set[str]:
    """The stages in which a parameter or a running statistic differs."""
    now = model.state_dict()
    different = {name for name in now if not torch.equal(now[name], before[name])}
    return {
        stage
        for stage, names in model.stages.items()
        if any(name.startswith(tuple(f"{part}." for part in names)) for name in different)
    }


@pytest.mark.parametrize(
    ("freeze", "trained"),
    [
        ("backbone", {"head"}),
        ("layer1", {"layer2", "layer3", "head"}),
        ("stem", {"layer1", "layer2", "layer3", "head"}),
    ],
)
def test_frozen_stages_keep_weights_and_running_statistics(splits: Splits, freeze: str, trained: set[str]) -> None:
    config, state, settings = build(f"model: {{name: resnet20, freeze: {freeze}}}\n", splits)
    before = copy.deepcopy(state.network.state_dict())
    begin_epoch(state.network, settings, 1)
    for batch in batches(config, splits)[:2]:
        train_step(state, batch, settings)
    assert changed(before, state.network) == trained


def test_stages_thaw_one_by_one_from_the_head() -> None:
    modules: dict[str, list[nn.Module]] = {"a": [nn.Linear(1, 1)], "b": [nn.BatchNorm2d(1)], "c": [nn.Linear(1, 1)]}
    freezing = Freezing(modules, unfreeze_epoch=3, every_epochs=2)
    assert ["".join(freezing.frozen(epoch)) for epoch in range(1, 9)] == ["abc", "abc", "ab", "ab", "a", "a", "", ""]
    assert [Freezing(modules).frozen(epoch) for epoch in (1, 99)] == [["a", "b", "c"]] * 2
    freezing.apply(4)
    assert [any(p.requires_grad for p in stage[0].parameters()) for stage in modules.values()] == [False, False, True]
    assert not modules["b"][0].training
    freezing.apply(5)
    assert modules["b"][0].training


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_frozen_batch_norms_of_every_kind_keep_their_statistics(norm: Any) -> None:
    modules: dict[str, list[nn.Module]] = {"a": [nn.Sequential(norm(1))], "b": [nn.Linear(1, 1)]}
    Freezing(modules).apply(1)
    assert not modules["a"][0].get_submodule("0").training


def test_a_thawed_stage_trains_from_its_epoch_on(splits: Splits) -> None:
    text = "model: {name: lenet5, freeze: backbone}\n"
    config, state, settings = build(text, splits, ", unfreeze: {epoch: 2}")
    found = []
    for epoch in (1, 2, 3):
        before = copy.deepcopy(state.network.state_dict())
        begin_epoch(state.network, settings, epoch)
        train_step(state, batches(config, splits)[0], settings)
        found.append(changed(before, state.network))
    assert found == [{"head"}, {"F6", "head"}, {"C5", "F6", "head"}]


def test_learning_rates_fall_from_the_head_to_the_input(splits: Splits) -> None:
    model = build("model: lenet5\n", splits)[1].network
    factors = learning_rate_factors(model, backbone=0.5, layer_decay=0.1)
    assert factors == pytest.approx({"head": 1.0, "F6": 0.05, "C5": 0.005, "C3": 0.5e-3, "C1": 0.5e-4})


def test_a_step_moves_each_stage_by_its_own_learning_rate(splits: Splits) -> None:
    plain = ", optimizer: {name: sgd, momentum: 0, nesterov: false, weight_decay: 0, lr: 0.1}"
    moves = []
    for options in ("", ", backbone_lr_factor: 0.5, layer_decay: 0.5"):
        config, state, settings = build("model: lenet5\n", splits, plain + options)
        before = {name: parameter.detach().clone() for name, parameter in state.network.named_parameters()}
        begin_epoch(state.network, settings, 1)
        train_step(state, batches(config, splits)[0], settings)
        moves.append({name: p.detach() - before[name] for name, p in state.network.named_parameters()})
        assert state.last_learning_rate == 0.1
    for name, factor in {"classifier.5.weight": 1, "classifier.3.weight": 0.25, "features.0.weight": 0.5**5}.items():
        torch.testing.assert_close(moves[1][name], moves[0][name] * factor, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "googlenet", "resnet20", "resnet18", "resnet9"])
def test_every_parameter_belongs_to_one_stage(name: str) -> None:
    config = TypeAdapter(Model).validate_python({"name": name})
    model = build_model(config, image_inputs(3, 64), 5)
    owned = [id(p) for modules in stages(model).values() for module in modules for p in module.parameters()]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())
    assert list(stages(model))[-1] == "head"


def test_an_unknown_stage_is_refused_with_those_there_are() -> None:
    model = build_model(TypeAdapter(Model).validate_python("resnet20"), image_inputs(1, 8), 2)
    with pytest.raises(ConfigError, match=r"no stage 'layer4' to freeze .allowed: backbone, stem, layer1, layer2, lay"):
        frozen_stages(model, "layer4")
    assert frozen_stages(model, None) == []


def test_freezing_everything_is_refused() -> None:
    config = TypeAdapter(Model).validate_python({"name": "lenet5", "variant": "original"})
    model = build_model(config, image_inputs(1, 32), 2)
    for freeze in ("backbone", "F6"):
        with pytest.raises(ConfigError, match="nothing would be left to train"):
            frozen_stages(model, freeze)
    assert frozen_stages(model, "C5") == ["C1", "S2", "C3", "S4", "C5"]


def test_a_frozen_batch_norm_takes_single_images(splits: Splits) -> None:
    text = "model: {name: resnet20, freeze: backbone}\n"
    config, state, settings = build(text, splits, ", micro_batch: 1")
    begin_epoch(state.network, settings, 1)
    train_step(state, batches(config, splits)[0], settings)
    with pytest.raises(ConfigError, match="batch norm, which needs at least 2 images"):
        build(text, splits, ", micro_batch: 1, unfreeze: {epoch: 3}")


def test_unfreezing_needs_something_frozen(cli: Cli) -> None:
    outcome = cli("check", "digits_lenet", "--set", "recipe.unfreeze={epoch: 3}")
    assert outcome.code == 2
    assert "--set recipe.unfreeze={epoch: 3}: recipe.unfreeze: there is nothing to unfreeze" in outcome.err


def test_unfreezing_after_the_last_epoch_is_refused(cli: Cli) -> None:
    options = ["--set", "model.freeze=backbone", "--set", "recipe.unfreeze={epoch: 9}", "--set", "recipe.epochs=3"]
    outcome = cli("check", "digits_lenet", *options)
    assert outcome.code == 2
    assert "recipe.unfreeze.epoch: must be at most recipe.epochs 3, or nothing is ever unfrozen (got 9)" in outcome.err


def test_a_gradually_unfrozen_run_says_what_it_trains(cli: Cli, tmp_path: Any) -> None:
    options = ["--set", "model.freeze=backbone", "--set", "recipe.unfreeze={epoch: 2}", "--epochs", "3"]
    outcome = cli("train", "digits_lenet", "--output", tmp_path, "--set", "recipe.layer_decay=0.9", *options)
    assert outcome.code == 0, outcome.err
    assert "note: model.freeze keeps random weights as they are" in outcome.err
    assert "850 of 61,706 parameters are trained; frozen: C1, C3, C5, F6" in outcome.err
    assert "from epoch 2 trained too: F6" in outcome.err
    assert "from epoch 3 trained too: C5" in outcome.err


def test_stages_of_a_network_in_yaml_are_called_by_number_and_keep_their_norms(cli: Cli, splits: Splits) -> None:
    layers = "[conv2d: 4, batch_norm, relu, flatten, linear: 8, batch_norm, linear]"
    config, state, settings = build(f"model: {{name: sequential, layers: {layers}, freeze: 0}}\n", splits)
    assert state.network.stages == {
        "0": ("layers.0", "layers.1"),
        "4": ("layers.4", "layers.5"),
        "head": ("layers.6",),
    }
    before = copy.deepcopy(state.network.state_dict())
    begin_epoch(state.network, settings, 1)
    train_step(state, batches(config, splits)[0], settings)
    assert changed(before, state.network) == {"4", "head"}


@pytest.mark.parametrize(
    ("layers", "freeze", "message"),
    [
        ("[flatten, linear]", "backbone", "has a single stage, so there is nothing to freeze"),
        ("['adaptive_avg_pool2d: [1, 10]', flatten]", "null", "no parameters, so there is nothing to train"),
    ],
)
def test_what_cannot_be_trained_or_frozen_is_refused(cli: Cli, layers: str, freeze: str, message: str) -> None:
    layers = layers.replace("'", "")
    outcome = cli("check", "digits_lenet", "--set", f"model={{name: sequential, layers: {layers}, freeze: {freeze}}}")
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_norms_and_biases_can_be_kept_from_decay_in_every_stage(splits: Splits, optimizer: str) -> None:
    recipe = f", layer_decay: 0.5, optimizer: {{name: {optimizer}, weight_decay: 0.1, decay_norms_and_biases: false}}"
    _, state, _ = build("model: resnet20\n", splits, recipe)
    decays = {id(p): group["weight_decay"] for group in state.optimizer.param_groups for p in group["params"]}
    assert len(decays) == len(list(state.network.parameters()))
    for parameter in state.network.parameters():
        assert decays[id(parameter)] == (0.1 if parameter.ndim > 1 else 0.0)
