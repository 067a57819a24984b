"""Reading YAML: safe, strict, and remembering where each key stands.

YAML 1.2's idea of numbers and booleans is used: `5e-4` is a number, `yes` and `on` are text.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, ClassVar

import numpy as np
import yaml

from cnntrain.errors import ConfigError
from cnntrain.runtime.names import shortened

MAX_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 20_000
MAX_NUMBER = 2**63 - 1  # of whole numbers, either way: what NumPy and PyTorch can take

Keys = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would take for something else."""


for _tag, _pattern, _first in [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?[0-9]+[eE][-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
]:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))

# Of values that programs give: a path is its text, a number of NumPy that number.
_Dumper.add_multi_representer(PurePath, lambda dumper, path: dumper.represent_str(str(path)))
_Dumper.add_multi_representer(np.number, lambda dumper, number: dumper.represent_data(number.item()))  # type: ignore[type-abstract]

_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "seq", "map")}


class Document:
    """Plain data read from YAML, and for each key where it was written.

    Attributes:
        data: Nested dicts, lists, strings, numbers, booleans and None.
        origins: For the path of each value, `file:line` or the command-line flag it came from.
    """

    def __init__(self, text: str, label: str, *, show_lines: bool = True, under: Keys = ()) -> None:
        """Reads `text`; `label` names it in messages, `under` is where its values belong."""
        self.label = label
        self.origins: dict[Keys, str] = {}
        self._show_lines = show_lines
        self._num_values = 0
        try:
            loader = _Loader(text)
        except yaml.reader.ReaderError as error:
            line = f":{text[: error.position].count(chr(10)) + 1}" if show_lines else ""
            raise ConfigError(
                f"{label}{line}: not valid YAML: a character that is not allowed, {hex(error.character)}"
            ) from error
        try:
            node = loader.get_single_node()
            self.data = self._build(loader, node, under) if node is not None else None
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem or error.context)
            hint = "; indent with spaces, not tabs" if "'\\t'" in problem else ""
            raise ConfigError(f"{self._where(mark)}: not valid YAML: {problem}{hint}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{label}: not valid YAML: {str(error).splitlines()[0]}") from error
        except RecursionError as error:
            raise ConfigError(f"{label}: nested too deeply (at most {MAX_DEPTH} levels)") from error
        finally:
            loader.dispose()

    def _where(self, mark: Any) -> str:
        return f"{self.label}:{mark.line + 1}" if self._show_lines and mark else self.label

    def _build(self, loader: _Loader, node: yaml.Node, keys: Keys) -> Any:
        where = self._where(node.start_mark)
        self.origins[keys] = where
        self._num_values += 1  # aliases are expanded here, so this also bounds a "billion laughs"
        if len(keys) > MAX_DEPTH or self._num_values > MAX_VALUES:
            raise ConfigError(f"{where}: too deep or too large (at most {MAX_DEPTH} levels, {MAX_VALUES:,} values)")
        if node.tag not in _PLAIN_TAGS:
            raise ConfigError(
                f"{where}: the tag {node.tag!r} is not allowed: values are text, numbers, lists, mappings"
            )
        if isinstance(node, yaml.SequenceNode):
            return [self._build(loader, item, (*keys, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return {key: self._build(loader, value, (*keys, key)) for key, value in self._items(loader, node, keys)}
        return self._scalar(loader, node, f"{where}: {dotted(keys)}" if keys else where)

    def _scalar(self, loader: _Loader, node: yaml.Node, where: str) -> Any:
        if node.tag.endswith(":int") and (digits := len(node.value.lstrip("-+"))) > len(str(MAX_NUMBER)):
            raise ConfigError(f"{where}: a whole number of {digits:,} digits is too large (at most {MAX_NUMBER:,})")
        try:
            value = loader.construct_object(node)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from error
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise ConfigError(f"{where}: {value:,} is too large for a whole number (at most {MAX_NUMBER:,})")
        if isinstance(value, str) and (odd := _NO_TEXT.search(value)):
            raise ConfigError(f"{where}: a character that no file and no name can hold (got {shortened(odd[0])})")
        return value

    def _items(self, loader: _Loader, node: yaml.MappingNode, keys: Keys) -> Iterator[tuple[str, yaml.Node]]:
        seen: dict[str, str] = {}
        for key_node, _ in node.value:
            key, where = key_node.value, self._where(key_node.start_mark)
            self._check_key(key_node)
            if key in seen:
                raise ConfigError(f"{where}: {dotted((*keys, key))}: written twice (first at {seen[key]})")
            seen[key] = where
        loader.flatten_mapping(node)  # resolves `<<`; a mapping's own keys come last and win
        for key_node, _ in node.value:
            self._check_key(key_node)
        merged = {key_node.value: (key_node, value) for key_node, value in node.value}
        for key, (key_node, value) in merged.items():
            yield key, value
            self.origins[(*keys, key)] = self._where(key_node.start_mark)

    def _check_key(self, node: yaml.Node) -> None:
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{self._where(node.start_mark)}: a key must be text, not a list or a mapping")


def read_document(path: Path) -> Document:
    """Reads a YAML file.

    Raises:
        ConfigError: The file is missing, unreadable, too large or not YAML.
    """
    try:
        raw = path.read_bytes()
        if len(raw) > MAX_BYTES:
            raise ConfigError(f"{path}: too large for a configuration ({len(raw):,} bytes, at most {MAX_BYTES:,})")
        text = raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
    return Document(text, str(path))


def write_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that reads back as the same values, here and by readers of YAML 1.1."""
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    if all(map(str.isprintable, text.split("\n"))):
        return text
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)  # with all that is not ASCII escaped


def set_value(document: Document, assignment: str, flag: str | None = None) -> None:
    """Overrides one key of a document, as `--set recipe.epochs=5` does.

    Args:
        document: Changed in place.
        assignment: `KEY=VALUE`; the key is dotted, list items by number; the value is YAML.
        flag: How messages name the origin, `--set KEY=VALUE` by default.

    Raises:
        ConfigError: The assignment has no `=`, no key, an impossible path or a value that is no YAML.
    """
    flag = flag or f"--set {shortened(assignment, 200)}"
    key, equals, text = assignment.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"--set takes KEY=VALUE, such as --set recipe.epochs=5 (got {shortened(assignment)!r})")
    if len(parts) > MAX_DEPTH:
        raise ConfigError(f"{flag}: nested too deeply (at most {MAX_DEPTH} levels)")
    if document.data is None:
        document.data = {}
    target: Any = document.data
    keys: Keys = ()
    for part in parts[:-1]:
        keys = (*keys, _step_into(target, part, keys, flag))
        inner = target.get(part) if isinstance(target, dict) else target[keys[-1]]
        if inner is None:
            inner = {}
            document.origins[keys] = flag
        elif isinstance(inner, str):  # a part named in short, such as `optimizer: adam`
            inner = {"name": inner}
        target[keys[-1]] = inner
        target = inner
    keys = (*keys, _step_into(target, parts[-1], keys, flag))
    value = Document(text, flag, show_lines=False, under=keys)
    document.origins = {known: at for known, at in document.origins.items() if known[: len(keys)] != keys}
    document.origins |= value.origins | {keys: flag}
    target[keys[-1]] = value.data


def _step_into(target: Any, part: str, keys: Keys, flag: str) -> Any:
    """The key or index that `part` means in `target`, which stands at `keys`."""
    if isinstance(target, dict):
        return part
    if not isinstance(target, list):
        raise ConfigError(f"{flag}: {dotted(keys)} is a single value and has no key {part!r}")
    if not re.fullmatch(r"[0-9]{1,6}", part) or int(part) >= len(target):
        items = f"a list with items 0 to {len(target) - 1}" if target else "an empty list"
        raise ConfigError(f"{flag}: {dotted(keys)} is {items} (got {shortened(part)!r})")
    return int(part)


def dotted(keys: Keys) -> str:
    """`recipe.optimizer.lr`, `data.augment.0`."""
    return ".".join(str(key) for key in keys)
