"""Images as a bad camera or a bad network would have them: five common corruptions at five severities.

Hendrycks and Dietterich: "Benchmarking neural network robustness to common corruptions and perturbations", ICLR 2019;
the severities are those of its code, for CIFAR-10-C up to 64 px and for ImageNet-C above.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

Pixels = npt.NDArray[np.uint8]

NUM_SEVERITIES = 5
_LARGEST_SMALL_PX = 64

# (small images, large images); units below, where each is used.
_SEVERITIES = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1, 2, 3, 4, 6)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "JPEG": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelation": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
CORRUPTIONS = tuple(_SEVERITIES)


def corrupt(images: Pixels, name: str, severity: int, seed: int = 0) -> Pixels:
    """The same images, corrupted.

    Args:
        images: uint8 (N, H, W, C), C 1 or 3.
        name: One of `CORRUPTIONS`.
        severity: 1 to 5.
        seed: Of the noise.
    """
    small, large = _SEVERITIES[name]
    amount = (small if images.shape[1] <= _LARGEST_SMALL_PX else large)[severity - 1]
    match name:
        case "noise":  # its standard deviation, of values in [0, 1]
            noise = np.random.default_rng(seed).normal(scale=255 * amount, size=images.shape)
            return _to_bytes(images + noise)
        case "contrast":  # what is left of it, around the mean of each image and channel
            mean = images.mean((1, 2), keepdims=True)
            return _to_bytes((images - mean) * amount + mean)
        case "blur":  # the Gaussian's standard deviation, px
            return _each(images, lambda image: image.filter(ImageFilter.GaussianBlur(amount)))
        case "JPEG":  # quality
            return _each(images, lambda image: _compressed(image, int(amount)))
        case "pixelation":  # what is left of each side
            return _each(images, lambda image: _pixelated(image, amount))
    raise ValueError(f"no corruption is called {name!r}")


def _each(images: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    pictures = (Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image) for image in images)
    return np.stack([np.asarray(change(picture)).reshape(images.shape[1:]) for picture in pictures])


def _compressed(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)


def _pixelated(image: Image.Image, share: float) -> Image.Image:
    width, height = max(1, int(image.width * share)), max(1, int(image.height * share))
    return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _to_bytes(values: npt.NDArray[np.float64]) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)
