"""Data as three processes on two machines prepare it. As a script it forks them.

    python tests/sharing.py OUT      # OUT/same.RANK.json and OUT/differing.RANK.json: what each of them saw

The machines are told apart by the names of their hosts.
"""

import hashlib
import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from conftest import write_photos

from cnntrain.config.schema import Data
from cnntrain.data import cache
from cnntrain.data.prepare import prepare_data, prepare_split
from cnntrain.data.split import Split
from cnntrain.data.splits import Splits
from cnntrain.data.stores import MappedStore, ResidentStore, StreamedStore
from cnntrain.errors import CnntrainError
from cnntrain.runtime.joining import joined
from cnntrain.runtime.processes import Processes

HOSTS = ("left", "left", "right")
KINDS = ("memory", "cache", "stream", "digits")
NUM_CORES = 6


def options_of(root: Path, kind: str) -> Data:
    """The `data` section of images that are held so."""
    if kind == "digits":
        return Data(source="digits")
    return Data(source="image_folder", root=str(root), image_size=16, storage=kind)  # type: ignore[arg-type]


def seen_of(splits: Splits) -> dict[str, Any]:
    """What must be the same in all processes."""
    return {
        "identity": splits.identity(),
        "items": [hashlib.sha256(part.items().tobytes()).hexdigest() for part in (splits.train, splits.val)],
        "names": list(splits.test.names),
        "targets": splits.train.targets.tolist(),
        "preprocessing": splits.preprocessing.to_dict(),
        "notices": splits.notices,
        "where": splits.where_held,
    }


def file_of(split: Split) -> str:
    """The device and inode of the file whose pages are the memory of a split's items; empty where there is none."""
    store = split.store
    assert isinstance(store, ResidentStore | MappedStore)
    address = (store.items if isinstance(store, ResidentStore) else store._items).data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(number, 16) for number in line.split()[0].split("-"))
        if begin <= address < end:
            return " ".join(line.split()[3:5])
    return ""


def look(root: Path, processes: Processes) -> dict[str, Any]:
    """What a process sees of data that are the same everywhere."""
    known: dict[str, Any] = {}
    for kind in KINDS:
        splits = prepare_data(options_of(root, kind), processes=processes)
        known[kind] = seen_of(splits)
        store = splits.train.store
        known[f"{kind}: held"] = store._num_threads if isinstance(store, StreamedStore) else file_of(splits.train)
        if kind == "cache":
            known["mended"] = _damaged(splits, processes)
    test, names, _ = prepare_split(
        options_of(root, "memory"), "test", preprocessing=splits.preprocessing, processes=processes
    )
    known["test alone"] = test.identity(), names
    return known


def _damaged(splits: Splits, processes: Processes) -> list[Any]:
    """What all read at once of mapped images of which the first process has damaged one on the disk."""
    if processes.rank == 0:
        for file in cache.folder().glob("*/images.npy"):
            with file.open("r+b") as images:
                images.seek(200)
                images.write(b"damaged")
    processes.any(False)
    items = [hashlib.sha256(part.items().tobytes()).hexdigest() for part in (splits.train, splits.val)]
    processes.any(False)
    return [items, len(list(cache.folder().glob("*/images.npy")))]


def differ(root: Path, processes: Processes) -> dict[str, Any]:
    """Prepares data of which a file is missing on the second machine."""
    prepare_data(options_of(root if processes.rank < 2 else root.parent / "fewer", "memory"), processes=processes)
    return {}


def in_processes(work: Callable[[Processes], dict[str, Any]], out: Path) -> None:
    """Calls it in each of three forks of this process, and waits for them; OUT.RANK.json has what came of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(len(HOSTS)):
        if not (child := os.fork()):
            os.environ |= {
                "WORLD_SIZE": "3", "RANK": str(rank), "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            _end_with(work, rank, out)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def _end_with(work: Callable[[Processes], dict[str, Any]], rank: int, out: Path) -> NoReturn:
    patch("socket.gethostname", lambda: HOSTS[rank]).start()
    patch("cnntrain.data.stores.available_cores", lambda: NUM_CORES).start()
    try:
        with joined() as processes:
            came = work(processes)
    except CnntrainError as error:
        came = {"error": type(error).__name__, "lines": error.lines, "quiet": getattr(error, "is_quiet", False)}
    except BaseException:
        came = {"error": traceback.format_exc()}
    Path(f"{out}.{rank}.json").write_text(json.dumps(came))
    os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)  # and so no thread but this one, which is all that a fork takes along
    out = Path(sys.argv[1])
    photos = write_photos(out / "photos", {"train": 40, "test": 5})
    fewer = write_photos(out / "fewer", {"train": 40, "test": 5})
    next((fewer / "test" / "red").iterdir()).unlink()
    in_processes(lambda processes: look(photos, processes), out / "same")
    in_processes(lambda processes: differ(photos, processes), out / "differing")
