"""What is shared by all kinds of input: stores and batches take items of any shape and dtype."""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cnntrain.data.batches import eval_batches, train_batches
from cnntrain.data.inputs import Inputs
from cnntrain.data.pipeline import Augmentation, AugmentationPipeline, Table
from cnntrain.data.sources import SOURCES, is_folder
from cnntrain.data.split import Split
from cnntrain.data.stores import MappedStore, ResidentStore, Store, StreamedStore

CPU = torch.device("cpu")
VALUES = torch.arange(10 * 5 * 2, dtype=torch.float32).view(10, 5, 2)  # ten series of five steps with two channels


class Series:
    """The preprocessing of series float32 (N, L, C), as a second kind of input would have it."""

    inputs = Inputs("series", (2, 5))
    item_shape = (5, 2)

    def laid_out(self, items: Tensor) -> Tensor:
        return items.permute(0, 2, 1)

    def normalise(self, batch: Tensor) -> Tensor:
        return (batch - 50) / 10

    def show(self, batch: Tensor) -> Tensor:
        return (batch * 10 + 50).permute(0, 2, 1)

    def network_input(self, items: Tensor) -> Tensor:
        return self.normalise(self.laid_out(items))

    def resized(self, batch: Tensor, size: int) -> Tensor:
        return batch[..., :size]

    def augmentation(self, options: Sequence[Any], num_outputs: int) -> AugmentationPipeline:
        steps: tuple[Augmentation, ...] = tuple(options)
        return AugmentationPipeline(steps, None, self, num_outputs)


class Shift:
    """Adds a random number to a whole series."""

    def draw(self, rng: np.random.Generator, num_examples: int) -> Table:
        return rng.integers(1, 9, (num_examples, 1))

    def __call__(self, batch: Tensor, draws: Tensor) -> Tensor:
        return batch + draws[:, :, None]


STORES: dict[str, Store] = {
    "resident": ResidentStore(VALUES, CPU),
    "mapped": MappedStore(VALUES, CPU),
    "streamed": StreamedStore(lambda index: VALUES[index].numpy(), (5, 2), 2, CPU, torch.float32),
}


@pytest.mark.parametrize("kind", STORES)
def test_batches_of_another_kind_of_input_need_only_its_preprocessing(kind: str) -> None:
    digests = np.zeros((10, 32), dtype=np.uint8)
    split = Split(STORES[kind], torch.arange(10), torch.arange(10) % 3, str, digests)
    images = torch.cat([batch.images for batch in eval_batches(split, Series(), 4)])
    assert torch.equal(images, (VALUES.permute(0, 2, 1) - 50) / 10)
    assert torch.equal(Series().show(images), VALUES)

    pipeline = Series().augmentation([Shift()], 3)
    batches = list(train_batches(split, pipeline, 4, seed=0, epoch=1, image_size=3))
    assert [tuple(batch.images.shape) for batch in batches] == [(4, 2, 3), (4, 2, 3), (2, 2, 3)]
    for batch in batches:  # every series is one of ours, moved by a whole number
        start = Series().show(batch.images)[:, 0, 0]
        which = (start - 1).div(10, rounding_mode="floor").long()
        torch.testing.assert_close(batch.targets, which % 3)


def test_facts_about_data_sets_need_neither_pytorch_nor_numpy() -> None:
    code = "import sys; from cnntrain.data.sources import is_folder; is_folder('mnist');"
    code += "print({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "set()\n"


def test_a_name_that_is_no_data_set_is_no_folder() -> None:
    assert [name for name in SOURCES if is_folder(name)] == ["image_folder"]
    assert not is_folder("misspelt")
    assert not is_folder(None)
