"""What is known of a data set by its name alone, and how it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cnntrain.data.reporter import SILENT, Reporter

if TYPE_CHECKING:  # which the list of runs, quick and without PyTorch, need not import
    from cnntrain.data.source import Source


@dataclass(frozen=True)
class Whereabouts:
    """Where a data set is looked for, and how its files are read.

    Attributes:
        root: A folder; not every data set needs one.
        folders: Of a folder of examples, by part the folder that plays it, where the user said so.
        num_workers: Threads that decode; None takes one for each core.
        on_error: As `data.on_error`.
        reporter: Tells the user what takes its time.
    """

    root: Path
    folders: Mapping[str, str | None] = field(default_factory=dict)
    num_workers: int | None = None
    on_error: str = "auto"
    reporter: Reporter = SILENT


@dataclass(frozen=True)
class DataSet:
    """A data set that a configuration can name, before anybody has looked whether it is there.

    Attributes:
        name: In `data.source`.
        open: Finds it; raises DataError where it is not there, or not as it should be.
        channels: Of its images, where the configuration says nothing else.
        image_size: The usual side of the network's input, px.
        num_classes: K; None where it has to be looked for.
        class_names: Looks for the classes, quickly; raises DataError as `open` does. None where `num_classes` is known.
        is_folder: Whether it is a folder of one's own files: `data.root` names it, and what is decoded can be cached or
            streamed. Others come as one array.
        without_root: Why `data.root` has no meaning; empty where it has one.
    """

    name: str
    open: Callable[[Whereabouts], "Source"]
    channels: int
    image_size: int
    num_classes: int | None = None
    class_names: Callable[[Whereabouts], tuple[str, ...]] | None = None
    is_folder: bool = False
    without_root: str = ""
