"""The command `cnntrain`, as a process: signals, pipes and exit codes. `python -m cnntrain` is the same."""

import contextlib
import os
import sys

from cnntrain.errors import Interrupted
from cnntrain.runtime.signals import StopSignals


def entry() -> None:
    """Runs the command line and exits, at once: PyTorch takes seconds to be taken down, deaf to signals."""
    # A file name may hold what the terminal's encoding lacks; it is shown escaped.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with StopSignals():
        try:
            from cnntrain.cli import main

            code = main()
        except KeyboardInterrupt as error:  # before or after the command itself
            print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
            code = getattr(error, "exit_code", Interrupted.exit_code)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # main has said what is wrong with stdout
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    entry()
