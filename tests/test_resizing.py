"""Progressive resizing: small images first, full ones at the end, and validation always on full ones."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Cli

from cnntrain.config.loading import load_config
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training import loop
from cnntrain.training.events import StepDone
from cnntrain.training.resizing import ProgressiveResizing
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState

SETTINGS = ("--set", "model=resnet20", "--set", "recipe.progressive_resizing={initial_size: 16}")


@pytest.mark.parametrize(
    ("epochs", "until", "full", "initial", "expected"),
    [
        (10, 0.7, 32, 20, [20, 20, 24, 24, 28, 28, 32, 32, 32, 32]),
        (4, 0.5, 224, 112, [112, 168, 224, 224]),
        (3, 0.6, 28, 25, [25, 28, 28]),
        (8, 0.7, 224, 192, [192, 192, 220, 220, 220, 224, 224, 224]),
        (4, 0.5, 32, 31, [31, 32, 32, 32]),
    ],
)
def test_images_grow_in_eighths_to_their_full_size(
    epochs: int, until: float, full: int, initial: int, expected: list[int]
) -> None:
    growing = ProgressiveResizing(initial_size=initial, until=until)
    assert [growing.size(epoch, epochs, full) for epoch in range(1, epochs + 1)] == expected


def test_small_images_are_the_augmented_ones_shrunk() -> None:
    config = load_config("digits_lenet").config.data
    splits = prepare_data(config)
    pipeline = splits.preprocessing.augmentation(config.augment, splits.num_classes)
    full, small = (
        next(train_batches(splits.train, pipeline, 64, seed=3, epoch=2, image_size=size)) for size in (None, 16)
    )
    assert torch.equal(full.targets, small.targets)
    expected = F.interpolate(full.images, size=16, mode="bilinear", antialias=True)
    torch.testing.assert_close(small.images, expected)


def test_training_sees_each_size_and_validation_the_full_one(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, step, evaluated = list[int](), loop.train_step, list[int]()

    def watched_step(state: TrainingState, batch: Batch, settings: Settings, **how: bool) -> StepDone:
        seen.append(batch.images.shape[-1])
        return step(state, batch, settings, **how)

    def watched_evaluation(model: torch.nn.Module, *args: object, **how: object) -> object:
        handle = model.register_forward_pre_hook(lambda _, inputs: evaluated.append(inputs[0].shape[-1]))
        found: object = evaluate(model, *args, **how)  # type: ignore[arg-type]
        handle.remove()
        return found

    monkeypatch.setattr(loop, "train_step", watched_step)
    monkeypatch.setattr(loop, "evaluate", watched_evaluation)
    done = cli("train", "digits_lenet", "--epochs", 3, "--output", tmp_path, *SETTINGS)
    assert done.code == 0, done.err
    assert list(dict.fromkeys(seen)) == [16, 24, 32]
    assert set(evaluated) == {32}
    assert "images of 16 px" in done.err
    assert "images of 32 px" not in done.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["recipe.progressive_resizing={initial_size: 32}"], "must be below data.image_size 32 (got 32)"),
        (["recipe.epochs=1", "recipe.progressive_resizing={initial_size: 16}"], "would not reach their full size in 1"),
        (["model=lenet5", "recipe.progressive_resizing={initial_size: 16}"], "does not take images of 16 px"),
    ],
)
def test_what_cannot_grow_is_refused(cli: Cli, settings: list[str], message: str) -> None:
    options = [part for setting in ["model=resnet20", *settings] for part in ("--set", setting)]
    failed = cli("check", "digits_lenet", *options)
    assert failed.code == 2
    assert message in failed.err
    assert "recipe.progressive_resizing" in failed.err
