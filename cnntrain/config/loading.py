"""From a YAML file and command-line overrides to one frozen, checked `Config`."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from cnntrain.config import faults
from cnntrain.config.reader import Document, read_document, set_value, write_yaml
from cnntrain.config.schema import Config
from cnntrain.config.shipped import find_config
from cnntrain.errors import CnntrainError, ConfigError

__all__ = [
    "Config", "ConfigSource", "LoadedConfig", "dump_config", "json_schema", "load_config", "locate", "parse_config",
]  # fmt: skip

# A YAML file or the name of a shipped configuration; plain values, as such a file holds them; or a configuration.
ConfigSource = str | os.PathLike[str] | Mapping[str, Any] | Config

# The keys that have a flag of their own.
FLAGS = {
    "device": "run.device",
    "data_root": "run.data_root",
    "output": "run.output",
    "name": "run.name",
    "seed": "run.seed",
    "epochs": "recipe.epochs",
    "batch_size": "recipe.batch_size",
    "lr": "recipe.optimizer.lr",
    "workers": "data.num_workers",
}


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration, and where each of its keys was written."""

    config: Config
    document: Document


def load_config(
    source: ConfigSource, set: str | Sequence[str] | Mapping[str, Any] | None = None, **flags: Any
) -> LoadedConfig:
    """Reads a configuration and applies what is said anew.

    Args:
        source: What to read.
        set: `KEY=VALUE` texts, as `--set` has them, applied in order; or one; or values by key.
        flags: Values by the names of `FLAGS`; they win, and None changes nothing.

    Raises:
        ConfigError: With every fault that was found, one per line.
    """
    document, name = _read(source)
    for assignment in _assignments(set):
        set_value(document, assignment)
    for flag, value in flags.items():
        if value is not None:
            option = f"--{flag.replace('_', '-')}"
            set_value(document, f"{FLAGS[flag]}={_as_json(value, option)}", f"{option} {value}")
    config = _validate(document)
    if config.run.name is None:
        config = config.model_copy(update={"run": config.run.model_copy(update={"name": name or config.model.name})})
    return LoadedConfig(config, document)


def _assignments(values: str | Sequence[str] | Mapping[str, Any] | None) -> Sequence[str]:
    """What is set, as texts `KEY=VALUE`."""
    if isinstance(values, str):
        return [values]
    if isinstance(values, Mapping):
        return [f"{key}={_as_json(value, f'--set {key}')}" for key, value in values.items()]
    for value in values or ():
        if not isinstance(value, str):
            raise ConfigError(f"--set: takes KEY=VALUE, such as recipe.epochs=5, or values by key (got {value!r})")
    return values or ()


def _as_json(value: Any, option: str) -> str:
    """A plain value as JSON, which is YAML; a path as its text, a number of NumPy as that number."""
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{option}: must be a plain value: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.number):
        return value.item()
    raise TypeError(f"cannot represent a {type(value).__name__}")


def _read(source: ConfigSource) -> tuple[Document, str]:
    """The document, and the name of its runs where it says none; empty for that of its network."""
    if isinstance(source, str | os.PathLike):
        path = find_config(os.fspath(source))
        return read_document(path), path.stem
    if not isinstance(source, Mapping | Config):
        raise TypeError(f"a configuration is a name, a path, a dict or a Config, not a {type(source).__name__}")
    values = source.model_dump(mode="json") if isinstance(source, Config) else dict(source)
    try:
        return Document(write_yaml(values), "given in Python", show_lines=False), ""
    except yaml.YAMLError as error:
        raise ConfigError(f"given in Python: must hold plain values alone: {error.args[0]}") from error


def parse_config(text: str, label: str) -> Config:
    """Reads a configuration from YAML text (or JSON, which is YAML), such as a checkpoint carries.

    Raises:
        ConfigError: With every fault that was found, one per line.
    """
    return _validate(Document(text, label, show_lines=False))


def dump_config(config: Config) -> str:
    """The configuration as YAML, every key written out."""
    return write_yaml(config.model_dump(mode="json"))


def json_schema() -> str:
    """The JSON Schema of a configuration, as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"


@contextmanager
def locate(loaded: LoadedConfig) -> Iterator[None]:
    """Adds file, line and key to an error that a builder raises about one key."""
    try:
        yield
    except CnntrainError as error:
        if error.key is None:
            raise
        keys = tuple(int(part) if part.isdecimal() else part for part in error.key.split("."))
        place = faults.where(faults.as_written(keys, loaded.document.data), loaded.document)
        first, *more = error.lines
        raise type(error)(f"{place}: {error.key}: {first}", more=more) from error


def _validate(document: Document) -> Config:
    if not isinstance(document.data, dict):
        content = "nothing" if document.data is None else type(document.data).__name__
        raise ConfigError(
            f"{document.label}: a configuration has the sections model, data, recipe and run (found {content}); "
            f"`cnntrain init` writes one to start from"
        )
    try:
        return Config.model_validate(document.data)
    except ValidationError as error:
        first, *more = faults.explain(error, document)
        raise ConfigError(first, more=more) from error
