"""One number that logits are divided by, so that a network is as sure as it is right."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.tasks.intervals import Interval

MOST_LOGITS = 2**24  # that a temperature is fitted to: all of 16,000 images of 1,000 classes
_CHI_SQUARED_95 = 3.841458820694124
_WIDEST = 100.0  # temperatures from 1/100 to 100


def fit_temperature(outputs: Tensor, targets: Tensor) -> float:
    """The number that logits are divided by so that the likelihood of the targets is largest.

    Guo et al.: "On calibration of modern neural networks", ICML 2017, section 4.2. The order of the classes, and so
    accuracy, stays as it is. The loss is convex in 1 / T, so that bisecting its slope finds the minimum.

    Args:
        outputs: float32 (N, K), of images that were not trained on.
        targets: int64 (N,).

    Returns:
        Between 0.01 and 100; 1 where there is no best one, such as when every image is right: then the colder, the
        better, which says nothing of other images.
    """
    outputs, targets = _affordable(outputs, targets)
    logits = outputs.double()
    logits = logits - logits.gather(1, targets[:, None])  # the target's becomes 0

    def slope(inverse: float) -> float:
        """The derivative of the mean loss, log(sum(exp(logits / T))), by 1 / T."""
        return float((F.softmax(logits * inverse, dim=1) * logits).sum(1).mean())

    low, high = 1 / _WIDEST, _WIDEST
    if slope(high) <= 0 or slope(low) >= 0:
        return 1.0
    for _ in range(60):
        middle = float(np.sqrt(low * high))
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / float(np.sqrt(low * high))


def temperature_interval(outputs: Tensor, targets: Tensor, temperature: float) -> Interval:
    """The temperatures that so many images cannot tell from the fitted one, with 95 % confidence.

    Those whose likelihood is not clearly less: the logarithm of its ratio to the largest is at most half of 3.84, the
    95 % point of the chi-squared distribution with one degree of freedom (Wilks 1938).

    Args:
        outputs: float32 (N, K), as for `fit_temperature`.
        targets: int64 (N,).
        temperature: What that found.
    """
    outputs, targets = _affordable(outputs, targets)
    logits = outputs.double()

    def loss(inverse: float) -> float:
        """Summed over the images."""
        return float(F.cross_entropy(logits * inverse, targets, reduction="sum"))

    def end(outer: float) -> float:
        """Between the fitted temperature and the widest one, where the likelihood has fallen so far."""
        inner, highest = 1 / temperature, loss(1 / temperature) + _CHI_SQUARED_95 / 2
        if loss(outer) <= highest:
            return outer
        for _ in range(40):
            middle = float(np.sqrt(inner * outer))
            inner, outer = (middle, outer) if loss(middle) <= highest else (inner, middle)
        return inner

    return Interval(1 / end(_WIDEST), 1 / end(1 / _WIDEST))


def _affordable(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """On the CPU; where images and classes are many, as many of the images as `MOST_LOGITS` allows, evenly spread."""
    most = max(200, MOST_LOGITS // outputs.shape[1])
    if len(targets) > most:
        chosen = torch.linspace(0, len(targets) - 1, most, dtype=torch.float64).round().long().to(outputs.device)
        outputs, targets = outputs[chosen], targets.to(outputs.device)[chosen]
    return outputs.cpu(), targets.cpu()
