"""What a run wrote down, read back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnntrain.doctor import Signals
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
        config: The same, parsed.
    """

    folder: Path
    results: dict[str, Any]
    epochs: list[dict[str, Any]]
    signals: list[dict[str, Any]]
    config_text: str
    config: dict[str, Any]

    @property
    def for_doctor(self) -> Signals:
        """What the doctor judges by; of a run that has not ended, or is of an older version, some of it is missing."""
        return Signals(
            epochs=self.epochs,
            steps=self.signals,
            val=self.results.get("val") or {},
            chance_loss=self.results.get("chance_loss"),
            class_counts=self.results.get("class_counts", {}),
            early_stopping=self.config.get("recipe", {}).get("early_stopping"),
            finished=bool(self.results),
        )


def read_records(folder: Path) -> RunRecords:
    """The records in a run folder.

    Raises:
        CheckpointError: One of them is damaged.
    """
    config_text = _text(folder / "config.yaml")
    try:
        config = dict(yaml.safe_load(config_text) or {})
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'config.yaml'}: damaged; remove it, or restore it from a copy") from error
    return RunRecords(
        folder,
        results=next(iter(_json_lines(folder / "results.json", whole=True)), {}),
        epochs=_json_lines(folder / "metrics.jsonl"),
        signals=_json_lines(folder / "signals.jsonl"),
        config_text=config_text,
        config=config,
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
