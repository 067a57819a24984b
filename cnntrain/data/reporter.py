"""Whoever tells the user what is done, and what takes its time."""

from collections.abc import Iterable
from typing import Any, Protocol


class Reporter(Protocol):
    """Tells the user what is done, and what takes its time."""

    @property
    def shows_bars(self) -> bool:
        """Whether bars are seen."""

    def step(self, number: int, name: str, detail: str = "") -> None:
        """One of the textbook's ten steps, by number and name."""

    def say(self, *lines: str) -> None:
        """Lines of progress."""

    def progress(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        """The items, with a bar."""


class Silent:
    """A reporter that says nothing."""

    shows_bars = False

    def step(self, number: int, name: str, detail: str = "") -> None:
        """See `Reporter`."""

    def say(self, *lines: str) -> None:
        """See `Reporter`."""

    def progress(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        """See `Reporter`."""
        return items


SILENT = Silent()
