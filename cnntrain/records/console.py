"""What a person sees: progress on stderr, results on stdout."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from tqdm import tqdm

from cnntrain.data import Preprocessing, Splits
from cnntrain.data.storage import describe_size, free_memory
from cnntrain.names import printable


class Console:
    """Says what happens. Bars only where stderr is a terminal; nothing but results when quiet."""

    most_silence_seconds = 30.0  # in a log, while something is under way

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._spoke = time.monotonic()

    def step(self, number: int, name: str, detail: str = "") -> None:
        """One of the ten steps, by name."""
        self.say(f"{number:2d}  {name:<22}{detail}".rstrip())

    def say(self, *lines: str) -> None:
        """Lines of progress, none of which becomes two by a name in it."""
        if not self.quiet:
            tqdm.write("\n".join(map(printable, lines)), file=sys.stderr)
            sys.stderr.flush()
            self._spoke = time.monotonic()

    def describe_data(self, splits: Splits) -> None:
        """How many images of which shape there are, and what the user should know about them."""
        fitting = splits.preprocessing
        stored = f", cropped to {fitting.image_size}" if fitting.stored_size != fitting.image_size else ""
        self.say(
            f"     {len(splits.train):,} train, {len(splits.val):,} val, {len(splits.test):,} test images of "
            f"{fitting.stored_size}x{fitting.stored_size}x{fitting.channels}{stored}, {splits.num_classes} classes"
        )
        self.say(f"     images are {splits.held}")
        for notice in splits.notices:
            self.say(f"     note: {notice}")

    def describe_memory(self, needed: int, device: torch.device) -> None:
        """How much memory training will take, and what to do where there is less."""
        free = free_memory(device)
        self.say(f"     training takes about {describe_size(needed)} of memory")
        if needed > free:
            self.say(f"     note: {describe_size(free)} are free; recipe.micro_batch takes less for the same batches")

    def describe_preprocessing(self, preprocessing: Preprocessing) -> None:
        """How images reach a network that has seen others before."""
        mean, std = (
            ", ".join(f"{value:.3g}" for value in values) for values in (preprocessing.mean, preprocessing.std)
        )
        self.say(f"     images of {preprocessing.image_size} px, mean ({mean}), std ({std})")

    @property
    def shows_bars(self) -> bool:
        """Whether bars are seen."""
        return not self.quiet and sys.stderr.isatty()

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
            return tqdm(items, total=total, initial=first, desc=what, leave=False, file=sys.stderr)
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


def percent(fraction: float) -> str:
    """0.98765 -> `98.77 %`."""
    return f"{100 * fraction:.2f} %"
