"""Being asked to stop: by Ctrl-C, or by a scheduler that wants the machine back."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Self

from cnntrain.errors import notebook_lines
from cnntrain.runtime.launchers import speaks
from cnntrain.runtime.processes import ALONE, Processes

PREEMPTED, INTERRUPTED = 75, 130  # exit codes; 75 is EX_TEMPFAIL of sysexits.h: try again
STOPPING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)
]  # Windows has the first two
_ECHO_SECONDS = 2  # in which one request may reach a process of several a second time, by another way
_PATIENCE_SECONDS = 5  # for a command that does not train to clear away what it has half made


class Stopped(KeyboardInterrupt):
    """A signal asked to stop. No `Exception`, so that nothing takes it for a failure of its own.

    Attributes:
        name: Of the signal.
        exit_code: 130 after Ctrl-C, else 75.
        of_all: Whether all processes stop for it, at the same step.
    """

    of_all = False

    def __init__(self, number: int) -> None:
        super().__init__(number)  # from which pickle makes it again, where another process is told
        self.name = signal.Signals(number).name
        self.exit_code = _exit_code(number)

    def __str__(self) -> str:
        return "interrupted" if self.exit_code == INTERRUPTED else f"stopped by {self.name}"

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: how to go on."""
        return notebook_lines(self)


class StopSignals:
    """While it is entered, the first signal raises `Stopped`, and the second ends the process at once.

    Where SIGINT was Python's own before, as in a notebook, the second one is an ordinary `KeyboardInterrupt` again.

    SIGHUP stays ignored where it is (under nohup). SIGINT does not: a shell lets its background jobs ignore Ctrl-C, but
    who sends it to one of them means it.

    An exception would leave a module that is being imported half made. Where nothing is lost yet the process ends at
    once instead; in training it is raised at the next `check`. Outside training the process also ends where the
    exception was swallowed, as by a `__del__`.

    Args:
        training: Whether there may be something to save.
        processes: That train together, and stop together.

    Attributes:
        handled: To be set by who has caught `Stopped`; until then it is raised again at every `check`.
    """

    def __init__(self, *, training: bool = False, processes: Processes = ALONE) -> None:
        self.handled = False
        self._ended = self._has_trained = False
        self._training, self._processes = training, processes
        self._received: int | None = None
        self._since = 0.0  # when that was
        self._depth = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in STOPPING:
                if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
                    before = self._before[number] = signal.signal(number, self._receive)
                    around = getattr(before, "__self__", None)
                    if self._training and isinstance(around, StopSignals):
                        around._has_trained = True
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def end(self) -> None:
        """From now on signals come too late: all is done, and the exit code is known."""
        self._ended = True
        if hasattr(signal, "alarm"):
            signal.alarm(0)

    @contextmanager
    def later(self) -> Iterator[None]:
        """What must not be cut in two: a signal raises at its end, or where `check` is called.

        One of several processes waits until they all look.
        """
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if not self._depth and self._processes.count == 1:
            self.check()

    def check_together(self) -> None:
        """Raises in all processes alike if one of them was sent a signal; they must all call it.

        Raises:
            Stopped: One was, and nobody has handled it.
        """
        number = self._processes.soon(self._received or 0)
        if number and not self.handled:
            if self._received is None:
                self._received, self._since = number, time.monotonic()
            stopped = Stopped(number)
            stopped.of_all = True
            raise stopped

    def check(self) -> None:
        """Raises if a signal came to this process meanwhile.

        Raises:
            Stopped: One did, and nobody has handled it.
        """
        if self._received is not None and not self.handled:
            raise Stopped(self._received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._ended:
            return
        if self._received is not None:
            if self._processes.count > 1 and time.monotonic() - self._since < _ECHO_SECONDS:
                return
            if self._before[number] is signal.default_int_handler:
                signal.default_int_handler(number, frame)
            _exit(number, "stopped at once, by a second signal; what was saved before is whole")
        self._received, self._since = number, time.monotonic()
        if not self._training:
            if _is_importing(frame):
                is_whole = "what was saved before is whole" if self._has_trained else "nothing was begun yet"
                _exit(number, f"{Stopped(number)}; {is_whole}")
            self._insist(number)
        if not self._depth and not _is_importing(frame):
            self.check()

    @staticmethod
    def _insist(number: int) -> None:
        """Ends the process where `Stopped` is swallowed, or does not get through in time."""
        message = str(Stopped(number))
        sys.unraisablehook = lambda _: _exit(number, message)
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, lambda *_: _exit(number, message))
            signal.alarm(_PATIENCE_SECONDS)


def _exit(number: int, message: str) -> NoReturn:
    try:
        if speaks():
            os.write(sys.stderr.fileno(), f"error: {message}\n".encode())
    finally:  # stderr may be gone
        os._exit(_exit_code(number))


def _is_importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _exit_code(number: int) -> int:
    return INTERRUPTED if number == signal.SIGINT else PREEMPTED
