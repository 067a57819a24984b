"""Proof that each network is what it claims to be and can learn. `scripts/proof` runs all of it, the gate a part.

The gate leaves out what takes long (marked `proof`): overfitting and exporting the large networks, and torch.compile.
"""

import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import without_dropout
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor, nn

from cnntrain.config.loading import load_config
from cnntrain.data.inputs import image_inputs
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import ConfigError
from cnntrain.models import CATALOGUE, Model, build_model
from cnntrain.models.options import Entry
from cnntrain.tasks.losses import CrossEntropy
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.training.loop import epoch_batches, train_step
from cnntrain.training.setup import build_training

DEEPER = {"resnet32", "resnet44", "resnet56", "resnet110", "resnet34", "resnet101", "resnet152"}
LARGE = {
    "alexnet paper",
    "alexnet torchvision",
    "googlenet paper",
    "googlenet torchvision",
    "resnet18 stem: small",
    "resnet50",
    "resnet9",
}
LABELS = [f"{entry.name} {entry.variant}".strip() for entry in CATALOGUE]
OPTIONS: list[dict[str, Any]] = [
    {"name": "resnet20", "preactivation": True},
    {"name": "resnet20", "shortcut": "projection", "zero_init": True},
    {"name": "resnet50", "preactivation": True, "shortcut": "padding", "stride_placement": "v1"},
    {"name": "lenet5", "activation": "tanh", "pooling": "average"},
    {"name": "googlenet", "auxiliary": False},
]

every_network = pytest.mark.parametrize("entry", CATALOGUE, ids=LABELS)
every_network_slowly = pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=label, marks=pytest.mark.proof if entry.name in DEEPER or label in LARGE else ())
        for entry, label in zip(CATALOGUE, LABELS, strict=True)
    ],
)


def size_for(entry: Entry) -> int:
    """Small enough to be quick."""
    return max(entry.smallest_size, 16)


def build(config: Any, channels: int, size: int, classes: int = 10) -> nn.Module:
    model = TypeAdapter(Model).validate_python(config)
    return build_model(model, image_inputs(channels, size), classes)


def build_entry(entry: Entry) -> nn.Module:
    return build(entry.config, entry.inputs.channels, size_for(entry))


def example(entry: Entry, num_images: int = 4) -> Tensor:
    shape = (num_images, entry.inputs.channels, size_for(entry), size_for(entry))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def real_images(entry: Entry, folder: Path | None) -> tuple[Tensor, Tensor]:
    """32 real images of 8 classes: of CIFAR-10 where it can be had, else the digits of scikit-learn."""
    mode, size = ("L" if entry.inputs.channels == 1 else "RGB"), size_for(entry)
    if folder is not None:
        classes = sorted((folder / "cifar10-jpeg/train").iterdir())[:8]
        pictures: list[Image.Image] = [Image.open(file) for name in classes for file in sorted(name.iterdir())[:4]]
    else:
        from sklearn.datasets import load_digits

        digits = load_digits()
        chosen = [index for digit in range(8) for index in np.flatnonzero(digits.target == digit)[:4]]
        pictures = [Image.fromarray((digits.images[index] * 15).astype(np.uint8)) for index in chosen]
    pixels = np.stack([np.asarray(picture.convert(mode).resize((size, size))) for picture in pictures])
    images = torch.from_numpy(pixels).float().reshape(32, size, size, -1).permute(0, 3, 1, 2)
    return (images - images.mean()) / images.std(), torch.arange(8).repeat_interleave(4)


def accuracies(model: nn.Module, images: Tensor, targets: Tensor, steps: int) -> Iterator[float]:
    """Accuracy on the batch itself, in evaluation mode, after each few steps of training on it."""
    task, criterion = SingleLabel(tuple("0123456789")), CrossEntropy().build(10)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for step in range(1, steps + 1):
        model.train()
        loss, *_ = task.training_loss(criterion, model(images), targets)
        optimizer.zero_grad()
        (loss / len(images)).backward()
        optimizer.step()
        if step % 5 == 0:
            with torch.no_grad():
                yield float((model.eval()(images).argmax(1) == targets).float().mean())


@every_network_slowly
def test_each_network_overfits_32_real_images(entry: Entry) -> None:
    folder = Path(os.environ.get("CNNTRAIN_TEST_DATA", ""))
    images, targets = real_images(entry, folder if (folder / "cifar10-jpeg").is_dir() else None)
    torch.manual_seed(0)
    found = accuracies(without_dropout(build_entry(entry)), images, targets, steps=300)
    assert any(accuracy == 1.0 for accuracy in found)


@every_network
def test_the_gradient_reaches_every_parameter(entry: Entry) -> None:
    model = without_dropout(build_entry(entry)).train()
    loss, *_ = SingleLabel(tuple("0123456789")).training_loss(
        CrossEntropy().build(10), model(example(entry)), torch.arange(4)
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        assert torch.isfinite(parameter.grad).all(), name


@every_network
def test_evaluation_is_deterministic_and_takes_a_batch_of_one(entry: Entry) -> None:
    model = build_entry(entry).eval()
    images = example(entry)
    with torch.no_grad():
        together = model(images)
        assert torch.equal(model(images), together)
        alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("googlenet", 15)])
def test_one_image_is_too_few_where_batch_norm_has_one_value_to_take_a_mean_of(name: str, size: int) -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        build(name, 3, size).train()(torch.zeros(1, 3, size, size))


@every_network
def test_channels_last_and_bfloat16_give_the_same_answer(entry: Entry) -> None:
    model = build_entry(entry).eval()
    images = example(entry)
    with torch.no_grad():
        expected = model(images)
        model = model.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
        spread = float(expected.std())
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4 * spread)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(images).float()
    assert float((found - expected).square().mean().sqrt()) < 0.1 * spread


@every_network_slowly
def test_each_network_exports(entry: Entry) -> None:
    model, images = build_entry(entry).eval(), example(entry, 2)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    images = example(entry, 3)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), model(images), rtol=1e-4, atol=1e-4)


@pytest.mark.proof
@pytest.mark.parametrize("mode", ["train", "eval"])
@every_network
def test_each_network_compiles(entry: Entry, mode: str) -> None:
    torch._dynamo.reset()
    # In double precision, because deep networks magnify rounding a thousandfold: batch norm over the few values of a
    # small map in training, untrained running statistics in evaluation.
    model = without_dropout(build_entry(entry)).double().train(mode == "train")
    images = example(entry).double()
    with torch.no_grad():
        expected, found = model(images), torch.compile(model)(images)
    if not isinstance(expected, Tensor):
        expected, found = expected.logits, found.logits
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.proof
def test_compiled_training_is_that_of_the_network() -> None:
    found = list[list[float]]()
    for compiled in ("true", "false"):
        config = load_config("digits_lenet", [f"run.compile={compiled}", "recipe.precision=float32"]).config
        splits = prepare_data(config.data)
        state, settings, _ = build_training(config, splits, torch.device("cpu"))
        batches = epoch_batches(splits, settings, epoch=1)
        found.append([train_step(state, next(batches), settings).loss for _ in range(8)])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


GOLDEN = {  # first logit and standard deviation of the logits
    "lenet5 modern": [-0.0576, 0.064546],
    "lenet5 original": [-83.994, 0.023903],
    "alexnet paper": [-0.13921, 0.94356],
    "alexnet torchvision": [-0.0054037, 0.010449],
    "alexnet small": [0.0020988, 0.14151],
    "googlenet paper": [0.09609, 0.41037],
    "googlenet torchvision": [0.029467, 0.02035],
    "googlenet small": [-1.2058, 1.0497],
    "resnet20": [0.18616, 0.34008],
    "resnet32": [-5.5799, 28.64],
    "resnet44": [-65.178, 106.53],
    "resnet56": [1493.5, 3080.1],
    "resnet110": [-5.1908e+05, 4.5e+06],
    "resnet18": [-0.16334, 0.11021],
    "resnet18 stem: small": [0.39362, 0.19317],
    "resnet34": [0.11605, 0.27007],
    "resnet50": [0.28423, 1.319],
    "resnet101": [-1.0694, 27.797],
    "resnet152": [4192.5, 6649.2],
    "resnet9": [-0.00097455, 0.0062848],
}  # fmt: skip


@every_network
def test_a_forward_value_at_a_fixed_seed_stays_what_it_is(entry: Entry) -> None:
    model, size = build_entry(entry).eval(), size_for(entry)
    images = torch.linspace(-1, 1, entry.inputs.channels * size * size).reshape(1, entry.inputs.channels, size, size)
    with torch.no_grad():
        outputs = model(images)[0]
    found = [float(outputs[0]), float(outputs.std())]
    assert found == pytest.approx(GOLDEN[f"{entry.name} {entry.variant}".strip()], rel=2e-3, abs=1e-5)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in CATALOGUE if entry.name not in DEEPER],
    ids=lambda entry: f"{entry.name} {entry.variant}".strip(),
)
def test_training_starts_near_the_loss_at_chance(entry: Entry) -> None:
    with torch.no_grad():
        outputs = without_dropout(build_entry(entry)).train()(example(entry, 16))
    logits = outputs if isinstance(outputs, Tensor) else outputs.logits
    loss = float(nn.functional.cross_entropy(logits, torch.arange(16) % 10))
    assert loss == pytest.approx(math.log(10), rel=0.5)


@every_network
def test_the_smallest_size_is_true(entry: Entry) -> None:
    smallest = entry.smallest_size
    with torch.no_grad():
        outputs = build(entry.config, entry.inputs.channels, smallest).eval()(
            torch.zeros(2, entry.inputs.channels, smallest, smallest)
        )
    assert outputs.shape == (2, 10)
    with pytest.raises(ConfigError, match=f"needs images of at least {smallest} px .got {smallest - 1}.") as caught:
        build(entry.config, entry.inputs.channels, smallest - 1)
    assert caught.value.key == "data.image_size"


@pytest.mark.parametrize(
    "config", [*(entry.config for entry in CATALOGUE if entry.name not in DEEPER), *OPTIONS], ids=str
)
def test_any_size_and_channels_give_the_right_shape_or_the_named_error(config: dict[str, Any]) -> None:
    rng = random.Random(str(config))
    for _ in range(4):
        channels, size, classes = (
            rng.choice([1, 3]),
            rng.randint(*rng.choice([(1, 100), (200, 240)])),
            rng.randint(2, 12),
        )
        try:
            with torch.device("meta"):  # shapes without arithmetic
                model = build(config, channels, size, classes)
                model.train()(torch.zeros(2, channels, size, size))
                assert model.eval()(torch.zeros(2, channels, size, size)).shape == (2, classes)
        except ConfigError as error:
            assert "needs images of at least" in str(error)  # noqa: PT017 (either way is right)
