"""Several processes, as PyTorch's process groups connect them."""

import copy
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from cnntrain.runtime.neighbours import Neighbours, neighbours

T = TypeVar("T")

LONG = timedelta(days=30)  # that the others wait for the first, who may have much to decode; the watch sees who is gone
BLOCKED = timedelta(minutes=30)  # that a process waits in a step for others that are alive


class Keepsake(Protocol):
    """What outlives these processes, where a launcher starts others in their place."""

    def set(self, text: str) -> None:
        """In place of what was set before."""

    def get(self) -> str:
        """What was set last; else nothing."""


class Together:
    """Several processes that have joined, see `joining.joined`; its methods are described in `Processes`.

    Args:
        hosts: The name of each process's machine.
        keepsake: Of theirs.
        is_over: Whether one of them has failed, or is gone.
    """

    def __init__(self, hosts: Sequence[str], keepsake: Keepsake, is_over: Callable[[], bool]) -> None:
        self._keepsake = keepsake
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        here = [rank for rank, host in enumerate(hosts) if host == hosts[self.rank]]
        self.local_rank, self.local_count = here.index(self.rank), len(here)
        self.group = _group(timeout=BLOCKED)
        # What the host waits for has a group of its own, in which a device takes no part.
        self._host_group = _group(timeout=LONG)
        self._soon_group = _group(timeout=LONG)
        machines = [[rank for rank, host in enumerate(hosts) if host == name] for name in dict.fromkeys(hosts)]
        groups = [_group(machine, timeout=LONG) for machine in machines]
        self._here = next(group for group, machine in zip(groups, machines, strict=True) if self.rank in machine)
        self._first_here = here[0]
        self._soon: tuple[dist.Work | None, Tensor] | None = None
        self._place, self._end, self._places = self.rank, self.rank + 1, self.count  # of this process's share
        self._near: Neighbours | None = None
        if self.local_count == self.count:
            self._near = neighbours(self, is_over=is_over, patience_seconds=BLOCKED.total_seconds())

    def total(self, value: Tensor) -> Tensor:
        """See `Processes`."""
        total = value.clone(memory_format=torch.contiguous_format)
        self.add_up(total.view(-1)).wait()
        return total

    def add_up(self, values: Tensor) -> torch.futures.Future[Tensor]:
        """Puts the sums over all processes in the place of values, contiguous (N,), soon; the same on each process."""
        if self._near and values.device.type == "cpu":
            self._near.add_up(values)
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            done.set_result(values)
            return done
        work = dist.all_reduce(values, group=self.group, async_op=True)
        assert work is not None
        return work.get_future().then(lambda sums: sums.value()[0])  # type: ignore[no-any-return]

    def stack(self, value: Tensor) -> Tensor:
        """See `Processes`."""
        if self._near and value.device.type == "cpu":
            return self._near.stack(value.reshape(-1)).view(self.count, *value.shape)
        stacked = value.new_empty(self.count, *value.shape)
        dist.all_gather(list(stacked.unbind()), value.contiguous(), group=self.group)
        return stacked

    def any(self, flag: bool) -> bool:
        """See `Processes`."""
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._host_group)
        return bool(flags)

    def soon(self, number: int) -> int:
        """See `Processes`."""
        if self._near:
            return self._near.soon(number)
        largest = 0
        if self._soon:
            work, before = self._soon
            if work:
                work.wait()
            largest = int(before)
        given = torch.tensor(number)
        self._soon = dist.all_reduce(given, op=dist.ReduceOp.MAX, group=self._soon_group, async_op=True), given
        return largest

    def gather(self, value: T) -> list[T]:
        """See `Processes`."""
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value, group=self._host_group)
        return values

    def first(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        return self._made(make, 0, self._host_group)

    def first_here(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        return self._made(make, self._first_here, self._here)

    def _made(self, make: Callable[[], T], by: int, group: dist.ProcessGroup | None) -> T:
        made: list[Any] = [make() if self.rank == by else None]
        dist.broadcast_object_list(made, src=by, group=group)
        return made[0]  # type: ignore[no-any-return]

    def use(self, device: torch.device) -> None:
        """See `Processes`."""
        if device.type == "cuda":
            torch.cuda.set_device(device)
            self.group = _group(timeout=BLOCKED, backend="nccl")

    def leave(self) -> None:
        """Closes the connections to the others, so that who waits for this process in vain is told."""
        for name in ("group", "_host_group", "_soon_group", "_here", "_near", "_soon"):
            self.__dict__.pop(name, None)

    def remember(self, text: str) -> None:
        """See `Processes`."""
        self._keepsake.set(text)

    def remembered(self) -> str:
        """See `Processes`."""
        return self._keepsake.get()

    def __deepcopy__(self, memo: Any) -> Self:
        """Itself: a copy of a network works with the same processes."""
        return self

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """See `Processes`."""
        return items[len(items) * self._place // self._places : len(items) * self._end // self._places]

    def only(self, at_once: int) -> Self:
        """See `Processes`."""
        have_one, some = self.gather(self.local_rank < at_once), copy.copy(self)
        some._place, some._end = sum(have_one[: self.rank]), sum(have_one[: self.rank + 1])
        some._places = sum(have_one)
        return some


def _group(ranks: list[int] | None = None, *, timeout: timedelta, backend: str = "gloo") -> dist.ProcessGroup:
    """Those of these ranks, or all; a process of other ranks cannot use what it gets."""
    group: Any = dist.new_group(ranks, timeout=timeout, backend=backend)
    return group  # type: ignore[no-any-return]
