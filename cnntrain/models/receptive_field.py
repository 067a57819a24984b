"""Which pixels of the image a value inside a network depends on, exactly, through branches and sums.

Araujo, Norris, Sim: "Computing receptive fields of convolutional neural networks", Distill, 2019.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class Axis(NamedTuple):
    """One side, such as height or width.

    The first of `positions` values sees the pixels `first` to `last`, the next `jump` px further. Pixels below 0 are
    padding.
    """

    first: float
    last: float
    jump: float
    positions: int

    @property
    def size_px(self) -> int:
        """Side of the receptive field."""
        return round(self.last - self.first) + 1

    def through(self, size: int, stride: float = 1, padding: int = 0) -> "Axis":
        """After a window of `size` values that slides: at first, `padding` of them lie before the first value."""
        first = self.first - padding * self.jump
        return self._replace(first=first, last=self.last + (size - 1 - padding) * self.jump, jump=self.jump * stride)

    def through_adaptive(self, windows: int) -> "Axis":
        """After as many windows as are asked for; where they are unequal, what the largest sees."""
        starts = [index * self.positions // windows for index in range(windows)]
        ends = [-(-(index + 1) * self.positions // windows) for index in range(windows)]
        size = max(end - start for start, end in zip(starts, ends, strict=True))
        return self.through(size, stride=starts[-1] / (windows - 1) if windows > 1 else 0)


Field = tuple[Axis, ...]  # of an image height and width


class ReceptiveFields(TorchDispatchMode):
    """While this is active, follows what each tensor sees of the inputs. For `torch.inference_mode` alone.

    Args:
        inputs: A batch (N, C, *size).
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        # The tensors are kept, so that no other can have the id of one of them.
        self._fields: dict[int, tuple[Tensor, Field]] = {}
        self._keep(inputs, (Axis(0, 0, 1, 1),) * (inputs.ndim - 2))

    def size_px(self, tensor: Tensor) -> tuple[int, ...]:
        """The sides of the receptive field of the values of a tensor."""
        _, field = self._fields[id(tensor)]
        return tuple(axis.size_px for axis in field)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called by torch for each operation."""
        kwargs = kwargs or {}
        with self:  # in inference mode, operations that consist of others arrive whole
            result = func.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        result = func(*args, **kwargs)
        seeing = [value for value in tree_leaves((args, kwargs)) if id(value) in self._fields]
        if seeing:
            output = result[0] if isinstance(result, tuple) else result  # of a pooling, the values without their places
            field = _widest([self._fields[id(value)][1] for value in seeing])
            self._keep(output, _after(func.overloadpacket, args, field, output))
        return result

    def _keep(self, tensor: Tensor, field: Field) -> None:
        if tensor.ndim >= 2 + len(field):  # what is flattened keeps the number of its rows and columns
            sides = tensor.shape[-len(field) :]
            field = tuple(axis._replace(positions=side) for axis, side in zip(field, sides, strict=True))
        self._fields[id(tensor)] = (tensor, field)


def _widest(fields: Sequence[Field]) -> Field:
    """What branches that come together see."""
    return tuple(
        Axis(min(a.first for a in axes), max(a.last for a in axes), max(a.jump for a in axes), axes[0].positions)
        for axes in zip(*fields, strict=True)
    )


def _after(operation: Any, args: Any, field: Field, output: Tensor) -> Field:
    match operation:
        case aten.convolution:
            _, weight, _, stride, padding, dilation, *_ = args
            reach = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
            return _slid(field, reach, stride, padding)
        case aten.max_pool2d_with_indices | aten.max_pool3d_with_indices | aten.avg_pool2d | aten.avg_pool3d:
            _, kernel, *rest = args  # torch leaves out what is at its default
            stride = rest[0] if rest and rest[0] else kernel
            return _slid(field, kernel, stride, rest[1] if len(rest) > 1 else [0] * len(kernel))
        case aten.constant_pad_nd:
            before = [*list(args[1])[::2], *(0 for _ in field)]  # of the last side first: left, perhaps top
            pads = reversed(before[: len(field)])
            return tuple(axis.through(1, padding=pad) for axis, pad in zip(field, pads, strict=True))
        case aten.slice:
            dim, start, step = args[1], args[2], args[4] if len(args) > 4 else 1
            return tuple(axis.through(1, step, -start) if dim == n else axis for n, axis in enumerate(field, 2))
        case (
            aten._adaptive_avg_pool2d | aten._adaptive_avg_pool3d | aten.adaptive_max_pool2d | aten.adaptive_max_pool3d
        ):
            windows = output.shape[-len(field) :]
            return tuple(axis.through_adaptive(number) for axis, number in zip(field, windows, strict=True))
        case aten.mean | aten.sum | aten.addmm | aten.mm:  # global pooling, linear: each value sees all that arrives
            return tuple(axis.through_adaptive(1) for axis in field)
        case _:  # value by value, across channels, or another shape for the same values
            return field


def _slid(field: Field, size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Field:
    """After windows that slide. PyTorch pools a series as an image of one row, so the last sides are meant."""
    sides = zip(size, stride, padding, strict=True)
    last = list(sides)[-len(field) :]
    return tuple(axis.through(*side) for axis, side in zip(field, last, strict=True))
