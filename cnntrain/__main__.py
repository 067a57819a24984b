"""The command `cnntrain`, as a process: signals, pipes and exit codes. `python -m cnntrain` is the same."""

import signal
import sys
from types import FrameType

from cnntrain.errors import Interrupted


def entry() -> None:
    """Runs the command line and exits."""
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _terminate)
    # A file name may hold what the terminal's encoding lacks; it is shown escaped.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        from cnntrain.cli import main

        code = main()
    except (KeyboardInterrupt, Interrupted):  # before or after the command itself
        code = Interrupted.exit_code
    sys.exit(code)


def _terminate(number: int, _frame: FrameType | None) -> None:
    """Ends as Ctrl-C does, with the exit code that shells give the signal."""
    terminated = Interrupted(f"stopped by {signal.Signals(number).name}")
    terminated.exit_code = 128 + number
    raise terminated


if __name__ == "__main__":
    entry()
