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
    """Height or width: the first of `positions` values sees the pixels `first` to `last`, the next `jump` px further.

    Pixels below 0 are padding.
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


Field = tuple[Axis, Axis]  # height, width


class ReceptiveFields(TorchDispatchMode):
    """While this is active, follows what each tensor sees of the images. For `torch.inference_mode` alone.

    Args:
        images: The input, (N, C, H, W).
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        # The tensors are kept, so that no other can have the id of one of them.
        self._fields: dict[int, tuple[Tensor, Field]] = {}
        self._keep(images, (Axis(0, 0, 1, 1), Axis(0, 0, 1, 1)))

    def size_px(self, tensor: Tensor) -> tuple[int, int]:
        """Height and width of the receptive field of the values of a tensor."""
        _, (height, width) = self._fields[id(tensor)]
        return height.size_px, width.size_px

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
        height, width = field
        if tensor.ndim >= 4:  # what is flattened keeps the number of its rows and columns
            height, width = height._replace(positions=tensor.shape[-2]), width._replace(positions=tensor.shape[-1])
        self._fields[id(tensor)] = (tensor, (height, width))


def _widest(fields: Sequence[Field]) -> Field:
    """What branches that come together see."""
    height, width = (
        Axis(min(a.first for a in axes), max(a.last for a in axes), max(a.jump for a in axes), axes[0].positions)
        for axes in zip(*fields, strict=True)
    )
    return height, width


def _after(operation: Any, args: Any, field: Field, output: Tensor) -> Field:
    height, width = field
    match operation:
        case aten.convolution:
            _, weight, _, stride, padding, dilation, *_ = args
            reach = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
            return height.through(reach[0], stride[0], padding[0]), width.through(reach[1], stride[1], padding[1])
        case aten.max_pool2d_with_indices | aten.avg_pool2d:
            _, kernel, *rest = args  # torch leaves out what is at its default
            stride = rest[0] if rest and rest[0] else kernel
            padding = rest[1] if len(rest) > 1 else (0, 0)
            return height.through(kernel[0], stride[0], padding[0]), width.through(kernel[1], stride[1], padding[1])
        case aten.constant_pad_nd:
            pads = [*list(args[1]), 0, 0]  # left, right, and perhaps top, bottom
            return height.through(1, padding=pads[2]), width.through(1, padding=pads[0])
        case aten.slice:
            dim, start, step = args[1], args[2], args[4] if len(args) > 4 else 1
            sliced = [axis.through(1, step, -start) if dim == n else axis for n, axis in enumerate(field, 2)]
            return sliced[0], sliced[1]
        case aten._adaptive_avg_pool2d | aten.adaptive_max_pool2d:
            return height.through_adaptive(output.shape[2]), width.through_adaptive(output.shape[3])
        case aten.mean | aten.sum | aten.addmm | aten.mm:  # global pooling, linear: each value sees all that arrives
            return height.through_adaptive(1), width.through_adaptive(1)
        case _:  # value by value, across channels, or another shape for the same values
            return field
