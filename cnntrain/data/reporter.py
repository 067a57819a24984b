"""Whoever tells the user what takes its time while data are prepared."""

from collections.abc import Iterable
from typing import Any, Protocol


class Reporter(Protocol):
    """Tells the user what takes its time."""

    @property
    def shows_bars(self) -> bool:
        """Whether bars are seen."""

    def say(self, text: str) -> None:
        """A line of progress."""

    def progress(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        """The items, with a bar."""


class Silent:
    """A reporter that says nothing."""

    shows_bars = False

    def say(self, text: str) -> None:
        """See `Reporter`."""

    def progress(self, items: Iterable[Any], total: int, what: str) -> Iterable[Any]:
        """See `Reporter`."""
        return items


SILENT = Silent()
