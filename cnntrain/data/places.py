"""Where data sets live: on this machine, and after they were moved."""

import os
from collections.abc import Collection
from pathlib import Path

from platformdirs import user_cache_path

from cnntrain.data.options import Data
from cnntrain.data.reporter import Reporter
from cnntrain.data.sources import SOURCES
from cnntrain.data.sources.data_set import Whereabouts
from cnntrain.data.split_folders import SPLIT_WORDS
from cnntrain.data.walking import list_folder


def resolve_data_root(source: str, stated: str | None) -> str:
    """Where data sets live, as an absolute path.

    Args:
        source: The configuration's `data.source`.
        stated: What a flag, the configuration or a checkpoint says. Without it, the variable CNNTRAIN_DATA; without
            that, a cache folder in the user's home, or for one's own images the working folder.
    """
    stated = stated or os.environ.get("CNNTRAIN_DATA")
    if stated:
        return str(Path(stated).expanduser().absolute())
    return str(Path.cwd() if SOURCES[source].is_folder else user_cache_path("cnntrain") / "data")


def whereabouts(options: Data, data_root: str | None, reporter: Reporter) -> Whereabouts:
    """Where a data set is looked for.

    Args:
        options: The `data` section.
        data_root: As `resolve_data_root` takes it.
        reporter: Tells the user what takes its time.
    """
    root = Path(resolve_data_root(options.source, data_root)) / Path(options.root or "").expanduser()
    folders = options.splits.model_dump() if options.splits else {}
    return Whereabouts(root, folders, options.num_workers, options.on_error, reporter)


def moved_images(options: Data, data_root: Path, class_names: Collection[str]) -> Data:
    """The `data` section for images that are looked for in `data_root`, where they were elsewhere in training.

    The folder of images is named by `data.root` below it, or it is `data_root` itself.
    """
    if not SOURCES[options.source].is_folder:
        return options
    below = data_root / str(options.root)
    there = list_folder(data_root).folders if data_root.is_dir() else []
    itself = any(name in class_names or name.lower() in SPLIT_WORDS["train"] for name in there)
    if below.is_relative_to(data_root) and (below.is_dir() or not itself):
        return options
    return options.model_copy(update={"root": "."})
