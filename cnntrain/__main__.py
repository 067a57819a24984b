"""The command `cnntrain`, as a process: signals, pipes and exit codes. `python -m cnntrain` is the same."""

import os
import signal


def entry() -> None:
    """Runs the command line and exits, at once: PyTorch takes seconds to be taken down, deaf to signals."""
    _listen_early()
    # Where a connection ends with the process at its other end, PyTorch would warn of it with a stack dump.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

    import contextlib
    import sys

    from cnntrain.errors import CnntrainError, Interrupted
    from cnntrain.runtime.exhaustion import explain_exhaustion
    from cnntrain.runtime.launchers import speaks
    from cnntrain.runtime.signals import StopSignals
    from cnntrain.runtime.streams import open_streams, reopen_closed

    reopen_closed()
    open_streams(explain_exhaustion())
    with StopSignals() as stop:
        code = 1
        try:
            try:
                from cnntrain.cli import main

                code = main()
            finally:  # a signal that comes before this is caught below, and after it nothing is raised
                stop.end()
        except KeyboardInterrupt as error:  # before or after the command itself
            if speaks():
                print(f"error: {str(error) or 'interrupted'}", file=sys.stderr)
            code = getattr(error, "exit_code", Interrupted.exit_code)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(CnntrainError, OSError, ValueError):  # main has said what is wrong with stdout
                stream.flush()
        os._exit(code)


def _listen_early() -> None:
    """Ends at signals until `StopSignals` is imported, which takes longer than this file."""

    def stop(number: int, _: object) -> None:
        interrupted = number == signal.SIGINT
        how = "interrupted" if interrupted else f"stopped by {signal.Signals(number).name}"
        try:
            if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":  # of several the first speaks
                os.write(2, f"error: {how}; nothing was begun yet\n".encode())
        finally:  # stderr may be closed
            os._exit(130 if interrupted else 75)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        number = getattr(signal, name, None)  # Windows has the first two
        if number and (name == "SIGINT" or signal.getsignal(number) is not signal.SIG_IGN):
            signal.signal(number, stop)


if __name__ == "__main__":
    entry()
