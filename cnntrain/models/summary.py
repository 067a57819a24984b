"""A network layer by layer: shapes, parameters, multiply-adds, receptive fields, memory. Nothing is computed."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cnntrain.data.inputs import Inputs
from cnntrain.models.general import AvgPool, Convolution, MaxPool
from cnntrain.models.receptive_field import ReceptiveFields
from cnntrain.models.stages import stages

Shape = tuple[int, ...]  # (*sides, channels), as (height, width, channels), or (features,)

BYTES_PER_VALUE = 4  # float32


@dataclass(frozen=True)
class Layer:
    """A layer, once for each time that it works on an image.

    Attributes:
        name: Its path in the network.
        kind: Its class, kernel size and stride.
        stage: The stage that it belongs to.
        output_shape: See `Shape`; None for a layer that works in training alone.
        parameters: Numbers that it learns; 0 where it is met again.
        multiply_adds: For one example, as executed; of convolutions, linear layers, and layers that say it themselves.
        receptive_field_px: Sides of what one of its values sees, padding included; None as above.
        activation_bytes: Size of its output for one example in float32; 0 where it writes over its input or only views
            it.
    """

    name: str
    kind: str
    stage: str
    output_shape: Shape | None
    parameters: int
    multiply_adds: int
    receptive_field_px: tuple[int, ...] | None
    activation_bytes: int


@dataclass(frozen=True)
class Stage:
    """The layers of a stage together; shape and receptive field are those of what leaves it."""

    name: str
    output_shape: Shape
    parameters: int
    multiply_adds: int
    receptive_field_px: tuple[int, ...]
    activation_bytes: int


@dataclass(frozen=True)
class Totals:
    """The whole network; `training_parameters` are those among `parameters` that work in training alone."""

    parameters: int
    training_parameters: int
    multiply_adds: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """A network layer by layer.

    Attributes:
        walk: The example's shape, and each shape that it takes on the main way: after a block, not inside its branches.
        stages: From the input to the head.
        layers: In the order of work; those that work in training alone are the last.
    """

    walk: tuple[Shape, ...]
    stages: tuple[Stage, ...]
    layers: tuple[Layer, ...]
    totals: Totals


class _Call(NamedTuple):
    """A module at work."""

    name: str
    module: nn.Module
    output: Tensor


@runtime_checkable
class Counting(Protocol):
    """A layer that says how many multiply-adds it makes of one example."""

    def multiply_adds(self, output: Tensor) -> int:
        """For one example; `output` is what the layer gave for a batch of one."""


def summarise(network: nn.Module, inputs: Inputs) -> Summary:
    """Sends one example without values through a copy of the network, in evaluation mode.

    Args:
        network: On any device; the meta device costs least.
        inputs: What arrives at it.
    """
    network = copy.deepcopy(network).to("meta").eval()
    example = torch.empty(1, *inputs.shape, dtype=inputs.dtype, device="meta")
    worked, passed = _send_through(network, example, fields := ReceptiveFields(example))
    layers = _layers(network, worked, fields)
    walk = [_shape(example)]
    for call, _ in passed:
        if _shape(call.output) != walk[-1]:
            walk.append(_shape(call.output))
    leaving = {layers[number].stage: call.output for call, number in passed}  # the last of each stage stays
    return Summary(
        walk=tuple(walk),
        stages=tuple(_stage(name, output, layers, fields) for name, output in leaving.items()),
        layers=tuple(layers),
        totals=Totals(
            parameters=sum(layer.parameters for layer in layers),
            training_parameters=sum(layer.parameters for layer in layers if layer.output_shape is None),
            multiply_adds=sum(layer.multiply_adds for layer in layers),
            activation_bytes=sum(layer.activation_bytes for layer in layers),
        ),
    )


def _send_through(
    network: nn.Module, example: Tensor, fields: ReceptiveFields
) -> tuple[list[_Call], list[tuple[_Call, int]]]:
    """What each layer made of the example; what each block of the main way did, and which layer was its last."""
    worked: list[_Call] = []
    passed: list[tuple[_Call, int]] = []

    def noted(name: str, note: Callable[[_Call], None]) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, _, output: note(_Call(name, module, output))

    for name, layer in _leaves(network):
        layer.register_forward_hook(noted(name, worked.append))
    for block in main_way(network):
        block.register_forward_hook(noted("", lambda call: passed.append((call, max(len(worked) - 1, 0)))))
    with torch.inference_mode(), fields:
        network(example)
    return worked, passed


def _leaves(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers, by name; those that do nothing are left out."""
    for name, module in network.named_modules():
        if not any(True for _ in module.children()) and not isinstance(module, nn.Identity | nn.Sequential):
            yield name, module


def main_way(network: nn.Module) -> Iterator[nn.Module]:
    """Layers and blocks one after the other; what happens inside a block is its own affair."""
    for child in network.children():
        if isinstance(child, nn.Sequential):
            yield from main_way(child)
        elif not isinstance(child, nn.Identity):
            yield child


def _layers(network: nn.Module, worked: Sequence[_Call], fields: ReceptiveFields) -> list[Layer]:
    declared = {
        id(part): stage for stage, modules in stages(network).items() for module in modules for part in module.modules()
    }
    met: set[int] = set()
    layers: list[Layer] = []
    # What stands before the first stage, a pooling of the image perhaps, is counted to it.
    stage = next((declared[id(call.module)] for call in worked if id(call.module) in declared), "head")
    for name, module, output in worked:
        stage = declared.get(id(module), stage)
        again = id(module) in met
        met.add(id(module))
        layers.append(
            Layer(
                name=name,
                kind=_kind(module, output.ndim - 2),
                stage=stage,
                output_shape=_shape(output),
                parameters=0 if again else _parameters(module),
                multiply_adds=_multiply_adds(module, output),
                receptive_field_px=fields.size_px(output),
                activation_bytes=0 if _adds_no_memory(module) else output.numel() * BYTES_PER_VALUE,
            )
        )
    for name, module in _leaves(network):
        if id(module) not in met and _parameters(module):
            layers.append(Layer(name, _kind(module, 0), declared[id(module)], None, _parameters(module), 0, None, 0))
    return layers


def _stage(name: str, output: Tensor, layers: Sequence[Layer], fields: ReceptiveFields) -> Stage:
    inside = [layer for layer in layers if layer.stage == name]
    return Stage(
        name=name,
        output_shape=_shape(output),
        parameters=sum(layer.parameters for layer in inside),
        multiply_adds=sum(layer.multiply_adds for layer in inside),
        receptive_field_px=fields.size_px(output),
        activation_bytes=sum(layer.activation_bytes for layer in inside),
    )


def _shape(batch: Tensor) -> Shape:
    _, channels, *sides = batch.shape
    return (*sides, channels)


def _kind(module: nn.Module, num_sides: int) -> str:
    """`Conv2d 3x3/2` with a stride of 2, as GoogLeNet's paper writes it."""
    kind = type(module).__name__
    if isinstance(module, Convolution | MaxPool | AvgPool):
        kernel, stride = _sides(module.kernel_size, num_sides), _sides(module.stride, num_sides)
        kind += f" {_by(kernel)}"
        if set(stride) != {1}:
            kind += f"/{_by(stride) if len(set(stride)) > 1 else stride[0]}"
    if isinstance(module, Convolution) and module.groups > 1:
        kind += f", groups {module.groups}"
    return kind


def _sides(size: Any, number: int) -> Sequence[int]:
    """The size along each side; a pooling may have one number for all."""
    return (size,) * number if isinstance(size, int) else size


def _by(sides: Sequence[int]) -> str:
    return "x".join(str(side) for side in sides)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    match module:
        case Convolution():
            return output[0, 0].numel() * module.weight.numel()
        case nn.Linear():
            return output[0, ..., 0].numel() * module.weight.numel()
        case Counting():
            return module.multiply_adds(output)
    return 0


def _adds_no_memory(module: nn.Module) -> bool:
    return isinstance(module, nn.Flatten) or bool(getattr(module, "inplace", False))
