"""Values that were read from a file of ours, changed in each place into each kind of nonsense."""

import copy
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

MISSING = object()  # the key is taken out
ODD = [
    MISSING, "x", "", "\u202e\x1b[31m", -1, 0, 1, 10**9, 10**30, 0.5, -0.0, 1e-320, 1e300, float("nan"), float("inf"),
    float("-inf"), None, True, False, [], {}, [[]], [None], ["x"], [1, 2], [float("nan")], {"x": 1}, {"": {"": []}},
]  # fmt: skip
Keys = tuple[str | int, ...]


def places(values: Any, prefix: Keys = (), most: int = 3) -> Iterator[Keys]:
    """Where there are values, from the outside in; of a long list the first, the second and the last."""
    if prefix:
        yield prefix
    if isinstance(values, dict):
        keys: list[Any] = list(values)
    elif isinstance(values, list):
        keys = sorted({*range(min(len(values), most - 1)), *range(max(0, len(values) - 1), len(values))})
    else:
        return
    for key in keys:
        yield from places(values[key], (*prefix, key), most)


def changed(values: Any, keys: Keys, odd: Any) -> Any:
    """A copy with another value in a place."""
    found = copy.deepcopy(values)
    inner = found
    for key in keys[:-1]:
        inner = inner[key]
    if odd is MISSING:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = copy.deepcopy(odd)
    return found


def mutations(values: Any, most: int = 3) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is changed, and what makes it: each place x each kind, lists made shorter and longer, keys added."""
    for keys in places(values, most=most):
        for odd in ODD:
            kind = "missing" if odd is MISSING else repr(odd)[:40]
            yield f"{keys} -> {kind}", partial(changed, values, keys, odd)
        before = values
        for key in keys:
            before = before[key]
        if isinstance(before, list):
            for name, other in (
                ("shorter", before[:-1]),
                ("longer", [*before, *before[-1:]]),
                ("turned", before[::-1]),
            ):
                yield f"{keys} {name}", partial(changed, values, keys, other)
        if isinstance(before, dict):
            yield f"{keys} with a key more", partial(changed, values, keys, {**before, "one more": 1})


def valid_json(text: str) -> Any:
    """Parses JSON as its standard has it, without NaN and Infinity."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)
