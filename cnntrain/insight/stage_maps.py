"""What a network makes of an image, stage by stage, and the filters of its first convolution."""

from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cnntrain.models.stages import stages
from cnntrain.models.summary import main_way


class StageMap(NamedTuple):
    """What leaves a stage.

    Attributes:
        name: The stage's, as `cnntrain summary` prints it.
        activations: float32 (C, h, w), or (F,) where nothing is left of the plane; on the CPU.
    """

    name: str
    activations: Tensor


@torch.inference_mode()
def stage_maps(model: nn.Module, image: Tensor) -> list[StageMap]:
    """What each stage makes of an image, from the first to the head, whose values are the logits.

    As in `models.summary`, activations and poolings belong to the stage before them; maps are shown before they are
    flattened.

    Args:
        model: In evaluation mode.
        image: float32 (C, S, S), normalised, on the model's device.
    """
    listed = stages(model)
    stage = next(iter(listed))
    stage_of = {id(part): name for name, modules in listed.items() for module in modules for part in module.modules()}
    leaving: dict[str, Tensor] = {}  # the last of each stage stays

    def note(block: nn.Module, _: object, output: Tensor) -> None:
        nonlocal stage
        stage = stage_of.get(id(block), stage)
        if not isinstance(block, nn.Flatten):
            leaving[stage] = output[0].clone()  # the next layer may write over it

    with ExitStack() as hooks:
        for block in main_way(model):
            hooks.callback(block.register_forward_hook(note).remove)
        model(image[None])
    return [StageMap(name, _as_vector(activations.float().cpu())) for name, activations in leaving.items()]


def _as_vector(activations: Tensor) -> Tensor:
    """(C, 1, 1) is no plane any more."""
    return activations.flatten() if activations.shape[1:].numel() == 1 else activations


def first_layer_filters(model: nn.Module) -> Tensor | None:
    """The weights of the first convolution, float32 (out, in, k, k) on the CPU; None where there is none."""
    convolution = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    return None if convolution is None else convolution.weight.detach().float().cpu()
