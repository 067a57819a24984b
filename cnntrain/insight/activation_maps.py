"""Where a network looks: class-activation maps."""

from contextlib import ExitStack
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.models.stages import stages
from cnntrain.models.summary import main_way

FINE = 7  # places on a side of a map that is worth enlarging: ResNet's last stage at 224 px, as in the paper


class ActivationMaps(NamedTuple):
    """Where a network looks.

    Attributes:
        heat: float32 (N, h, w), at least 0, not scaled, as fine as the layer.
        layer: Whose it is, by the stage that `cnntrain summary` prints, or by its own name in a network without stages.
    """

    heat: Tensor
    layer: str

    @property
    def is_coarse(self) -> bool:
        """Whether a place of the map covers much of the image."""
        return min(self.heat.shape[1:]) < FINE

    @property
    def described(self) -> str:
        """Which layer, and how fine it is: `a map of 8 x 8 at layer2`."""
        height, width = self.heat.shape[1:]
        coarse = ", so coarse that it shows little more than in which part of the image" if self.is_coarse else ""
        return f"a map of {height} x {width} at {self.layer}{coarse}"


def activation_maps(model: nn.Module, images: Tensor, classes: Tensor) -> ActivationMaps:
    """Grad-CAM: how much each place of a late layer speaks for a class.

    Selvaraju et al.: "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017,
    equations 1 and 2. The layer is the last one with a map of at least 7 x 7, because enlarging a coarser one paints
    the whole image; in networks without such a layer it is the last of those with the finest map.

    Args:
        model: In evaluation mode; its parameters get no gradients.
        images: float32 (N, C, H, W), normalised.
        classes: int64 (N,).

    Raises:
        ValueError: No layer keeps the image's plane.
    """
    passed: list[tuple[nn.Module, Tensor]] = []
    with torch.enable_grad(), ExitStack() as hooks:
        for block in main_way(model):
            handle = block.register_forward_hook(lambda module, _, output: passed.append((module, output)))
            hooks.callback(handle.remove)
        outputs = model(images.detach().requires_grad_())
        block, plane = _chosen_plane(passed)
        chosen = outputs.gather(1, classes[:, None]).sum()
        (slopes,) = torch.autograd.grad(chosen, plane)
    weights = slopes.mean((2, 3), keepdim=True)
    return ActivationMaps(F.relu((weights * plane.detach()).sum(1)), _name_of(block, model))


def _chosen_plane(passed: list[tuple[nn.Module, Tensor]]) -> tuple[nn.Module, Tensor]:
    """The convolution (or block of them) to look at, and what leaves it with its activation, before any pooling."""
    chosen: tuple[nn.Module, Tensor] | None = None
    block: nn.Module | None = None  # the last that learns
    shape = torch.Size()
    for module, output in passed:
        if output.ndim != 4 or output[0, 0].numel() == 1:
            continue
        learns = any(True for _ in module.parameters())
        if learns:
            block = module
        if block is not None and (learns or output.shape == shape):
            shape = output.shape
            if chosen is None or min(shape[2:]) >= min(FINE, *chosen[1].shape[2:]):
                chosen = block, output
    if chosen is None:
        raise ValueError("no layer of this network keeps the image's plane")
    return chosen


def _name_of(block: nn.Module, model: nn.Module) -> str:
    listed = stages(model) if hasattr(model, "stages") else {}
    stage_of = {id(part): name for name, modules in listed.items() for module in modules for part in module.modules()}
    return stage_of.get(id(block)) or next(name for name, module in model.named_modules() if module is block)
