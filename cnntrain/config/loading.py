"""From a YAML file and command-line overrides to one frozen, checked `Config`."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from cnntrain.config import faults
from cnntrain.config.reader import Document, read_document, set_value, write_yaml
from cnntrain.config.schema import Config
from cnntrain.config.shipped import find_config
from cnntrain.errors import CnntrainError, ConfigError

__all__ = ["Config", "LoadedConfig", "dump_config", "json_schema", "load_config", "locate", "parse_config"]


@dataclass(frozen=True)
class LoadedConfig:
    """A checked configuration, and where each of its keys was written."""

    config: Config
    document: Document


def load_config(source: str, assignments: Sequence[str] = (), flags: Sequence[tuple[str, str]] = ()) -> LoadedConfig:
    """Reads a configuration and applies the overrides.

    Args:
        source: A YAML file, or the name of a shipped configuration.
        assignments: `KEY=VALUE` texts of `--set`, applied in order.
        flags: (`KEY=VALUE`, how to name it in messages) for flags with a name of their own; they win.

    Raises:
        ConfigError: With every fault that was found, one per line.
    """
    path = find_config(source)
    document = read_document(path)
    for assignment in assignments:
        set_value(document, assignment)
    for assignment, flag in flags:
        set_value(document, assignment, flag)
    config = _validate(document)
    if config.run.name is None:
        config = config.model_copy(update={"run": config.run.model_copy(update={"name": path.stem})})
    return LoadedConfig(config, document)


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
