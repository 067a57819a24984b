"""Whether the machines that train together see the same data."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cnntrain.data.split import Split
from cnntrain.errors import DataError
from cnntrain.runtime.names import quoted
from cnntrain.runtime.processes import Processes


class _Seen(NamedTuple):
    """What a machine sees: the names of the classes, and by split what `Split.identity` says."""

    host: str
    class_names: tuple[str, ...]
    splits: dict[str, dict[str, Any]]


def check_same_data(class_names: Sequence[str], splits: Mapping[str, Split], processes: Processes) -> None:
    """Compares what the machines see; on one machine there is nothing to compare.

    Args:
        class_names: Name of each label.
        splits: By name.
        processes: Of which the first on each machine tells what it sees.

    Raises:
        DataError: It is not the same.
    """
    if processes.local_count == processes.count:
        return
    own = None
    if processes.local_rank == 0:
        identities = {name: split.identity() for name, split in splits.items()}
        own = _Seen(socket.gethostname(), tuple(class_names), identities)
    first, *others = [seen for seen in processes.gather(own) if seen]
    if differences := [line for other in others for line in _differences(other, first)]:
        raise DataError("the machines see different data; give all of them the same files:", more=differences[:10])


def _differences(other: _Seen, first: _Seen) -> Iterator[str]:
    if other.class_names != first.class_names:
        yield (
            f"{other.host} has {len(other.class_names)} classes, {quoted(other.class_names)}; "
            f"{first.host} has {len(first.class_names)}, {quoted(first.class_names)}"
        )
    for name, there in other.splits.items():
        here = first.splits[name]
        if there["num_images"] != here["num_images"]:
            yield f"{other.host} has {there['num_images']:,} {name} images, {first.host} {here['num_images']:,}"
        elif there != here:
            yield f"{other.host} has {here['num_images']:,} {name} images as {first.host} has, but not the same ones"
