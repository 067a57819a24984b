"""Devices: what can be known of a GPU without one, and what needs one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cnntrain.config.loading import load_config
from cnntrain.config.schema import Data
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import DeviceError
from cnntrain.runtime.device import choose_fast_arithmetic, exact_float32, resolve_device, resolve_precision
from cnntrain.training.loop import epoch_batches, train_step
from cnntrain.training.setup import build_training

EVERYTHING = "data.augment=[random_crop, horizontal_flip, {rotation: {degrees: 5}}, affine, color_jitter, random_erasing, mixup, cutmix]"


def on_cuda(test: Callable[..., None]) -> Callable[..., None]:
    skip: Any = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA on this machine")
    return cast(Callable[..., None], pytest.mark.cuda(skip(test)))


def test_auto_is_the_best_device_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert resolve_device("auto").type == expected
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:0", "cuda:x", "auto:1", "", "cuda:"])
def test_unknown_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="unknown device"):
        resolve_device(name)


def test_auto_precision_is_bfloat16_where_the_hardware_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for has, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("cnntrain.runtime.device._cpu_has_bfloat16", lambda has=has: has)
        assert resolve_precision("auto", cpu) == expected
    assert resolve_precision("auto", torch.device("mps")) == "float32"
    assert resolve_precision("float16", cpu) == "float16"


def test_augmentation_forward_and_loss_stay_on_the_device() -> None:
    """With fake tensors PyTorch checks devices and shapes of a GPU that is not there."""
    config = load_config("digits_lenet", [EVERYTHING, "data.channels=3", "recipe.balance=weights"]).config
    splits = prepare_data(config.data)
    settings = build_training(config, splits, torch.device("cpu")).settings
    pipeline, task, criterion = settings.pipeline, settings.task, settings.task.criterion()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.device("cuda:0"):
        images = torch.empty(32, *splits.preprocessing.item_shape, dtype=torch.uint8)
        targets = torch.empty(32, dtype=torch.int64)
        rows = [mode.from_tensor(table).to("cuda:0") for table in pipeline.draw(0, 1, 32)]
        batch = Batch(*pipeline(images, targets, rows))
        assert batch.images.device == batch.targets.device == torch.device("cuda:0")
        logits = torch.empty(32, 10)
        assert criterion(logits, batch.targets).device.type == "cuda"
        assert task.num_correct(logits, batch.targets).device.type == "cuda"


@on_cuda
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "model",
    ["{name: lenet5}", "{name: lenet5, variant: original}", "{name: googlenet, variant: small}", "{name: resnet20}"],
)
def test_a_step_on_cuda_never_makes_the_host_wait(model: str, precision: str) -> None:
    assignments = [f"model={model}", EVERYTHING, "data.channels=3", f"recipe.precision={precision}"]
    config = load_config("digits_lenet", assignments).config
    device = torch.device("cuda")
    splits = prepare_data(config.data, device=device)
    state, settings, _ = build_training(config, splits, device)
    batches = epoch_batches(splits, settings, 1)
    train_step(state, next(batches), settings)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for measured in (False, True, False):
            done = train_step(state, next(batches), settings, measured=measured)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert math.isfinite(done.loss)


@on_cuda
@pytest.mark.parametrize("kind", ["device", "memory", "cache", "stream"])
def test_batches_on_cuda_do_not_depend_on_where_images_are_held(photos: Path, kind: str) -> None:
    data = Data.model_validate({"source": "image_folder", "root": str(photos), "image_size": 16, "storage": kind})
    there, here = (prepare_data(data, device=torch.device(name)) for name in ("cuda", "cpu"))
    pipeline = here.preprocessing.augmentation((), here.num_classes)
    for ours, theirs in zip(
        *(train_batches(one.train, pipeline, 5, seed=1, epoch=2) for one in (there, here)), strict=True
    ):
        assert ours.images.is_cuda
        torch.testing.assert_close(ours.images.cpu(), theirs.images)
        assert torch.equal(ours.targets.cpu(), theirs.targets)


@on_cuda
@pytest.mark.parametrize("micro_batch", ["null", "32"])
def test_compiled_steps_on_cuda_are_those_of_the_network(micro_batch: str) -> None:
    device, found = torch.device("cuda"), list[list[float]]()
    for compiled in ("true", "false"):
        assignments = [f"run.compile={compiled}", f"recipe.micro_batch={micro_batch}", "recipe.precision=float32"]
        config = load_config("digits_lenet", assignments).config
        splits = prepare_data(config.data, device=device)
        state, settings, _ = build_training(config, splits, device)
        batches = epoch_batches(splits, settings, 1)
        found.append([train_step(state, next(batches), settings).loss for _ in range(8)])
    assert found[0] == pytest.approx(found[1], rel=1e-2)


@on_cuda
def test_tf32_is_for_training_alone() -> None:
    choose_fast_arithmetic(torch.device("cuda"))
    assert torch.get_float32_matmul_precision() == "high"
    with exact_float32():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")
