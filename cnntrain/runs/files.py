"""Writing files whole or not at all."""

import contextlib
import errno
import json
import math
import os
import re
import shutil
from pathlib import Path
from typing import Any

from cnntrain.errors import StorageError

_PARTIAL = ".partial"


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file: written beside its name, flushed to disk, renamed into place, and the folder flushed.

    Raises:
        StorageError: The folder cannot be written or is full; a file that was there before is left as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}{_PARTIAL}")
    try:
        free = shutil.disk_usage(path.parent).free
        if len(content) > free:
            raise StorageError(f"{path} cannot be written: it takes {len(content):,} bytes, and {free:,} are free")
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def flush_folder(folder: Path) -> None:
    """Makes the names in a folder outlast a loss of power."""
    if os.name == "nt":  # where folders cannot be opened, and renaming is written through
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def remove_partials(folder: Path) -> None:
    """Removes what a killed process was writing."""
    for path in folder.rglob(f".*{_PARTIAL}"):
        path.unlink(missing_ok=True)


def to_json(values: Any) -> str:
    """Indented JSON, but with a row of numbers (of a confusion matrix, say) on one line.

    Letters that could act on a terminal, such as those that turn the direction of writing, are escaped.
    """
    text = json_text(values, indent=2, ensure_ascii=False)
    # Only a list begins with a line end here: those in texts are escaped.
    rows = re.sub(r"\[\n[\d\s,]+\]", lambda row: f"[{' '.join(row[0][1:-1].split())}]", text)
    return "\n".join(map(harmless_json, rows.split("\n")))


def harmless_json(line: str) -> str:
    """A line of JSON in which letters that could act on a terminal, or are no UTF-8, are escaped."""
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in line)


def json_text(values: Any, indent: int | None = None, *, ensure_ascii: bool = True) -> str:
    """JSON as its standard has it: what is no finite number becomes null."""
    options: dict[str, Any] = {"indent": indent, "ensure_ascii": ensure_ascii, "allow_nan": False}
    try:
        return json.dumps(values, **options)
    except ValueError:
        return json.dumps(_finite(values), **options)


def _finite(values: Any) -> Any:
    match values:
        case float():
            return values if math.isfinite(values) else None
        case dict():
            return {key: _finite(value) for key, value in values.items()}
        case list() | tuple():
            return [_finite(value) for value in values]
    return values
