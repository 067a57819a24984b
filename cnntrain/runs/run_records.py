"""What a run wrote down, read back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnntrain.config.loading import parse_config
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.insight.doctor import Observations
from cnntrain.runs.artifacts.records import read_line, read_results


@dataclass(frozen=True)
class RunRecords:
    """The records of a run; those that it does not have (older runs lack some) are empty.

    Attributes:
        folder: The run's.
        results: Of results.json; empty before the run has finished.
        epochs: The lines of metrics.jsonl.
        steps: The lines of signals.jsonl: gradient norms and update ratios by layer.
        config_text: config.yaml.
        config: The same, parsed.
    """

    folder: Path
    results: dict[str, Any]
    epochs: list[dict[str, Any]]
    steps: list[dict[str, Any]]
    config_text: str
    config: dict[str, Any]

    @property
    def for_doctor(self) -> Observations:
        """What the doctor judges by; of a run that has not ended, or is of an older version, some of it is missing."""
        return Observations(
            epochs=self.epochs,
            steps=self.steps,
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
    path, content = folder / "results.json", _content(folder / "results.json")
    config_text, config = _config(folder / "config.yaml")
    results = read_results(content, path) if content.strip() else {}
    epochs = _lines(folder / "metrics.jsonl")
    for number, line in enumerate(epochs, 1):
        if bool(line["val"]) != bool(results["val"] if results else epochs[0]["val"]):
            raise CheckpointError(
                f"{folder / 'metrics.jsonl'}:{number}: val: must be everywhere, or nowhere, as in results.json"
            )
    return RunRecords(
        folder,
        results=results,
        epochs=epochs,
        steps=_lines(folder / "signals.jsonl"),
        config_text=config_text,
        config=config,
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = enumerate(_content(path).split(b"\n"), 1)
    return [read_line(line, path, number) for number, line in lines if line.strip()]


def _config(path: Path) -> tuple[str, dict[str, Any]]:
    """config.yaml as text, and the same parsed; nothing where there is none."""
    content = _content(path)
    if not content.strip():
        return "", {}
    try:
        text = content.decode()
        parse_config(text, str(path))
        return text, dict(yaml.safe_load(text))
    except (ConfigError, UnicodeDecodeError) as error:
        what = "; ".join(error.lines) if isinstance(error, ConfigError) else str(error)
        raise CheckpointError(f"{path}: damaged; remove it, or restore it from a copy: {what}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
