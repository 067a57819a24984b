"""The check of values that were read from a file: which key, what it holds, what is allowed."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from cnntrain.config.faults import wrong_value
from cnntrain.errors import CheckpointError
from cnntrain.runtime.names import shortened

# A list in JSON stays a list, so that values are checked as they are; 1 is a number too, and true is not.
STRICT = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
CLOSED = ConfigDict(**STRICT, extra="forbid")


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(f"must be text (got {shortened(value)})")
    return value


Text = Annotated[Any, PlainValidator(_text)]  # pydantic's own refuses the names of folders that are no UTF-8


class Values(TypedDict):
    """What a dict from a file must hold."""

    __pydantic_config__ = STRICT  # type: ignore[misc]


def check(kind: TypeAdapter[Any], values: object, place: str) -> None:
    """Compares values with what they must be.

    Args:
        kind: Of `Values`.
        values: Tensors and plain values.
        place: The file, and where in it.

    Raises:
        CheckpointError: Naming the first key that is wrong, what it holds and what is allowed.
    """
    try:
        kind.validate_python(values)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f"; {len(others):,} more faults" if len(others) > 1 else "; one more fault" if others else ""
        raise fault(place, first["loc"], f"{wrong_value(first)}{more}") from error


def fault(place: str, keys: Sequence[str | int], what: str) -> CheckpointError:
    """The error that a key of a file is wrong."""
    key = shortened(".".join(map(str, keys)))
    return CheckpointError(f"{place}: {key}: {what}" if key else f"{place}: {what}")


def read_json(text: str | bytes, place: str, line: str = "") -> Any:
    """JSON, with numbers that are finite alone; names in it may be of folders that are no UTF-8, written as escapes.

    Raises:
        CheckpointError: It is none, or nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        raise CheckpointError(f"{place}: damaged: {line}no JSON ({error})") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


@contextmanager
def loading(path: object) -> Iterator[None]:
    """While a training checkpoint is used whose digest is right, but which another program may have written.

    Args:
        path: The checkpoint.

    Raises:
        CheckpointError: Something in it is missing, or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{path}: no training checkpoint of this version of cnntrain ({error})") from error
