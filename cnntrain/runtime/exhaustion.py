"""Where memory is limited (`ulimit -v`), libraries written in C or C++ end the process when they are refused some."""

import os
import sys
from pathlib import Path

from cnntrain.errors import DeviceError

_SIGNALS = ("SIGABRT", "SIGSEGV", "SIGBUS")  # of an exception that nobody catches, of a result that nobody checks
# With less to spare than this once PyTorch is loaded, other libraries may wait for memory for ever.
_LEAST_ROOM = 300 * 2**20


def memory_limit() -> int | None:
    """Bytes of memory that this process may map, where `ulimit -v` says so."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def explain_exhaustion() -> int:
    """Under such a limit, makes the abort of a library exit code 5 with a message; elsewhere does nothing.

    PyTorch and CUDA end by `std::terminate`, OpenBLAS and OpenMP by `exit`. What they say of it is dropped.

    Returns:
        The descriptor of stderr from now on.
    """
    limit = memory_limit()
    if limit is None or sys.platform != "linux":
        return 2

    import ctypes
    import signal

    stderr = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    message = f"error: out of memory: {describe_limit(limit)}\n".encode()

    def give_up(*_: object) -> None:
        try:
            os.write(stderr, message)
        finally:
            os._exit(DeviceError.exit_code)

    libc = ctypes.CDLL(None)
    at_exit, at_signal = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p), ctypes.CFUNCTYPE(None, ctypes.c_int)
    handlers = at_exit(give_up), at_signal(give_up)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(handlers))  # for as long as the process lives
    libc.on_exit(handlers[0], None)  # cnntrain itself ends by `_exit`, and never comes here
    for name in _SIGNALS:
        getattr(libc, "sysv_signal", libc.signal)(int(getattr(signal, name)), handlers[1])
    return stderr


def check_room() -> None:
    """To be called once PyTorch is loaded.

    Raises:
        DeviceError: A limit leaves too little memory for anything else.
    """
    limit = memory_limit()
    if limit is None or not Path("/proc/self/statm").exists():
        return
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    if limit - taken < _LEAST_ROOM:
        raise DeviceError(f"out of memory, of which libraries take {taken / 2**30:.2f} GiB: {describe_limit(limit)}")


def describe_limit(limit: int) -> str:
    """What to do about a limit, in bytes, that leaves too little."""
    return f"this process may map {limit / 2**30:.2f} GiB (`ulimit -v`), which is too little; raise that limit"
