"""Writing files whole or not at all."""

import json
import os
import re
from pathlib import Path
from typing import Any

from cnntrain.errors import StorageError


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file: written beside its name, flushed to disk, renamed into place.

    Raises:
        StorageError: The folder cannot be written or is full; a file that was there before is left as it was.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """Replaces a file by UTF-8 text, as `write_bytes` does."""
    write_bytes(path, text.encode())


def to_json(values: Any) -> str:
    """Indented JSON, but with a row of numbers (of a confusion matrix, say) on one line."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    return re.sub(r"\[[\d\s,]+\]", lambda row: re.sub(r"\s+", " ", row[0]).replace("[ ", "[").replace(" ]", "]"), text)
