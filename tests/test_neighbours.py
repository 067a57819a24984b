"""Processes of one machine that tell each other numbers through shared memory; threads stand in for them here."""

import mmap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
import torch
import torch.distributed as dist

from cnntrain.runtime.neighbours import ROOM, Neighbours, size_of_memory

T = TypeVar("T")


def together(count: int, work: Callable[[int, Neighbours], T], *, patience_seconds: float = 30) -> list[T]:
    """What each of several comes to."""
    memory, over = mmap.mmap(-1, size_of_memory(count)), threading.Event()

    def run(rank: int) -> T:
        try:
            return work(rank, Neighbours(memory, rank, count, is_over=over.is_set, patience_seconds=patience_seconds))
        except BaseException:
            over.set()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("number", [1, 7, ROOM // 4, ROOM // 4 + 1, 3 * ROOM // 4 + 5])
def test_sums_are_those_in_the_order_of_the_processes_to_the_last_bit(count: int, number: int) -> None:
    own = [torch.randn(number, generator=torch.Generator().manual_seed(rank)) for rank in range(count)]
    expected = own[0].clone()
    for values in own[1:]:
        expected += values

    def work(rank: int, near: Neighbours) -> torch.Tensor:
        for _ in range(3):  # turns follow each other without a pause
            values = own[rank].clone()
            near.add_up(values)
        return values

    assert all(torch.equal(sums, expected) for sums in together(count, work))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_values_are_stacked_in_the_order_of_the_processes(dtype: torch.dtype) -> None:
    own = [(torch.arange(11) * (rank + 1) % 5).to(dtype) for rank in range(3)]
    for stacked in together(3, lambda rank, near: near.stack(own[rank])):
        assert torch.equal(stacked, torch.stack(own))
    assert together(2, lambda _, near: near.stack(torch.empty(0)))[0].shape == (2, 0)


def test_many_turns_of_processes_that_take_their_time_never_mix() -> None:
    def work(rank: int, near: Neighbours) -> list[float]:
        found = []
        for turn in range(300):
            if turn % 7 == rank:
                time.sleep(0.001)
            values = torch.full((3,), float(turn * (rank + 1)))
            near.add_up(values)
            found.append(float(values[0]))
            assert near.soon(turn * 3 + rank) == (turn * 3 - 1 if turn else 0)  # the last one's, of the turn before
        return found

    assert together(3, work) == [[6.0 * turn for turn in range(300)]] * 3


def test_who_waits_for_a_process_that_is_gone_is_told() -> None:
    def work(rank: int, near: Neighbours) -> None:
        near.add_up(torch.ones(1))
        if rank == 1:
            raise KeyError("a mistake")
        near.add_up(torch.ones(1))

    with pytest.raises(dist.DistNetworkError, match="process 1 does not answer"):
        together(2, work)


def test_nobody_waits_forever() -> None:
    def work(rank: int, near: Neighbours) -> None:
        if rank == 0:
            near.add_up(torch.ones(1))

    with pytest.raises(dist.DistNetworkError, match="process 1 does not answer"):
        together(2, work, patience_seconds=0.1)
