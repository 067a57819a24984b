"""What one convolution does to an image: kernels by name or written out, and their result."""

import json
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from cnntrain.config.faults import suggest
from cnntrain.errors import ConfigError, DataError

LARGEST = 31  # side of a kernel

KERNELS: dict[str, list[list[float]]] = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "blur": [[1 / 25] * 5] * 5,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "sobel-x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "sobel-y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
}
PADDINGS = ("zero", "reflect", "none")


class Kernel(NamedTuple):
    """A kernel and what to call it; weights are float32 (kh, kw)."""

    name: str
    weights: Tensor


def parse_kernel(text: str) -> Kernel:
    """A kernel by its name, or written out as rows of numbers: `[[0, 1], [1, 0]]`.

    Raises:
        ConfigError: It is neither, or not a rectangle of finite numbers of at most 31 x 31.
    """
    if text in KERNELS:
        return Kernel(text, torch.tensor(KERNELS[text], dtype=torch.float32))
    allowed = f"allowed: {', '.join(KERNELS)}, or rows of numbers such as '[[-1, 1], [-1, 1]]'"
    if not text.lstrip().startswith("["):
        raise ConfigError(f"--kernel {text}: no such kernel{suggest(text, KERNELS)} ({allowed})")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"--kernel {text[:60]}: this is no list of rows of numbers ({allowed}); with quotes around it, "
            f"so that the shell leaves it whole"
        ) from error
    if fault := _fault(rows):
        raise ConfigError(f"--kernel {text[:60]}: {fault} ({allowed})")
    return Kernel(f"{len(rows)}x{len(rows[0])}", torch.tensor(rows, dtype=torch.float32))


def _fault(rows: object) -> str | None:
    """What is wrong with a kernel that was written out; None where nothing is."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        return "a kernel is a list of rows, and each row a list of at least one number"
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1:
        return f"all rows must be equally long; these have {widths[0]} to {widths[-1]} numbers"
    if max(len(rows), widths[0]) > LARGEST:
        return f"it has {len(rows)} x {widths[0]} numbers, and {LARGEST} x {LARGEST} is the largest"
    for value in (value for row in rows for value in row):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{json.dumps(value)[:40]} is no number"
        if not abs(value) <= 1e6:  # nor is it NaN
            return "its numbers must be finite, and between -1000000 and 1000000"
    return None


def convolve(
    image: Tensor, kernel: Tensor, name: str = "the image", *, padding: str = "zero", stride: int = 1
) -> Tensor:
    """Cross-correlation, which `nn.Conv2d` calls convolution: the kernel is not turned round. Each channel alone.

    Args:
        image: float32 (C, H, W).
        kernel: float32 (kh, kw).
        padding: `zero` or `reflect`, so that with a stride of 1 the size stays (of an even kernel's padding the larger
            half lies right and below); or `none`.
        stride: In both directions, px.
        name: Of the image, for messages.

    Returns:
        float32 (C, h, w).

    Raises:
        DataError: The image is too small for the kernel.
    """
    height, width = kernel.shape
    top, left = (height - 1) // 2, (width - 1) // 2
    bottom, right = height - 1 - top, width - 1 - left
    least = (height, width) if padding == "none" else (bottom + 1, right + 1) if padding == "reflect" else (1, 1)
    if any(side < needed for side, needed in zip(image.shape[1:], least, strict=True)):
        raise DataError(
            f"{name}: a kernel of {height} x {width} with --padding {padding} needs an image of at least {least[0]} x "
            f"{least[1]} px (height x width), and this one has {image.shape[1]} x {image.shape[2]}; "
            f"--padding zero takes any"
        )
    images = image[:, None]
    if padding != "none":
        images = F.pad(images, (left, right, top, bottom), mode="reflect" if padding == "reflect" else "constant")
    return F.conv2d(images, kernel[None, None], stride=stride)[:, 0]


class Shown(NamedTuple):
    """Numbers as a picture: uint8 (h, w, C), and how they were turned into one, for people."""

    pixels: npt.NDArray[np.uint8]
    how: str


def show(result: Tensor, kernel: Tensor) -> Shown:
    """The result of a convolution of an image in [0, 1], as something to look at.

    Args:
        result: float32 (C, h, w).
        kernel: What it was convolved with.
    """
    low, high = float(result.min()), float(result.max())
    if low >= -1e-6 and high <= 1 + 1e-6:
        levels, how = result, "shown as it is: black 0, white 1"
    elif abs(float(kernel.sum()) - 1) < 1e-5:  # it keeps the brightness
        levels, how = result, f"from {low:.2g} to {high:.2g}, cut off at black 0 and white 1"
    elif low >= 0:
        levels, how = result / high, f"black 0, white {high:.3g}"
    else:
        # A few strong edges would leave everything else grey.
        largest = max(float(result.abs().flatten().quantile(0.995)), 1e-6 * max(-low, high))
        levels = 0.5 + 0.5 * result / largest
        how = f"grey 0, black below {-largest:.3g}, white above {largest:.3g}"
    return Shown((levels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy(), how)
