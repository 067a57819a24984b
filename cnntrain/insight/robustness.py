"""How much of a network's accuracy is left when images are attacked or corrupted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.tensors import centre_crop
from cnntrain.insight.attacks import PGD_STEPS, STRENGTHS, Classifier, fgsm, pgd
from cnntrain.insight.corruptions import CORRUPTIONS, NUM_SEVERITIES, corrupt
from cnntrain.runtime.device import exact_float32
from cnntrain.tasks.task import Task

Attack = Callable[[Classifier, Tensor, Tensor, float], Tensor]

# An attack's step goes forward and back, which costs three times a forward pass.
PASSES_PER_IMAGE = 1 + len(STRENGTHS) * (4 + 3 * PGD_STEPS + 1) + len(CORRUPTIONS) * NUM_SEVERITIES


@dataclass(frozen=True)
class Robustness:
    """Accuracies, fractions.

    Attributes:
        num_images: On which all were measured.
        clean: As the images are.
        strengths: Largest change of a pixel by an attack, in [0, 1].
        attacked: By attack, one for each strength.
        corrupted: By corruption, one for each severity from 1.
    """

    num_images: int
    clean: float
    strengths: tuple[float, ...]
    attacked: dict[str, tuple[float, ...]]
    corrupted: dict[str, tuple[float, ...]]

    @property
    def mean_corrupted(self) -> float:
        """Over corruptions and severities."""
        return float(np.mean(list(self.corrupted.values())))


def robustness(
    model: nn.Module,
    items: Tensor,
    targets: Tensor,
    *,
    preprocessing: Preprocessing,
    task: Task[Any],
    batch_size: int = 64,
) -> Robustness:
    """Attacks and corrupts images, and looks what is still right.

    Args:
        model: In evaluation mode.
        items: Images as they are stored, uint8 (N, stored_size, stored_size, C), on the model's device.
        targets: int64 (N,), there too.
        preprocessing: The checkpoint's; attacks see images before it normalises.
        task: What the outputs decide.
        batch_size: Images at once.
    """
    images = centre_crop(preprocessing.laid_out(items), preprocessing.image_size)
    trial = _Trial(model, images, targets, preprocessing, task, batch_size)
    with exact_float32():
        return Robustness(
            num_images=len(targets),
            clean=trial.accuracy(trial.images.split(batch_size)),
            strengths=STRENGTHS,
            attacked={"FGSM": trial.attacked(fgsm), "PGD": trial.attacked(pgd)},
            corrupted={name: trial.corrupted(name) for name in CORRUPTIONS},
        )


@dataclass(frozen=True)
class _Trial:
    """A network, and the images on which it is tried.

    Attributes:
        model: In evaluation mode.
        images: uint8 (N, C, image_size, image_size).
        targets: int64 (N,).
        preprocessing: The checkpoint's.
        task: What the outputs decide.
        batch_size: Images at once.
    """

    model: nn.Module
    images: Tensor
    targets: Tensor
    preprocessing: Preprocessing
    task: Task[Any]
    batch_size: int

    def accuracy(self, batches: Iterable[Tensor]) -> float:
        """Of images as they were changed, uint8 or float32 in [0, 1]."""
        with torch.inference_mode():
            outputs = (self.model(self.preprocessing.normalise(batch)) for batch in batches)
            predicted = torch.cat([self.task.decisions(some) for some in outputs])
        return float((predicted == self.targets).float().mean())

    def attacked(self, attack: Attack) -> tuple[float, ...]:
        """What an attack leaves, for each strength."""
        values = self.preprocessing.mean, self.preprocessing.std
        mean, std = (torch.tensor(value, device=self.images.device).view(-1, 1, 1) for value in values)

        def classify(shares: Tensor) -> Tensor:  # `normalise` works in place, where gradients cannot follow
            outputs: Tensor = self.model((shares - mean) / std)
            return outputs

        def change(strength: float) -> Iterator[Tensor]:
            batches = zip(self.images.split(self.batch_size), self.targets.split(self.batch_size), strict=True)
            for batch, labels in batches:
                with torch.inference_mode(mode=False):
                    changed = attack(classify, batch / 255, labels, strength)
                yield changed

        return tuple(self.accuracy(change(strength)) for strength in STRENGTHS)

    def corrupted(self, name: str) -> tuple[float, ...]:
        """What a corruption leaves, for each severity."""
        pixels = self.images.permute(0, 2, 3, 1).cpu().numpy()

        def change(severity: int) -> Iterator[Tensor]:
            changed = torch.from_numpy(corrupt(pixels, name, severity)).to(self.images.device).permute(0, 3, 1, 2)
            yield from changed.split(self.batch_size)

        return tuple(self.accuracy(change(severity)) for severity in range(1, NUM_SEVERITIES + 1))
