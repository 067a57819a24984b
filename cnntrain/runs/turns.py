"""Processes that are started at once with `--resume`: one begins the run, the others find it."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cnntrain.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def one_at_a_time(output: Path, name: str, say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Lets one process at a time look for a run of a name, and begin one where there is none; others wait their turn.

    It gives a function that lets the next one in, to be called as soon as the run is there to be found, and in use.

    Args:
        output: The folder of all runs.
        name: Of the run.
        say: Is told that there is somebody to wait for.

    Raises:
        StorageError: The folder of runs cannot be made.
    """
    if fcntl is None:
        yield lambda: None
        return
    folder = output / name
    made = [parent for parent in (folder, output) if not parent.exists()]
    with ExitStack() as turn:
        try:
            turn.callback(os.close, _take_turn(folder, say))
        except OSError as error:
            raise StorageError(
                f"the run folder {folder} cannot be made: {error.strerror}; say where with --output"
            ) from error
        try:
            yield turn.close
        finally:
            for parent in made:
                with contextlib.suppress(OSError):  # not empty: there is a run in it
                    parent.rmdir()


def _take_turn(folder: Path, say: Callable[[str], None]) -> int:
    """A descriptor of the folder, with a lock on it that is gone with the process, however it ends."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # who had the turn before has just removed it
            continue
        try:
            _lock(descriptor, folder, say)
            if folder.exists() and os.path.samestat(os.fstat(descriptor), folder.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # who had the turn before began nothing, and removed the folder


def _lock(descriptor: int, folder: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"another process is about to begin a run in {folder}; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:  # some network file systems know no locks
        pass
