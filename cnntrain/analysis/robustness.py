"""How much of a network's accuracy is left when images are attacked or corrupted."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnntrain.analysis.attacks import PGD_STEPS, STRENGTHS, Classifier, fgsm, pgd
from cnntrain.analysis.corruptions import CORRUPTIONS, NUM_SEVERITIES, corrupt
from cnntrain.data.preprocessing import Preprocessing, centre_crop
from cnntrain.runtime.device import exact_float32

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
    model: nn.Module, images: Tensor, targets: Tensor, preprocessing: Preprocessing, *, batch_size: int = 64
) -> Robustness:
    """Attacks and corrupts images, and looks what is still right.

    Args:
        model: In evaluation mode.
        images: uint8 (N, C, stored_size, stored_size), on the model's device.
        targets: int64 (N,), there too.
        preprocessing: The checkpoint's; attacks see images before it normalises.
        batch_size: Images at once.
    """
    images = centre_crop(images, preprocessing.image_size)
    pixels = images.permute(0, 2, 3, 1).cpu().numpy()
    mean, std = (torch.tensor(v, device=images.device).view(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))

    def classify(shares: Tensor) -> Tensor:  # `normalise` works in place, where gradients cannot follow
        outputs: Tensor = model((shares - mean) / std)
        return outputs

    def accuracy(changed: Iterable[Tensor]) -> float:
        """Of batches, uint8 or float32 in [0, 1]."""
        with torch.inference_mode():
            found = torch.cat([model(preprocessing.normalise(batch)).argmax(1) for batch in changed])
        return float((found == targets).float().mean())

    def attacked(attack: Attack) -> tuple[float, ...]:
        def change(strength: float) -> Iterator[Tensor]:
            for batch, labels in zip(images.split(batch_size), targets.split(batch_size), strict=True):
                with torch.inference_mode(mode=False):
                    changed = attack(classify, batch / 255, labels, strength)
                yield changed

        return tuple(accuracy(change(strength)) for strength in STRENGTHS)

    def corrupted(name: str, severity: int) -> float:
        changed = torch.from_numpy(corrupt(pixels, name, severity)).to(images.device).permute(0, 3, 1, 2)
        return accuracy(changed.split(batch_size))

    with exact_float32():
        return Robustness(
            num_images=len(targets),
            clean=accuracy(images.split(batch_size)),
            strengths=STRENGTHS,
            attacked={"FGSM": attacked(fgsm), "PGD": attacked(pgd)},
            corrupted={
                name: tuple(corrupted(name, severity) for severity in range(1, NUM_SEVERITIES + 1))
                for name in CORRUPTIONS
            },
        )
