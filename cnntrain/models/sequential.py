"""Networks written out layer by layer, with residual and parallel blocks.

Channels and features that arrive are inferred, and a layer that does not fit what arrives is named.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.errors import ConfigError

Shape = tuple[int, ...]  # (C, H, W), or (F,) after flatten
Spec = Mapping[str, Any]

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU, "gelu": nn.GELU}


class SequentialNet(nn.Module):
    """Layers as listed.

    Args:
        in_channels: 1 for grey, 3 for colour images.
        num_classes: Size of the output.
        image_size: Side of the square input, px.
        layers: For each layer its `name` and options, as in `config/schema/layers.py`.

    Raises:
        ConfigError: A layer does not fit what arrives, or the last does not give a value for each class.
    """

    def __init__(self, in_channels: int, num_classes: int, image_size: int, *, layers: Sequence[Spec]) -> None:
        super().__init__()
        arriving = (in_channels, image_size, image_size)
        self.layers, shape = build_layers(layers, arriving, num_classes, "model.layers")
        if shape != (num_classes,):
            raise ConfigError(
                f"the network ends with {show(shape)}, and needs {num_classes}, one for each class; let it end with "
                f"{'flatten and ' if len(shape) > 1 else ''}linear (out_features: null is one per class)",
                key=f"model.layers.{len(layers) - 1}",
            )
        self.stages = _stages(self.layers)

    def forward(self, images: Tensor) -> Tensor:
        """Images float32 (N, C, S, S), normalised -> logits (N, num_classes)."""
        logits: Tensor = self.layers(images)
        return logits


def _stages(layers: nn.Sequential) -> dict[str, tuple[str, ...]]:
    """A stage for each layer that learns, called by its number in the list; a batch norm belongs to what it follows."""
    found: dict[str, tuple[str, ...]] = {}
    for name, layer in layers.named_children():
        if not any(True for _ in layer.parameters()):
            continue
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and found:
            last = next(reversed(found))
            found[last] = (*found[last], f"layers.{name}")
        else:
            found[name] = (f"layers.{name}",)
    if not found:
        return {"head": ()}
    *body, (_, head) = found.items()
    return dict(body) | {"head": head}


class Sum(nn.Module):
    """What the layers make, plus what arrives or what the shortcut makes of it."""

    def __init__(self, layers: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.layers = layers
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers take -> the shape that both ways give."""
        out: Tensor = self.layers(x) + self.shortcut(x)
        return out


class Concatenation(nn.Module):
    """What the branches make of the same input, stacked along the first dimension of an image's shape."""

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the branches take -> their channels or features together."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def build_layers(
    layers: Sequence[Spec], shape: Shape, num_classes: int, key: str, *, nested: bool = False
) -> tuple[nn.Sequential, Shape]:
    """The layers of a list, and the shape that leaves the last.

    Args:
        layers: As `SequentialNet` takes them.
        shape: What arrives, without the batch.
        num_classes: What a linear layer without a size gives.
        key: Where the list stands in the configuration, for messages.
        nested: Whether the list is part of a block.

    Raises:
        ConfigError: A layer does not fit what arrives.
    """
    built = nn.Sequential()
    for index, layer in enumerate(layers):
        here, activation = f"{key}.{index}", layer.get("activation")
        if "softmax" in (layer["name"], activation) and (nested or index != len(layers) - 1):
            raise ConfigError("softmax stands at the very end, where the loss computes it; remove it here", here)
        if layer["name"] == "softmax":
            continue
        module, shape = _build(layer, shape, num_classes, here)
        if activation and activation != "softmax":
            module = nn.Sequential(module, _ACTIVATIONS[activation]())
        built.add_module(str(index), module)
    return built, shape


def show(shape: Shape) -> str:
    """(16, 32, 32) -> `32x32x16`, height x width x channels; (10,) -> `10 values`."""
    return f"{shape[1]}x{shape[2]}x{shape[0]}" if len(shape) == 3 else f"{shape[0]} values"


def _build(layer: Spec, shape: Shape, num_classes: int, key: str) -> tuple[nn.Module, Shape]:
    match layer["name"]:
        case "conv2d":
            return _convolution(layer, shape, key)
        case "max_pool2d" | "avg_pool2d":
            return _pooling(layer, shape, key)
        case "adaptive_avg_pool2d" | "adaptive_max_pool2d" as name:
            channels, _, _ = _maps(shape, name, key)
            kind = nn.AdaptiveAvgPool2d if name == "adaptive_avg_pool2d" else nn.AdaptiveMaxPool2d
            return kind(tuple(layer["output_size"])), (channels, *layer["output_size"])
        case "global_avg_pool2d" | "global_max_pool2d" as name:
            channels, _, _ = _maps(shape, name, key)
            pool = nn.AdaptiveAvgPool2d(1) if name == "global_avg_pool2d" else nn.AdaptiveMaxPool2d(1)
            return nn.Sequential(pool, nn.Flatten()), (channels,)
        case "batch_norm" | "batch_norm1d" | "batch_norm2d" as name:
            wanted = {"batch_norm1d": 1, "batch_norm2d": 3}.get(name, len(shape))
            if wanted != len(shape):
                other = "batch_norm1d" if len(shape) == 1 else "batch_norm2d"
                raise ConfigError(f"{name} does not take {show(shape)}, which arrives here; use {other}", key)
            return (nn.BatchNorm2d if wanted == 3 else nn.BatchNorm1d)(shape[0]), shape
        case "flatten":
            return nn.Flatten(), (math.prod(shape),)
        case "linear":
            return _linear(layer, shape, num_classes, key)
        case "dropout":
            return nn.Dropout(layer["probability"]), shape
        case "leaky_relu":
            return nn.LeakyReLU(layer["negative_slope"]), shape
        case "residual":
            return _residual(layer, shape, num_classes, key)
        case "parallel":
            return _parallel(layer, shape, num_classes, key)
        case activation:
            return _ACTIVATIONS[activation](), shape


def _convolution(layer: Spec, shape: Shape, key: str) -> tuple[nn.Module, Shape]:
    channels, *sides = _maps(shape, "conv2d", key)
    kernel, stride, dilation = layer["kernel_size"], layer["stride"], layer["dilation"]
    out_channels, groups = layer["out_channels"], layer["groups"]
    if channels % groups or out_channels % groups:
        raise ConfigError(
            f"groups: {groups} must divide the {channels} channels that arrive and out_channels: {out_channels}", key
        )
    padding = layer["padding"]
    if padding != "same":
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        sides = _windows("conv2d", shape, reach, stride, padding, key)
    module = nn.Conv2d(
        channels,
        out_channels,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=layer["bias"],
    )
    return module, (out_channels, *sides)


def _pooling(layer: Spec, shape: Shape, key: str) -> tuple[nn.Module, Shape]:
    name, kernel, padding = layer["name"], layer["kernel_size"], layer["padding"]
    channels, *_ = _maps(shape, name, key)
    stride = layer["stride"] or kernel
    if any(p > k // 2 for p, k in zip(padding, kernel, strict=True)):
        raise ConfigError(f"padding {list(padding)} must be at most half of kernel_size {list(kernel)}", key)
    sides = _windows(name, shape, kernel, stride, padding, key, ceil=layer["ceil_mode"])
    kind = nn.MaxPool2d if name == "max_pool2d" else nn.AvgPool2d
    return kind(kernel, stride, padding, ceil_mode=layer["ceil_mode"]), (channels, *sides)


def _linear(layer: Spec, shape: Shape, num_classes: int, key: str) -> tuple[nn.Module, Shape]:
    if len(shape) != 1:
        raise ConfigError(f"linear takes a row of values, and {show(shape)} arrives; put flatten before it", key)
    out_features = layer["out_features"] or num_classes
    return nn.Linear(shape[0], out_features, bias=layer["bias"]), (out_features,)


def _residual(layer: Spec, shape: Shape, num_classes: int, key: str) -> tuple[nn.Module, Shape]:
    layers, out = build_layers(layer["layers"], shape, num_classes, f"{key}.layers", nested=True)
    around: tuple[nn.Module, Shape] = (nn.Identity(), shape)
    if layer["shortcut"]:
        around = build_layers(layer["shortcut"], shape, num_classes, f"{key}.shortcut", nested=True)
    shortcut, there = around
    if out != there:
        raise ConfigError(
            f"residual adds what its layers give, {show(out)}, to what comes around them, {show(there)}: these must "
            f"be alike; {_way_around(out, shape)}",
            key,
        )
    return Sum(layers, shortcut), out


def _way_around(out: Shape, arriving: Shape) -> str:
    """What to write so that a block's shortcut gives what its layers give."""
    if len(out) == len(arriving) == 3:
        strides = [-(-before // after) for before, after in zip(arriving[1:], out[1:], strict=True)]
        fits = all(
            (before - 1) // s + 1 == after for before, after, s in zip(arriving[1:], out[1:], strides, strict=True)
        )
        if fits and (strides != [1, 1] or out[0] != arriving[0]):
            stride = "" if strides == [1, 1] else f", stride: {strides[0] if len(set(strides)) == 1 else strides}"
            return f"give it `shortcut: [conv2d: {{out_channels: {out[0]}, kernel_size: 1{stride}}}]`"
        return "let its layers keep height and width, with `padding: same`"
    return "change its layers, or give it a shortcut"


def _parallel(layer: Spec, shape: Shape, num_classes: int, key: str) -> tuple[nn.Module, Shape]:
    built = [
        build_layers(branch, shape, num_classes, f"{key}.branches.{number}", nested=True)
        for number, branch in enumerate(layer["branches"])
    ]
    shapes = [out for _, out in built]
    if len({out[1:] for out in shapes}) > 1:
        raise ConfigError(
            f"parallel stacks the channels of its branches, whose height and width must be alike; they give "
            f"{', '.join(show(out) for out in shapes)}",
            key,
        )
    return Concatenation([branch for branch, _ in built]), (sum(out[0] for out in shapes), *shapes[0][1:])


def _maps(shape: Shape, name: str, key: str) -> Shape:
    if len(shape) != 3:
        raise ConfigError(
            f"{name} takes maps (height x width x channels), and {show(shape)} arrive; put it before flatten", key
        )
    return shape


def _windows(
    name: str, shape: Shape, kernel: Shape, stride: Shape, padding: Shape, key: str, *, ceil: bool = False
) -> list[int]:
    """How many windows fit in height and width."""
    padded = [side + 2 * p for side, p in zip(shape[1:], padding, strict=True)]
    if any(side < k for side, k in zip(padded, kernel, strict=True)):
        raise ConfigError(
            f"{name} needs at least {kernel[0]}x{kernel[1]} px with its padding of {padding[0]}x{padding[1]}, and "
            f"{show(shape)} arrives; use a smaller kernel, more padding or fewer poolings before it",
            key,
        )
    counts = []
    for side, k, s, p in zip(padded, kernel, stride, padding, strict=True):
        count = (side - k + (s - 1 if ceil else 0)) // s + 1
        if ceil and (count - 1) * s >= side - p:  # the last window must begin inside
            count -= 1
        counts.append(count)
    return counts
