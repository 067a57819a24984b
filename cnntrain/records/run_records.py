"""What a run wrote down, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnntrain.errors import CheckpointError


@dataclass(frozen=True)
class RunRecords:
    """The records of a run; those that it does not have (older runs lack some) are empty.

    Attributes:
        folder: The run's.
        results: Of results.json; empty before the run has finished.
        epochs: The lines of metrics.jsonl.
        signals: The lines of signals.jsonl: gradient norms and update ratios by layer.
        config_text: config.yaml.
    """

    folder: Path
    results: dict[str, Any]
    epochs: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    config_text: str


def read_records(folder: Path) -> RunRecords:
    """The records in a run folder.

    Raises:
        CheckpointError: One of them is damaged.
    """
    return RunRecords(
        folder,
        results=next(iter(_json_lines(folder / "results.json", whole=True)), {}),
        epochs=_json_lines(folder / "metrics.jsonl"),
        signals=_json_lines(folder / "signals.jsonl"),
        config_text=_text(folder / "config.yaml"),
    )


def _json_lines(path: Path, *, whole: bool = False) -> list[dict[str, Any]]:
    text = _text(path)
    try:
        found = [json.loads(part) for part in ([text] if whole else text.splitlines()) if part.strip()]
        if not all(isinstance(one, dict) for one in found):
            raise ValueError("holds other values than objects")
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged ({error}); remove it, or restore it from a copy") from error
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from error
