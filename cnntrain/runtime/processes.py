"""The processes that work on one training together; one alone is the simplest case.

Between two steps all of them hold the same state, bit for bit. What they tell each other goes through the methods here
and the exchange of gradients (`training/exchange.py`), and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:  # whoever listens for signals early has no time for it
    import torch
    from torch import Tensor

T = TypeVar("T")


class Processes(Protocol):
    """This process, `rank` of `count`, and what it can ask of all. Each method must be called by all of them alike."""

    @property
    def rank(self) -> int:
        """From 0."""

    @property
    def count(self) -> int:
        """On all machines together."""

    @property
    def local_rank(self) -> int:
        """From 0, on this machine."""

    @property
    def local_count(self) -> int:
        """On this machine."""

    def total(self, value: "Tensor") -> "Tensor":
        """The sum over all processes, the same on each to the last bit; on the value's device.

        In a sum of tensors on a GPU the host waits for nobody.
        """

    def stack(self, value: "Tensor") -> "Tensor":
        """The values of all processes, in their order: (count, *value.shape), which is the same on each."""

    def any(self, flag: bool) -> bool:
        """Whether it is true for one of them; the host waits for all."""

    def soon(self, number: int) -> int:
        """The largest of the numbers that were given at the call before; it costs no wait, and is the same on all."""

    def gather(self, value: T) -> list[T]:
        """The value of each process, in their order; plain values and arrays, on the host."""

    def first(self, make: Callable[[], T]) -> T:
        """What the first process makes, while the others wait for it."""

    def first_here(self, make: Callable[[], T]) -> T:
        """What the first process on each machine makes, while the others there wait for it."""

    def use(self, device: "torch.device") -> None:
        """From now on totals may be of tensors on this device, on which this process computes."""

    def remember(self, text: str) -> None:
        """Keeps a text for those that torchrun starts in the place of these, should one of them end."""

    def remembered(self) -> str:
        """What was kept last, by these processes or those in whose place they are; else nothing."""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The part of the items that falls to this process: neighbours, as many as for any other, or one more."""

    def only(self, at_once: int) -> "Processes":
        """The same ones, of which only so many on this machine have a share; the others have none."""


@dataclass(frozen=True)
class Alone:
    """One process, which is all of them."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    def total(self, value: "Tensor") -> "Tensor":
        """See `Processes`."""
        return value

    def stack(self, value: "Tensor") -> "Tensor":
        """See `Processes`."""
        return value[None]

    def any(self, flag: bool) -> bool:
        """See `Processes`."""
        return flag

    def soon(self, number: int) -> int:
        """See `Processes`; alone, one need not wait for the next call."""
        return number

    def gather(self, value: T) -> list[T]:
        """See `Processes`."""
        return [value]

    def first(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        return make()

    def first_here(self, make: Callable[[], T]) -> T:
        """See `Processes`."""
        return make()

    def use(self, device: "torch.device") -> None:
        """See `Processes`."""

    def remember(self, text: str) -> None:
        """See `Processes`."""

    def remembered(self) -> str:
        """See `Processes`."""
        return ""

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """See `Processes`."""
        return items

    def only(self, at_once: int) -> "Alone":
        """See `Processes`."""
        return self


ALONE = Alone()
