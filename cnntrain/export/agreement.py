"""Whether an exported network does what the original does, measured on real images."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from cnntrain.data.images.preprocessing import Pixels
from cnntrain.errors import CheckpointError
from cnntrain.trained import Trained

TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 1e-5  # of the largest logit: float32 holds seven digits, and logits may be large
BATCH_SIZE = 32


class Outputs(NamedTuple):
    """What a network makes of N images, each float32 (N, K); the probabilities are the softmax of the logits."""

    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]


class RealImages(NamedTuple):
    """What networks are compared on.

    Attributes:
        pixels: uint8 (N, stored_size, stored_size, C), N at least 1.
        origin: Where they are from, for people.
    """

    pixels: Pixels
    origin: str


Run = Callable[[Pixels], Outputs]  # uint8 (N, stored_size, stored_size, C) -> outputs


@dataclass(frozen=True)
class Agreement:
    """How far two networks agree.

    Attributes:
        images: Where they are from.
        num_images: Compared.
        batch_sizes: In which the exported network was given them.
        max_difference_logits: Largest absolute difference.
        max_difference_probabilities: Likewise.
        largest_logit: Of the original, absolute.
        num_other_class: Images whose top class differs.
    """

    images: str
    num_images: int
    batch_sizes: tuple[int, ...]
    max_difference_logits: float
    max_difference_probabilities: float
    largest_logit: float
    num_other_class: int

    @property
    def logits_tolerance(self) -> float:
        """`TOLERANCE`, or more where the logits are beyond 10."""
        return max(TOLERANCE, RELATIVE_TOLERANCE * self.largest_logit)

    @property
    def holds(self) -> bool:
        """Whether the two are the same for every use; never where a difference is no number."""
        return (
            self.max_difference_logits <= self.logits_tolerance
            and self.max_difference_probabilities <= TOLERANCE
            and self.num_other_class == 0
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the card shows them."""
        return {
            "images": self.images,
            "num_images": self.num_images,
            "batch_sizes": list(self.batch_sizes),
            "max_difference_probabilities": self.max_difference_probabilities,
            "max_difference_logits": self.max_difference_logits,
            "allowed_difference_probabilities": TOLERANCE,
            "allowed_difference_logits": self.logits_tolerance,
            "num_images_with_another_top_class": self.num_other_class,
        }


def compare(original: Run, exported: Run, images: RealImages) -> Agreement:
    """Runs both on the same images; the exported one also on one image alone, on two, and on at least three.

    Args:
        original: Is given batches of `BATCH_SIZE`.
        exported: Is given batches of other sizes too.
        images: On which.

    Raises:
        CheckpointError: The original's own outputs are no finite numbers.
    """
    pixels = images.pixels
    expected = _joined(original(chunk) for chunk in _chunks(pixels))
    if not np.isfinite(expected.logits).all():
        raise CheckpointError("the network's outputs are not finite on these images, so there is nothing to compare")
    order = np.arange(max(3, len(pixels))) % len(pixels)
    batches = [order[:1], order[:2], *_chunks(order)]
    outputs = _joined(exported(pixels[batch]) for batch in batches)
    compared = np.concatenate(batches)
    other = outputs.logits.argmax(1) != expected.logits[compared].argmax(1)
    return Agreement(
        images=images.origin,
        num_images=len(pixels),
        batch_sizes=tuple(sorted({len(batch) for batch in batches})),
        max_difference_logits=_largest(outputs.logits - expected.logits[compared]),
        max_difference_probabilities=_largest(outputs.probabilities - expected.probabilities[compared]),
        largest_logit=_largest(expected.logits),
        num_other_class=len(np.unique(compared[other])),
    )


def run_trained(trained: Trained) -> Run:
    """A network as `cnntrain predict` runs it; on the CPU."""

    @torch.inference_mode()
    def run(images: Pixels) -> Outputs:
        logits = (
            trained.network(trained.preprocessing.network_input(torch.from_numpy(images))) / trained.task.temperature
        )
        return Outputs(logits.numpy(), logits.softmax(1).numpy())

    return run


def _chunks(rows: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    return (rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE))


def _joined(parts: Iterable[Outputs]) -> Outputs:
    return Outputs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _largest(values: npt.NDArray[np.float32]) -> float:
    """Of the absolute values; NaN where one is NaN."""
    return float(np.abs(values).max())
