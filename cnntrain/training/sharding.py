"""Shards of a batch, whose gradients are added up in order: the same sum to the last bit, whoever computes which."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from cnntrain.runtime.processes import Processes
from cnntrain.runtime.seeds import torch_seeded
from cnntrain.tasks.task import Criterion
from cnntrain.training.cutting import Part
from cnntrain.training.exchange import in_order


class InOrder:
    """Shards, on one process or on several that divide their number, whose gradients are added up in their order.

    So the sum is the same to the last bit, whoever has computed which.

    Args:
        network: On its device.
        processes: Which.
        shards: Of a batch.
        has_dropout: Whether the network draws random numbers in training.
    """

    scale: float = 1.0

    def __init__(self, network: nn.Module, processes: Processes, shards: int, *, has_dropout: bool) -> None:
        self._network, self._processes, self._has_dropout = network, processes, has_dropout
        self._num_own = len(processes.share(range(shards)))
        self._before: list[Tensor] = []  # batch norm's buffers, as they are at the beginning of a step
        self._after: list[Tensor] = []  # those that count, at its end
        self._shards: list[Tensor] = []  # what each has come to: gradients and how far the buffers have moved
        self._part = 0  # of the shard in progress

    def at(self, part: Part) -> None:
        """See `Exchange`."""

    @contextmanager
    def around(self, part: Part, *, is_last: bool, keys: tuple[int, int]) -> Iterator[None]:
        """See `Exchange`."""
        assert part.shard is not None
        if not self._shards and not self._part:
            self._before = [buffer.clone() for buffer in self._network.buffers()]
        device = next(self._network.parameters()).device
        seeded = torch_seeded("dropout", *keys, part.shard, self._part, device=device)
        with seeded if self._has_dropout else nullcontext():
            yield
        self._part += 1
        if part.ends_shard:
            self._end_shard()

    @torch.no_grad()
    def _end_shard(self) -> None:
        """Sets aside what the shard has come to, and goes back to how all shards begin."""
        values: list[Tensor] = []
        for parameter in self._trained:
            values.append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            parameter.grad = None
        buffers = list(self._network.buffers())
        moved = [
            buffer - before for buffer, before in zip(buffers, self._before, strict=True) if buffer.is_floating_point()
        ]
        self._after = [buffer.clone() for buffer in buffers if not buffer.is_floating_point()]
        _copy(buffers, self._before)
        self._shards.append(torch.cat([value.reshape(-1) for value in (*values, *moved)]))
        self._part = 0

    @property
    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self._network.parameters() if parameter.requires_grad]

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """See `Exchange`."""
        weights = [criterion.total_weight(some) for some in targets]
        tensors = [weight for weight in weights if isinstance(weight, Tensor)]
        return self.sums(tensors) if tensors else num_examples

    def sums(self, values: Sequence[Tensor]) -> Tensor:
        """See `Exchange`; of each shard first."""
        parts_per_shard = len(values) // self._num_own
        shards = [in_order(values[start : start + parts_per_shard]) for start in range(0, len(values), parts_per_shard)]
        return in_order(self._processes.stack(torch.stack(shards)).flatten(0, 1))

    @torch.no_grad()
    def finish(self) -> None:
        """See `Exchange`."""
        trained, buffers = self._trained, list(self._network.buffers())
        floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        total = in_order(self._processes.stack(torch.stack(self._shards)).flatten(0, 1))
        values = total.split([tensor.numel() for tensor in (*trained, *floating)])
        for parameter, value in zip(trained, values[: len(trained)], strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(value.view(parameter.shape))
        num_shards = self._num_own * self._processes.count
        for buffer, value in zip(floating, values[len(trained) :], strict=True):
            buffer += value.view(buffer.shape) / num_shards
        whole = [buffer for buffer in buffers if not buffer.is_floating_point()]
        _copy(whole, self._after)
        self._shards = []


def _copy(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)
