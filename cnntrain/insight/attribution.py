"""What in an image speaks for a class, and what against it: three ways to ask a network, all about the class's logit.

Grad-CAM: see `analysis.activation_maps`.
Integrated gradients: Sundararajan, Taly, Yan: "Axiomatic attribution for deep networks", ICML 2017. Starts from the
black image, as the paper does for object recognition, section 3.
Occlusion: Zeiler, Fergus: "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2. Covers by the
mean that images are normalised by, the paper's grey square.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.errors import ConfigError
from cnntrain.insight.activation_maps import activation_maps
from cnntrain.runtime.device import exact_float32

STEPS = 50  # of integrated gradients, as the paper advises: 20 to 300
_VALUES_AT_ONCE = 1_000_000  # of inputs: 6 photos of 224 px, or all steps of a small image


class Attribution(NamedTuple):
    """How much each place of an image speaks for a class.

    Attributes:
        heat: float32 (h, w) on the CPU: above 0 speaks for the class, below 0 against it.
        how: The method and its settings, for people.
        facts: The same as plain values.
        smooth: Whether the map is coarse, and meant to be enlarged smoothly.
    """

    heat: Tensor
    how: str
    facts: dict[str, Any]
    smooth: bool = False

    @property
    def is_signed(self) -> bool:
        """Whether something speaks against the class."""
        return bool((self.heat < 0).any())


def attribute(model: nn.Module, image: Tensor, class_index: int, *, method: str, black: Tensor) -> Attribution:
    """Asks a network why it gives a class its logit.

    Args:
        model: In evaluation mode, in float32.
        image: float32 (C, S, S), normalised, on the model's device.
        class_index: Which class.
        method: One of `cnntrain.reports.explanations.METHODS`; all but `grad-cam` need the extra `explain`.
        black: float32 (C, S, S), the black image, normalised.

    Raises:
        ConfigError: Grad-CAM, and no layer of the network keeps the image's plane.
    """
    with exact_float32():
        match method:
            case "grad-cam":
                return _grad_cam(model, image, class_index)
            case "integrated-gradients":
                return _integrated_gradients(model, image, class_index, black)
            case "occlusion":
                return _occlusion(model, image, class_index)
    raise ValueError(f"unknown method {method!r}")


def _grad_cam(model: nn.Module, image: Tensor, class_index: int) -> Attribution:
    try:
        maps = activation_maps(model, image[None], torch.tensor([class_index], device=image.device))
    except ValueError as error:
        raise ConfigError(
            "Grad-CAM shows a layer that keeps the image's plane, and this network has none: its first layer "
            "sees the image as a row of values; take --method occlusion or --method integrated-gradients"
        ) from error
    heat = maps.heat[0].cpu()
    how = f"Grad-CAM: which places of the network's inside raise the class's score, in {maps.described}"
    facts = {"map": list(heat.shape), "layer": maps.layer, "coarse": maps.is_coarse}
    return Attribution(heat, how, facts, smooth=True)


def _integrated_gradients(model: nn.Module, image: Tensor, class_index: int, black: Tensor) -> Attribution:
    from captum.attr import IntegratedGradients

    shares, delta = IntegratedGradients(model).attribute(
        image[None].clone().requires_grad_(),
        baselines=black[None],
        target=class_index,
        n_steps=STEPS,
        internal_batch_size=max(1, _VALUES_AT_ONCE // image.numel()),
        return_convergence_delta=True,
    )
    square = max(1, image.shape[1] // 28)  # single pixels of a photo are too fine to see
    sums = F.avg_pool2d(shares.detach().sum(1), square, ceil_mode=True, divisor_override=1)[0].float().cpu()
    squares = f"; summed over squares of {square} px" if square > 1 else ""
    how = f"Integrated gradients: what each pixel adds to the class's score, from a black image on, in {STEPS} steps"
    facts = {"baseline": "black image", "steps": STEPS, "square_px": square, "convergence_delta": float(delta)}
    return Attribution(sums, how + squares, facts)


def _occlusion(model: nn.Module, image: Tensor, class_index: int) -> Attribution:
    from captum.attr import Occlusion

    channels, side, _ = image.shape
    stride = max(1, side // (14 if side <= 64 else 10))  # fewer places where each costs more: about 10 x 10
    window = 2 * stride
    falls = Occlusion(model).attribute(
        image[None],
        sliding_window_shapes=(channels, window, window),
        strides=(channels, stride, stride),
        baselines=0,  # what the mean is, once it is normalised
        target=class_index,
        perturbations_per_eval=max(1, _VALUES_AT_ONCE // image.numel()),
    )
    how = f"Occlusion: how much the class's score falls where a grey square of {window} px, moved by {stride}, lies"
    facts = {"fill": "the mean that images are normalised by", "window_px": window, "stride_px": stride}
    return Attribution(falls[0, 0].float().cpu(), how, facts)
