"""Whether an exported network does what the original does, measured on real images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cnntrain.data.images.preprocessing import Pixels
from cnntrain.errors import CheckpointError
from cnntrain.tasks.task import Task
from cnntrain.trained import Trained

TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-5  # of the largest value: float32 holds seven digits, and logits may be large
BATCH_SIZE = 32


class RealImages(NamedTuple):
    """What networks are compared on.

    Attributes:
        pixels: uint8 (N, stored_size, stored_size, C), N at least 1.
        origin: Where they are from, for people.
    """

    pixels: Pixels
    origin: str


Outputs = tuple[npt.NDArray[np.float32], ...]  # what `Task.exported` gives, each (N, K)
Run = Callable[[Pixels], Outputs]  # uint8 (N, stored_size, stored_size, C) -> outputs


class Difference(NamedTuple):
    """The largest absolute difference of an output, and what is allowed."""

    largest: float
    allowed: float


@dataclass(frozen=True)
class Agreement:
    """How far two networks agree.

    Attributes:
        images: Where they are from.
        num_images: Compared.
        batch_sizes: In which the exported network was given them.
        differences: Of each output, by name.
        num_other_decision: Images of which the two decide differently.
    """

    images: str
    num_images: int
    batch_sizes: tuple[int, ...]
    differences: dict[str, Difference]
    num_other_decision: int

    @property
    def holds(self) -> bool:
        """Whether the two are the same for every use; never where a difference is no number."""
        return self.num_other_decision == 0 and all(
            difference.largest <= difference.allowed for difference in self.differences.values()
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the card shows them; what is of most use comes first."""
        by_use = list(reversed(self.differences.items()))
        return {
            "images": self.images,
            "num_images": self.num_images,
            "batch_sizes": list(self.batch_sizes),
            **{f"max_difference_{name}": difference.largest for name, difference in by_use},
            **{f"allowed_difference_{name}": difference.allowed for name, difference in by_use},
            "num_images_with_another_top_class": self.num_other_decision,
        }


def compare(original: Run, exported: Run, images: RealImages, task: Task[Any]) -> Agreement:
    """Runs both on the same images; the exported one also on one image alone, on two, and on at least three.

    Args:
        original: Is given batches of `BATCH_SIZE`.
        exported: Is given batches of other sizes too.
        images: On which.
        task: What the outputs mean.

    Raises:
        CheckpointError: The original's own outputs are no finite numbers.
    """
    pixels = images.pixels
    expected = _joined(original(chunk) for chunk in _chunks(pixels))
    if not all(np.isfinite(values).all() for values in expected):
        raise CheckpointError("the network's outputs are not finite on these images, so there is nothing to compare")
    order = np.arange(max(3, len(pixels))) % len(pixels)
    batches = [order[:1], order[:2], *_chunks(order)]
    given = _joined(exported(pixels[batch]) for batch in batches)
    compared = np.concatenate(batches)
    expected = tuple(values[compared] for values in expected)
    before, after = (task.decisions(torch.from_numpy(values[0])) for values in (expected, given))
    other = (before != after).reshape(len(compared), -1).any(1).numpy()
    return Agreement(
        images=images.origin,
        num_images=len(pixels),
        batch_sizes=tuple(sorted({len(batch) for batch in batches})),
        differences={
            name: Difference(_largest(measured - wanted), max(TOLERANCE, RELATIVE_TOLERANCE * _largest(wanted)))
            for name, wanted, measured in zip(task.export_notes.outputs, expected, given, strict=True)
        },
        num_other_decision=len(np.unique(compared[other])),
    )


def run_trained(trained: Trained) -> Run:
    """A network as `cnntrain predict` runs it; on the CPU."""

    @torch.inference_mode()
    def run(images: Pixels) -> Outputs:
        outputs = trained.network(trained.preprocessing.network_input(torch.from_numpy(images)))
        return tuple(values.numpy() for values in trained.task.exported(outputs))

    return run


def _chunks(rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))


def _joined(parts: Iterable[Outputs]) -> Outputs:
    return tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))


def _largest(values: npt.NDArray[np.float32]) -> float:
    """Of the absolute values; NaN where one is NaN."""
    return float(np.abs(values).max())
