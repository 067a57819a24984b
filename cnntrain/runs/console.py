"""What a person sees: progress on stderr, results on stdout."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from cnntrain.runs.bars import in_notebook, new_bar, write_above_bars
from cnntrain.runtime.names import printable
from cnntrain.runtime.processes import Processes


class Console:
    """Says what happens. Bars only in a terminal or a notebook; nothing but results when quiet."""

    most_silence_seconds = 30.0  # in a log, while something is under way

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._notes: list[str] = []  # since those of all processes were told
        self._spoke = time.monotonic()

    def step(self, number: int, name: str, detail: str = "") -> None:
        """One of the ten steps, by name."""
        self.say(f"{number:2d}  {name:<22}{detail}".rstrip())

    def say(self, *lines: str) -> None:
        """Lines of progress, none of which becomes two by a name in it."""
        self._notes += [line.strip() for line in lines if line.strip().startswith("note: ")]
        if lines and not self.quiet:
            write_above_bars("\n".join(map(printable, lines)))
            self._spoke = time.monotonic()

    def tell_notes(self, processes: Processes) -> None:
        """Says what other processes had to note and this one had not; all must call it.

        What several of them note is said once, as by the first of them.
        """
        of_each = processes.gather(self._notes)
        told = set(of_each[0])
        for rank, notes in enumerate(of_each):
            new = [note for note in dict.fromkeys(notes) if note not in told]
            told.update(new)
            if processes.rank == 0:
                self.say(*(f"     process {rank} of {processes.count}: {note}" for note in new))
        self._notes = []

    @property
    def shows_bars(self) -> bool:
        """Whether bars are seen."""
        return not self.quiet and (sys.stderr.isatty() or in_notebook())

    def progress(
        self,
        items: Iterable[Any],
        total: int,
        what: str,
        *,
        first: int = 0,
        after: int = 0,
        detail: Callable[[], str] | None = None,
    ) -> Iterable[Any]:
        """The items, with a bar that is gone when they are; where there are no bars, with a line after long silence.

        Args:
            items: What is gone through.
            total: How many there are, those before the first included.
            what: The bar's name.
            first: How many were done before.
            after: How many of the same kind will follow these, in later epochs.
            detail: Says more, such as the loss; asked only when a line is due, for it may wait for the device.
        """
        what = f"     {printable(what)}"
        if self.quiet:
            return items
        if self.shows_bars:
            return new_bar(total, what, first=first, items=items)
        return self._with_lines(items, total, what, first, after, detail)

    def _with_lines(
        self,
        items: Iterable[Any],
        total: int,
        what: str,
        first: int,
        after: int,
        detail: Callable[[], str] | None,
    ) -> Iterator[Any]:
        began = time.monotonic()
        for done, item in enumerate(items, first):  # of which `done` are done
            now = time.monotonic()
            if now - self._spoke >= self.most_silence_seconds and done > first:
                each = (now - began) / (done - first)
                more = f", {detail()}" if detail else ""
                later = f", {_duration(each * (total - done + after))} of all epochs" if after else ""
                self.say(f"{what}: {done:,} of {total:,}{more}, about {_duration(each * (total - done))} left{later}")
            yield item


def _duration(seconds: float) -> str:
    """90 -> `90 s`, 600 -> `10 min`, 9000 -> `2.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
