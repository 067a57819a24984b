"""What there is in a folder of runs, read from their records alone: quick, and without PyTorch."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnntrain.data.sources import is_folder
from cnntrain.runs.run_folder import is_in_use
from cnntrain.runs.runs import BEST, runs_in
from cnntrain.runtime.names import shortened
from cnntrain.runtime.plain_text import aligned


@dataclass(frozen=True)
class RunLine:
    """A run in a list of runs; what its records do not say is None.

    Attributes:
        run: Its folder.
        began: When, as its name tells: `20260131-120000`.
        state: `finished`, `in progress`, `stopped` (it can go on), `failed` (it left nothing to go on with) or
            `damaged` (a record cannot be read, which `damaged` names).
        epochs_done: Of `epochs`.
        val_accuracy: Of the best epoch, in [0, 1].
        test_accuracy: In [0, 1].
        network: `model.name`.
        data: `data.source`, or of a folder of images its name.
        newest: Whether commands mean this one where none is named.
    """

    run: str
    began: str
    state: str
    epochs_done: int
    epochs: int | None
    val_accuracy: float | None
    test_accuracy: float | None
    network: str | None
    data: str | None
    damaged: tuple[str, ...]
    newest: bool


def list_runs(output: Path) -> list[RunLine]:
    """All runs in a folder of runs, from the oldest to the newest."""
    runs = runs_in(output)
    newest = next((run for run in reversed(runs) if (run / BEST).is_file()), None)
    return [_describe(run, newest=run == newest) for run in runs]


def runs_text(runs: list[RunLine]) -> list[str]:
    """The list as a table; `*` marks the newest."""
    rows = [("  run", "state", "epochs", "val", "test", "network", "data"), *map(_row, runs)]
    damaged = [f"damaged: {path}" for line in runs for path in line.damaged]
    return [*aligned(rows), *damaged, "* is the newest, which commands take unless another one is named"]


def _row(line: RunLine) -> tuple[str, ...]:
    epochs = f"{line.epochs_done}" + (f"/{line.epochs}" if line.epochs else "")
    val, test = ("-" if share is None else f"{100 * share:.2f} %" for share in (line.val_accuracy, line.test_accuracy))
    names = (shortened(name or "-", 40) for name in (line.network, line.data))
    return (f"{'*' if line.newest else ' '} {shortened(line.run)}", line.state, epochs, val, test, *names)


def _describe(run: Path, *, newest: bool) -> RunLine:
    damaged: list[str] = []
    config = _read(run / "config.yaml", _mapping_of_yaml, damaged)
    results = _read(run / "results.json", _mapping_of_json, damaged)
    epochs = _read(run / "metrics.jsonl", _lines_of_json, damaged).get("lines", [])
    best = [line for line in epochs if line.get("best") is True]
    source = _text(config, "data", "source")
    root = _text(config, "data", "root")
    return RunLine(
        run=str(run),
        began=run.name,
        state="damaged" if damaged else _state(run, finished=bool(results)),
        epochs_done=len(epochs),
        epochs=_whole(config, "recipe", "epochs"),
        val_accuracy=_share(results, "val") if results else _share(best[-1], "val") if best else None,
        test_accuracy=_share(results, "test"),
        network=_text(config, "model", "name"),
        data=Path(root).name if root and is_folder(source) else source,
        damaged=tuple(damaged),
        newest=newest,
    )


def _state(run: Path, *, finished: bool) -> str:
    if is_in_use(run):
        return "in progress"
    if finished:
        return "finished"
    return "stopped" if any((run / BEST.parent).glob("step-*.json")) else "failed"


def _read(path: Path, parse: Callable[[str], dict[str, Any]], damaged: list[str]) -> dict[str, Any]:
    """What a record says; nothing where there is none, or where it is damaged, which is noted."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        damaged.append(str(path))
        return {}


def _mapping_of_json(text: str) -> dict[str, Any]:
    return _mapping(json.loads(text))


def _mapping_of_yaml(text: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as quick where it is built
    return _mapping(loader(text).get_single_data())


def _lines_of_json(text: str) -> dict[str, Any]:
    return {"lines": [_mapping_of_json(line) for line in text.splitlines() if line.strip()]}


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("holds something else than keys and values")
    return value


def _value(values: dict[str, Any], section: str, key: str) -> Any:
    of_section = values.get(section)
    return of_section.get(key) if isinstance(of_section, dict) else None


def _text(values: dict[str, Any], section: str, key: str) -> str | None:
    value = _value(values, section, key)
    return value if isinstance(value, str) else None


def _whole(values: dict[str, Any], section: str, key: str) -> int | None:
    value = _value(values, section, key)
    return value if type(value) is int else None


def _share(values: dict[str, Any], section: str) -> float | None:
    value = _value(values, section, "accuracy")
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else None
