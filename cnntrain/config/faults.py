"""Turning pydantic's findings into messages that teach: where, which key, what was found, what is allowed."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from cnntrain.config.reader import Document, Keys, dotted
from cnntrain.config.schema import Config
from cnntrain.models.layers import SPOKEN

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


_INFERRED = ("in_channels", "in_features", "num_features", "input_shape")


def explain(error: ValidationError, document: Document) -> list[str]:
    """A line for each fault: `file:line: key: what is wrong (got ..., allowed ...)`."""
    findings = error.errors(include_url=False)
    # A list whose items are at fault is not too short as well, though pydantic says so.
    faults = [
        fault for fault in findings if fault["type"] != "too_short" or len(fault["input"]) < fault["ctx"]["min_length"]
    ]
    return [_explain_one(fault, document) for fault in faults]


def wrong_value(fault: ErrorDetails) -> str:
    """What is wrong with one value: what it must be, and what it is."""
    kind, context, got = fault["type"], fault.get("ctx", {}), fault["input"]
    match kind:
        case "value_error":
            return str(context["error"])
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "unknown key"
        case _ if kind in _WANTED:
            wanted = _WANTED[kind].format_map(_plain(context))
            hint = suggest(got, re.findall(r"'(.+?)'", context.get("expected", "")))
            return f"must be {wanted}{hint} (got {_show(got)})"
    return f"{fault['msg']} (got {_show(got)})"


def suggest(word: object, allowed: Iterable[str]) -> str:
    """`; did you mean 'epochs'?` where something allowed is close, else nothing."""
    spelt = {name.lower(): name for name in allowed}
    close = difflib.get_close_matches(str(word).lower(), list(spelt), n=1)
    return f"; did you mean {spelt[close[0]]!r}?" if close else ""


def where(keys: Keys, document: Document) -> str:
    """The place of a key, or of the nearest thing around it that was written."""
    while keys and keys not in document.origins:
        keys = keys[:-1]
    return document.origins.get(keys, document.label)


def as_written(keys: Keys, data: Any) -> Keys:
    """The path of a key in the user's own way of writing, or of the nearest thing around it that was written."""
    written: Keys = ()
    for part in keys:
        if not _holds(data, part) and isinstance(data, dict) and len(data) == 1 and "name" not in data:
            [name] = data  # in short: `- residual: {...}`
            written, data = (*written, name), data[name]
        if _holds(data, part):
            written, data = (*written, part), data[part]
    return written


def _explain_one(fault: ErrorDetails, document: Document) -> str:
    keys, sections = _walk(fault["loc"], document.data)
    place = ""
    kind, context, got = fault["type"], fault.get("ctx", {}), fault["input"]
    if kind == "extra_forbidden":
        allowed = list(dict.fromkeys(key for section in sections for key in section.model_fields))
        what = f"unknown key{_hint(keys, allowed, document)} (allowed: {', '.join(allowed)})"
    elif kind == "missing":
        what = "is missing and has no default"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        names = [name for section in sections for name in _names(section)]
        if kind == "union_tag_not_found":
            what = f"{_nameless(got, names)} (got {_show(got)}, allowed: {', '.join(names)})"
        else:
            tag = context["tag"]
            what = f"unknown name{suggest(tag, names)} (got {_show(tag)}, allowed: {', '.join(names)})"
            keys = (*keys, "name") if (*keys, "name") in document.origins else keys
    elif kind == "string_pattern_mismatch":
        what = f"not understood (got {_show(got)}, allowed: {_description(keys, sections)})"
    else:
        what = wrong_value(fault)
        place = _mentioned(keys, what, document) if kind == "value_error" else ""
    prefix = f"{dotted(keys)}: " if keys else ""
    return f"{place or where(keys, document)}: {prefix}{what}"


def _nameless(got: Any, names: Sequence[str]) -> str:
    """What is wrong with a part of a list that does not say in the right way which it is."""
    known = {word.casefold() for word in (*names, *SPOKEN)}
    if isinstance(got, dict) and len(got) == 1:
        [name] = got
        if name.casefold() in known:
            return f"{name} takes no such value, only options by name, indented under it"
        return f"unknown name {name!r}{suggest(name, names)}"
    if isinstance(got, dict) and (parts := [name for name in got if name.casefold() in known]):
        return f"the options of {parts[0]} must be indented under it"
    return "needs a name, alone or as `name: {key: value}`"


def _hint(keys: Keys, allowed: list[str], document: Document) -> str:
    """What may have been meant by an unknown key."""
    part, key = keys[:-1], str(keys[-1])
    if document.origins.get((*part, "name"), "").startswith("--set"):
        return f" of the {dotted(part)} chosen there; --set {dotted(part)}=NAME replaces the whole part"
    if key in _INFERRED:
        return ": what arrives at a layer is inferred; remove it"
    if close := suggest(key, allowed):
        return close
    homes = [home for home in _homes(key, (Config,)) if home != dotted(keys)]
    return f"; did you mean {homes[0]}?" if homes else ""


def _homes(key: str, sections: Sequence[type[BaseModel]], prefix: str = "") -> list[str]:
    """Where a key of this name stands in the configuration, nearest to the top first."""
    homes = [f"{prefix}{key}" for section in sections if key in section.model_fields and prefix]
    for section in sections:
        for name, field in section.model_fields.items():
            if name not in ("augment", "layers"):  # lists, whose items may nest
                homes += _homes(key, _sections_in((field.annotation, *field.metadata)), f"{prefix}{name}.")
    return sorted(set(homes), key=lambda home: home.count("."))


def _mentioned(section: Keys, text: str, document: Document) -> str:
    """Where the key that a rule between keys complains of was written; a flag before the file."""
    written = [at for keys, at in document.origins.items() if keys[:-1] == section and str(keys[-1]) in text]
    return next((at for at in written if at.startswith("--")), written[0] if written else "")


def _walk(loc: Keys, data: Any) -> tuple[Keys, list[type[BaseModel]]]:
    """The path as the user wrote it, and the sections that may stand where it ends (for a key, its parent's).

    pydantic's `loc` also holds the name of the chosen member of a union, which is no key of the file
    unless the part was written in short (`- random_crop: {padding: 4}`).
    """
    keys: Keys = ()
    sections: list[type[BaseModel]] = [Config]
    for part in loc:
        chosen = [section for section in sections if part in _names(section)]
        written = isinstance(data, dict | list) and _holds(data, part)
        if chosen and len(sections) > 1 and not any(part in section.model_fields for section in sections):
            sections = chosen
            if not written and isinstance(data, dict) and len(data) == 1 and "name" not in data:
                [part], written = data, True  # by another of its names
            if not written:
                continue
        else:
            fields = [section.model_fields[part] for section in sections if part in section.model_fields]
            inner = [below for field in fields for below in _sections_in((field.annotation, *field.metadata))]
            sections = sections if isinstance(part, int) or not inner else inner
            if isinstance(data, list) and isinstance(part, str):  # the main key of a part, left out: `residual: [...]`
                continue
        keys = (*keys, part)
        data = data[part] if written else None
    return keys, sections


def _holds(data: Any, part: str | int) -> bool:
    return part in data if isinstance(data, dict) else isinstance(part, int) and part < len(data)


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    annotation = getattr(annotation, "__value__", annotation)  # what a named type stands for
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    inner = annotation if isinstance(annotation, tuple) else get_args(annotation)
    return [section for item in inner for section in _sections_in(item)]


def _names(section: type[BaseModel]) -> tuple[str, ...]:
    """The names by which a section is chosen in a union."""
    field = section.model_fields.get("name")
    return get_args(field.annotation) if field and field.annotation is not str else ()


def _description(keys: Keys, sections: list[type[BaseModel]]) -> str:
    descriptions = [s.model_fields[str(keys[-1])].description for s in sections if str(keys[-1]) in s.model_fields]
    return (descriptions[0] if descriptions else None) or "see `cnntrain schema`"


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    return {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    try:
        text = repr(value) if isinstance(value, str) else str(value)
    except (ValueError, RecursionError):  # Python writes out no number of more than 4,300 digits
        text = f"a value of the type {type(value).__name__} that is too long to be shown"
    return text if len(text) <= 60 else text[:57] + "..."
