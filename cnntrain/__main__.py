"""The command `cnntrain`, as a process: signals, pipes and exit codes. `python -m cnntrain` is the same."""

import sys

from cnntrain.errors import Interrupted
from cnntrain.runtime.signals import StopSignals


def entry() -> None:
    """Runs the command line and exits."""
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
    sys.exit(code)


if __name__ == "__main__":
    entry()
