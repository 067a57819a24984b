"""Shards of a batch, whose gradients are added up in order: the same sum to the last bit, whoever computes which."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from cnntrain.runtime.processes import Processes
from cnntrain.runtime.seeds import torch_seeded
from cnntrain.tasks.task import Criterion
from cnntrain.training.cutting import Portion
from cnntrain.training.exchange import in_order


class InOrder:
    """Shards, on one process or on several that divide their number, whose gradients are added up in their order.

    So the sum is the same to the last bit, whoever has computed which. Each process keeps the gradients of all of its
    own shards until the step ends: as many times the parameters.

    Args:
        network: On its device.
        processes: Which.
        shards: Of a batch.
        has_dropout: Whether the network draws random numbers in training.
    """

    def __init__(self, network: nn.Module, processes: Processes, shards: int, *, has_dropout: bool) -> None:
        self._network, self._processes, self._has_dropout = network, processes, has_dropout
        self._num_own = len(processes.share(range(shards)))
        self._before: list[Tensor] = []  # batch norm's buffers, as they are at the beginning of a step
        self._after: list[Tensor] = []  # those that count, at its end
        self._shards: list[Tensor] = []  # what each has come to: gradients and how far the buffers have moved
        self._portion = 0  # of the shard in progress

    def at(self, portion: Portion) -> None:
        """See `Exchange`."""

    @contextmanager
    def around(self, portion: Portion, *, is_last: bool, keys: tuple[int, int]) -> Iterator[None]:
        """See `Exchange`."""
        assert portion.shard is not None
        if not self._shards and not self._portion:
            self._before = [buffer.clone() for buffer in self._network.buffers()]
        device = next(self._network.parameters()).device
        seeded = torch_seeded("dropout", *keys, portion.shard, self._portion, device=device)
        try:
            with seeded if self._has_dropout else nullcontext():
                yield
        except BaseException:
            self._shards, self._portion = [], 0  # the step is not taken, and the next one begins anew
            raise
        self._portion += 1
        if portion.ends_shard:
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
        self._portion = 0

    @property
    def _trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self._network.parameters() if parameter.requires_grad]

    def weight(self, criterion: Criterion, targets: Sequence[Tensor], num_examples: int) -> Tensor | int:
        """See `Exchange`."""
        weights = [criterion.total_weight(some) for some in targets]
        tensors = [weight for weight in weights if isinstance(weight, Tensor)]
        return self.sums(tensors)[0] if tensors else num_examples

    def sums(self, *columns: Sequence[Tensor]) -> list[Tensor]:
        """See `Exchange`; of each shard first."""
        size = len(columns[0]) // self._num_own  # portions of a shard
        shards = [
            torch.stack([in_order(column[start : start + size]).float() for column in columns])
            for start in range(0, size * self._num_own, size)
        ]
        return [total.to(column[0].dtype) for total, column in zip(self._added(shards), columns, strict=True)]

    def _added(self, own: Sequence[Tensor]) -> Tensor:
        """The sum over the shards of all processes, in order, of values (M,) of each of those here."""
        return torch.cat(
            [
                in_order(self._processes.stack(torch.stack(some)).flatten(0, 1))
                for some in zip(*(values.split(_AT_ONCE) for values in own), strict=True)
            ]
        )

    @torch.no_grad()
    def finish(self) -> None:
        """See `Exchange`."""
        trained, buffers = self._trained, list(self._network.buffers())
        floating = [buffer for buffer in buffers if buffer.is_floating_point()]
        values = self._added(self._shards).split([tensor.numel() for tensor in (*trained, *floating)])
        self._shards = []
        for parameter, value in zip(trained, values[: len(trained)], strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(value.view(parameter.shape))
        num_shards = self._num_own * self._processes.count
        for buffer, value in zip(floating, values[len(trained) :], strict=True):
            buffer += value.view(buffer.shape) / num_shards
        _copy([buffer for buffer in buffers if not buffer.is_floating_point()], self._after)


_AT_ONCE = 2**20  # numbers of each shard that are gathered: all of them would take the room of all processes together


def _copy(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)
