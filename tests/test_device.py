"""Devices: what can be known of a GPU without one, and what needs one."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cnntrain.config import load_config
from cnntrain.data import prepare_data
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.pipeline import build_pipeline
from cnntrain.errors import DeviceError
from cnntrain.learner import build_learner
from cnntrain.runtime.device import resolve_device, resolve_precision
from cnntrain.train import train_step

EVERYTHING = "data.augment=[random_crop, horizontal_flip, {rotation: {degrees: 5}}, affine, color_jitter, random_erasing, mixup, cutmix]"


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
    learner = build_learner(config, splits, torch.device("cpu"))
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    criterion = learner.criterion
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, torch.device("cuda:0"):
        images, targets = torch.empty(32, 1, 32, 32, dtype=torch.uint8), torch.empty(32, dtype=torch.int64)
        rows = [mode.from_tensor(table).to("cuda:0") for table in pipeline.draw(0, 1, 32)]
        batch = Batch(*pipeline(images, targets, rows))
        assert batch.images.device == batch.targets.device == torch.device("cuda:0")
        logits = torch.empty(32, 10)
        assert criterion.per_image(logits, batch.targets).device.type == "cuda"
        assert learner.task.num_correct(logits, batch.targets).device.type == "cuda"


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA on this machine")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "model",
    ["{name: lenet5}", "{name: lenet5, variant: original}", "{name: googlenet, variant: small}", "{name: resnet20}"],
)
def test_a_step_on_cuda_never_makes_the_host_wait(model: str, precision: str) -> None:
    settings = [f"model={model}", EVERYTHING, "data.channels=3", f"recipe.precision={precision}"]
    config = load_config("digits_lenet", settings).config
    device = torch.device("cuda")
    splits = prepare_data(config.data, device=device)
    learner = build_learner(config, splits, device)
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    batches = train_batches(splits.train, pipeline, 64, seed=0, epoch=1)
    train_step(learner, next(batches))
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            result = train_step(learner, next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(result.loss_sum)
