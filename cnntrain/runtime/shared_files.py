"""Files without a name, for memory that several processes share."""

import os
import tempfile
from pathlib import Path
from typing import Any


def anonymous_file() -> Any:
    """A file that is gone when it is closed. /dev/shm would not do: of that, a container has 64 MB."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("cnntrain"), "r+b")
    return tempfile.NamedTemporaryFile(prefix="cnntrain-")


def path_for_others(number: int, name: str) -> str:
    """Where other processes of this machine find an open file, by its number here, or by its name."""
    return f"/proc/{os.getpid()}/fd/{number}" if Path("/proc/self/fd").is_dir() else name


def inode_of(path: str) -> int:
    """By which a file is known; the link has the name of one that may be gone."""
    return os.stat(path).st_ino  # noqa: PTH116


def opened(path: str, expected_inode: int, mode: str) -> Any:
    """The file of another process.

    Raises:
        OSError: It cannot be reached, or it is another one.
    """
    file = open(path, mode)  # noqa: PTH123, SIM115 (a Path would follow /proc's link to a name that is gone)
    if os.fstat(file.fileno()).st_ino != expected_inode:
        file.close()
        raise OSError("another file")
    return file
