"""Memory: what is estimated beforehand, and micro-batches that are found by trying."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from conftest import Cli

from cnntrain.config.loading import load_config
from cnntrain.config.shipped import shipped_configs
from cnntrain.data.batches import Batch
from cnntrain.data.prepare import prepare_data
from cnntrain.runtime.processes import ALONE, Alone
from cnntrain.training.events import StepDone
from cnntrain.training.loop import begin_epoch, train_step
from cnntrain.training.memory import estimated_memory, fit_micro_batch, halved_until_it_fits
from cnntrain.training.settings import Settings
from cnntrain.training.setup import build_training
from cnntrain.training.state import TrainingState

CPU = torch.device("cpu")


def test_the_estimate_is_what_autograd_keeps() -> None:
    config = load_config("digits_lenet", ["model={name: resnet20}", "recipe.precision=float32"]).config
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, CPU)
    begin_epoch(state.network, settings, 1)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    images = torch.zeros(8, 1, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = state.network.train()(images)
    weights = 4 * sum(parameter.numel() for parameter in state.network.parameters())
    activations = sum(storage.nbytes() for storage in kept.values())
    assert outputs.shape == (8, 10)
    assert estimated_memory(state, settings, splits.preprocessing.inputs, 8) == pytest.approx(
        3 * weights + activations, rel=0.1
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_estimate_grows_with_the_batch(precision: str) -> None:
    config = load_config("digits_lenet", [f"recipe.precision={precision}"]).config
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, CPU)
    small, large = (estimated_memory(state, settings, splits.preprocessing.inputs, size) for size in (10, 100))
    assert 3 * 4 * 61_706 < small < large < 10 * small


@pytest.mark.parametrize(
    "name", [name for name in shipped_configs() if name.startswith(("cifar10", "mnist", "imagenet"))]
)
def test_every_shipped_network_can_be_estimated(name: str) -> None:
    model = load_config(name).config.model.model_dump(mode="json")
    settings = ["data.channels=3", "data.image_size=64" if "imagenet" in name else "data.image_size=32"]
    config = load_config("digits_lenet", settings).config
    config = config.model_copy(update={"model": type(load_config(name).config.model).model_validate(model)})
    splits = prepare_data(config.data)
    state, how, _ = build_training(config, splits, CPU)
    assert estimated_memory(state, how, splits.preprocessing.inputs, 4) > 0


def test_training_says_what_it_will_take_and_warns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "training takes about" in cli("check", "digits_lenet").err
    monkeypatch.setattr("cnntrain.training.setup.free_memory", lambda _: 1000)
    assert "note: 1000 B are free; recipe.micro_batch takes less" in cli("check", "digits_lenet").err


def test_a_batch_is_halved_until_it_fits() -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > 20:
            raise torch.OutOfMemoryError

    assert halved_until_it_fits(100, attempt) == 13
    assert tried == [100, 50, 25, 13]
    with pytest.raises(torch.OutOfMemoryError):
        halved_until_it_fits(100, lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()))


def test_frozen_batch_norm_is_estimated_as_it_trains(cli: Cli) -> None:
    settings = ["model={name: resnet18, stem: small, freeze: backbone}", "recipe.batch_size=1"]
    checked = cli("check", "digits_lenet", *[part for setting in settings for part in ("--set", setting)])
    assert checked.code == 0, checked.err


def test_on_a_cpu_auto_is_the_whole_batch(cli: Cli) -> None:
    config = load_config("digits_lenet", ["recipe.micro_batch=auto"]).config
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, CPU)
    assert fit_micro_batch(state, splits, settings, pytest.fail).micro_batch is None
    assert "micro-batches of 64 images (auto)" in cli("check", "digits_lenet", "--set", "recipe.micro_batch=auto").err


def test_validation_takes_no_more_images_at_once_than_a_micro_batch_that_was_found() -> None:
    config = load_config("digits_lenet", ["recipe.micro_batch=auto"]).config
    settings = build_training(config, prepare_data(config.data), CPU).settings
    assert settings.eval_batch_size == 64
    assert replace(settings, micro_batch=16).eval_batch_size == 16  # as `fit_micro_batch` does on a GPU


@pytest.mark.parametrize(
    ("count", "shards", "own", "other", "found"),
    [
        (1, None, 64, 0, None),
        (1, None, 63, 0, 32),
        (2, None, 32, 32, None),
        (2, None, 31, 32, 32),  # 16 on each
        (2, None, 32, 8, 16),  # the other one has less memory
        (1, 4, 16, 0, None),
        (1, 4, 9, 0, 8),  # of each shard
        (2, 4, 16, 8, 8),
    ],
)
def test_each_process_finds_by_itself_what_fits_on_a_gpu_and_the_least_counts(
    count: int, shards: int | None, own: int, other: int, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("digits_lenet", ["recipe.precision=float32", "recipe.batch_size=64"]).config
    splits = prepare_data(config.data)
    state, settings, _ = build_training(config, splits, CPU)
    alone = replace(settings, device=torch.device("cuda"))  # on which nothing is computed here
    processes = OneOfSeveral(count=count, others=[other, 64 // count if not shards else 64 // shards])
    step = train_step

    def take(state: TrainingState, batch: Batch, settings: Settings) -> StepDone:
        assert settings.processes is ALONE
        assert settings.shards is None
        if settings.micro_batch and settings.micro_batch > own:
            raise torch.OutOfMemoryError
        return step(state, batch, replace(settings, device=CPU))

    monkeypatch.setattr("cnntrain.training.memory.train_step", take)
    several = replace(alone, processes=processes if count > 1 else ALONE, shards=shards)
    before = state.state_dict()["step"]
    fitted = fit_micro_batch(state, splits, several, lambda: (state, alone))
    assert fitted.micro_batch == found
    assert state.state_dict()["step"] == before


@dataclass(frozen=True)
class OneOfSeveral(Alone):
    """The first of several processes; what the others gather is in `others`, each time the same."""

    others: list[int] = field(default_factory=list)

    def gather(self, value: Any) -> list[Any]:
        return [value, *[self.others.pop(0)] * (self.count - 1)]

    def share(self, items: Any) -> Any:
        return items[: len(items) // self.count]
