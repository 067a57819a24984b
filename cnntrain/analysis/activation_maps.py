"""Where a network looks: class-activation maps."""

from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.models.summary import main_way


def activation_maps(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM: how much each place of the last convolutional layer speaks for a class.

    Selvaraju et al.: "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017,
    equations 1 and 2.

    Args:
        model: In evaluation mode; its parameters get no gradients.
        images: float32 (N, C, H, W), normalised.
        classes: int64 (N,).

    Returns:
        float32 (N, h, w), at least 0, not scaled, as fine as that layer.

    Raises:
        ValueError: No layer keeps the image's plane.
    """
    passed: list[tuple[nn.Module, Tensor]] = []
    with torch.enable_grad(), ExitStack() as hooks:
        for block in main_way(model):
            handle = block.register_forward_hook(lambda module, _, output: passed.append((module, output)))
            hooks.callback(handle.remove)
        outputs = model(images.detach().requires_grad_())
        plane = _last_plane(passed)
        chosen = outputs.gather(1, classes[:, None]).sum()
        (slopes,) = torch.autograd.grad(chosen, plane)
    weights = slopes.mean((2, 3), keepdim=True)
    return F.relu((weights * plane.detach()).sum(1))


def _last_plane(passed: list[tuple[nn.Module, Tensor]]) -> Tensor:
    """What leaves the last convolution (or block of them) with its activation, before a pooling makes it coarser."""
    found: Tensor | None = None
    for module, output in passed:
        if output.ndim == 4 and output[0, 0].numel() > 1:
            learns = any(True for _ in module.parameters())
            if learns or (found is not None and output.shape == found.shape):
                found = output
    if found is None:
        raise ValueError("no layer of this network keeps the image's plane")
    return found
