"""From a YAML file and command-line overrides to one frozen, checked `Config`."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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
    source: ConfigSource, set_: Sequence[str] | Mapping[str, Any] | None = None, **flags: Any
) -> LoadedConfig:
    """Reads a configuration and applies what is said anew.

    Args:
        source: What to read.
        set_: `KEY=VALUE` texts, as `--set` has them, applied in order; or values by key.
        flags: Values by the names of `FLAGS`; they win, and None changes nothing.

    Raises:
        ConfigError: With every fault that was found, one per line.
    """
    if isinstance(set_, Mapping):
        set_ = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in set_.items()]
    document, name = _read(source)
    for assignment in set_ or ():
        set_value(document, assignment)
    for flag, value in flags.items():
        if value is not None:
            set_value(document, f"{FLAGS[flag]}={_as_json(value)}", f"--{flag.replace('_', '-')} {value}")
    config = _validate(document)
    if config.run.name is None:
        config = config.model_copy(update={"run": config.run.model_copy(update={"name": name or config.model.name})})
    return LoadedConfig(config, document)


def _as_json(value: Any) -> str:
    return json.dumps(value if isinstance(value, int | float) else str(value), ensure_ascii=False)


def _read(source: ConfigSource) -> tuple[Document, str]:
    """The document, and the name of its runs where it says none; empty for that of its network."""
    if isinstance(source, str | os.PathLike):
        path = find_config(os.fspath(source))
        return read_document(path), path.stem
    values = source.model_dump(mode="json") if isinstance(source, Config) else dict(source)
    try:
        return Document(write_yaml(values), "the configuration", show_lines=False), ""
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration: must hold plain values alone: {error.args[0]}") from error


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
