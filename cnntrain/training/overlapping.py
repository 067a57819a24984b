"""Several processes whose gradients are added up while the backward pass still computes others."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cnntrain.models.general import BatchNorm
from cnntrain.runtime.together import Together
from cnntrain.tasks.task import Criterion
from cnntrain.training.cutting import Portion
from cnntrain.training.dropout import Rows
from cnntrain.training.exchange import Forward, in_order

# What keeps batch norm's buffers from being copied from the first process before each pass; it has got another name.
_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in signature(DistributedDataParallel).parameters
)


class Overlapped:
    """Several processes: gradients are added up while the backward pass still computes others, once a step.

    By PyTorch's DistributedDataParallel (Li et al., arXiv:2006.15704). Processes that share their machine's memory add
    up in between, which takes less time than to let others do it on the cores that compute.

    Args:
        network: On its device.
        processes: Which.
        make_forward: Makes of the wrapped network what is called.
        rows: Told which examples of a pass are at hand.
        is_static: Whether every step computes the same graph.
        is_compressed: Whether gradients travel as bfloat16, which rounds them to 8 bits.
    """

    def __init__(
        self,
        network: nn.Module,
        processes: Together,
        make_forward: Callable[[nn.Module], Forward],
        rows: Rows,
        *,
        is_static: bool,
        is_compressed: bool,
    ) -> None:
        self._network, self._processes, self._make_forward, self._rows = network, processes, make_forward, rows
        self._is_static, self._is_compressed = is_static, is_compressed
        self._trained: list[bool] = []
        self._wrapped: DistributedDataParallel | None = None
        self._forward: Forward | None = None

    def forward(self, images: Tensor) -> Any:
        """The network in training; called within `around`."""
        assert self._forward is not None
        return self._forward(images)

    def _wrap(self) -> DistributedDataParallel:
        """The network with its hooks, which are made anew where stages have been frozen or thawed."""
        trained = [parameter.requires_grad for parameter in self._network.parameters()]
        if self._wrapped and trained == self._trained:
            return self._wrapped
        self._forward = self._wrapped = None  # its hooks go first
        device = next(self._network.parameters()).device
        self._wrapped = DistributedDataParallel(
            self._network,
            device_ids=[device] if device.type == "cuda" else None,
            process_group=self._processes.group,
            **{_BUFFERS: False},  # type: ignore[arg-type]
            gradient_as_bucket_view=True,
            static_graph=self._is_static,
        )
        self._wrapped.register_comm_hook((self._processes, self._is_compressed), _add)
        _rehearse(self._wrapped)
        self._forward, self._trained = self._make_forward(self._wrapped), trained
        return self._wrapped

    def at(self, portion: Portion) -> None:
        """See `Exchange`."""
        self._rows.set(portion)

    @contextmanager
    def around(self, portion: Portion, *, is_last: bool, keys: tuple[int, int]) -> Iterator[None]:
        """See `Exchange`."""
        self.at(portion)
        wrapped = self._wrap()
        try:
            with nullcontext() if is_last else wrapped.no_sync():
                yield
        except BaseException:
            self._forward = self._wrapped = None  # it would wait for the rest of this step
            raise

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """See `Exchange`; nothing is asked where every example weighs one."""
        weight = criterion.total_weight(torch.cat(list(targets)))
        return self._processes.total(weight) if isinstance(weight, Tensor) else num_examples

    def sums(self, *columns: Sequence[Tensor]) -> list[Tensor]:
        """See `Exchange`; one message."""
        own = [in_order(column) for column in columns]
        totals = self._processes.total(torch.stack([value.float() for value in own]))
        return [total.to(value.dtype) for total, value in zip(totals, own, strict=True)]

    def finish(self) -> None:
        """See `Exchange`."""
        average_buffers(self._network, self._processes)


class _Zero(torch.autograd.Function):
    """Passes a number on; the gradient of the parameter beside it is zero, in the layout of the parameter itself."""

    @staticmethod
    def forward(ctx: Any, number: Tensor, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return number.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        return gradients[0], torch.zeros_like(ctx.saved_tensors[0])


class _Rehearsal(nn.Module):
    """Stands in for a network: the gradients of these parameters, all zero, are ready from the last to the first."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._all = tuple(parameters)  # a tuple's are not registered as its own

    def forward(self) -> Tensor:
        """Something to go back from."""
        number = torch.zeros((), device=self._all[0].device)
        for parameter in self._all:
            number = _Zero.apply(number, parameter)
        return number


def _rehearse(wrapped: DistributedDataParallel) -> None:
    """Lets the order in which gradients are sent be settled before the first step.

    After its first pass DistributedDataParallel sends them in the order in which they were ready in that, and the sums
    of three and more processes depend in their last bits on where a gradient stands. So a training that goes on would
    take its first step unlike one that was never stopped.
    """
    network, parameters = wrapped.module, [value for value in wrapped.parameters() if value.requires_grad]
    wrapped.module = _Rehearsal(parameters)
    wrapped().backward()
    wrapped.module = network
    for parameter in parameters:
        parameter.grad = None


def _add(how: tuple[Together, bool], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Adds some gradients up over all processes; as bfloat16, if that is asked for.

    What is built in wants losses multiplied by the number of processes, and divides. In float16 that would leave less
    room to gradients the more processes there are, and the scaler would leave out other steps than those of one.
    """
    processes, is_compressed = how
    gradients = bucket.buffer()
    if not is_compressed:
        return processes.add_up(gradients)
    sums = processes.add_up(gradients.to(torch.bfloat16))
    return sums.then(lambda done: gradients.copy_(done.value()))


def average_buffers(network: nn.Module, processes: Together) -> None:
    """Gives all processes the mean of what batch norm has tracked on each; nothing where that is the same anyway."""
    own = [
        buffer
        for module in network.modules()
        if isinstance(module, BatchNorm) and getattr(module, "processes", None) is None
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]
    if own:
        mean = processes.total(torch.cat(own)) / processes.count
        torch._foreach_copy_(own, list(mean.split([buffer.numel() for buffer in own])))
