"""Images changed by an opponent who knows the network: FGSM and PGD, bounded per pixel, on images in [0, 1]."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

STRENGTHS = tuple(levels / 255 for levels in (1, 2, 4, 8, 16, 32))
PGD_STEPS = 10

Classifier = Callable[[Tensor], Tensor]  # images float32 (N, C, H, W) in [0, 1] -> logits (N, K); normalises inside


def fgsm(classify: Classifier, images: Tensor, targets: Tensor, strength: float) -> Tensor:
    """One step along the sign of the loss's gradient.

    Goodfellow, Shlens and Szegedy: "Explaining and harnessing adversarial examples", ICLR 2015, section 4.

    Args:
        classify: The network.
        images: float32 (N, C, H, W) in [0, 1].
        targets: int64 (N,).
        strength: The largest change of a value.

    Returns:
        Changed images, in [0, 1] too.
    """
    return (images + strength * _slope(classify, images, targets).sign()).clamp(0, 1)


def pgd(
    classify: Classifier, images: Tensor, targets: Tensor, strength: float, *, seed: int = 0, steps: int = PGD_STEPS
) -> Tensor:
    """Several smaller steps from a random start, each brought back to within `strength` of the image.

    Madry et al.: "Towards deep learning models resistant to adversarial attacks", ICLR 2018, section 2.1; steps of
    2.5 * strength / steps, as section 5 has it.

    Args:
        classify: The network.
        images: float32 (N, C, H, W) in [0, 1].
        targets: int64 (N,).
        strength: The largest change of a value.
        seed: Of the start.
        steps: How many.

    Returns:
        Changed images, in [0, 1] too.
    """
    rng = torch.Generator().manual_seed(seed)
    start = torch.rand(images.shape, generator=rng).to(images.device)
    lowest, highest = (images - strength).clamp(0, 1), (images + strength).clamp(0, 1)
    changed = (images + (2 * start - 1) * strength).clamp(lowest, highest)
    for _ in range(steps):
        step = 2.5 * strength / steps * _slope(classify, changed, targets).sign()
        changed = (changed + step).clamp(lowest, highest)
    return changed


def _slope(classify: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    with torch.enable_grad():
        images = images.detach().requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(classify(images), targets, reduction="sum"), images)
    return slope
