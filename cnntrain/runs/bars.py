"""Which bars are seen: those of a terminal, or of a notebook."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from tqdm import tqdm


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this, whose stderr is seen though it is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())


def new_bar(total: int, name: str, *, first: int = 0, items: Iterable[Any] | None = None) -> "tqdm[Any]":
    """A bar that is gone when it is closed, in a notebook as a widget; or one around items.

    Args:
        total: How many there are, those before the first included.
        name: What is written before it.
        first: How many were done before.
        items: What is gone through.
    """
    return _kind()(items, total=total, initial=first, desc=name, leave=False, file=sys.stderr)


def write_above_bars(text: str) -> None:
    """Writes to stderr, so that bars stay whole."""
    if _kind() is tqdm:
        tqdm.write(text, file=sys.stderr)
    else:  # widgets are no text
        sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _kind() -> "type[tqdm[Any]]":
    if not in_notebook() or not find_spec("ipywidgets"):
        return tqdm
    from tqdm.notebook import tqdm_notebook

    return tqdm_notebook
