"""A trained network measured on a split of the data that it was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnntrain.data.layout import SPLITS
from cnntrain.data.places import moved_images
from cnntrain.data.prepare import prepare_split
from cnntrain.data.reporter import Reporter
from cnntrain.data.split import Split
from cnntrain.errors import CheckpointError, ConfigError, DataError
from cnntrain.runtime.device import compute_alike
from cnntrain.runtime.names import quoted
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.torch_settings import settings_kept
from cnntrain.tasks.evaluation import eval_batches_with_bar, evaluate
from cnntrain.tasks.task import NOT_FINITE

if TYPE_CHECKING:
    from cnntrain.trained.trained import Trained


class RecordedSplit(NamedTuple):
    """A split of the data that a network was trained on, found again.

    Attributes:
        split: Its images.
        num_skipped: How many that cannot be read were left out.
        sha256: Of the images; see `Split.identity`.
        is_as_recorded: Whether they are those of the training.
    """

    split: Split
    num_skipped: int
    sha256: str
    is_as_recorded: bool


def find_split(
    trained: "Trained", name: str, *, data_root: str | None, reporter: Reporter, processes: Processes = ALONE
) -> RecordedSplit:
    """Finds the images of a split again.

    Args:
        trained: On the device where batches are wanted.
        name: `train`, `val` or `test`.
        data_root: Where data sets live, if not where they were in training.
        reporter: Tells the user what takes its time.
        processes: That want it, all of them now.

    Raises:
        ConfigError: There is no such split.
        DataError: The data are missing, or have other classes than the network.
    """
    if name not in SPLITS:
        raise ConfigError(f"{name!r} is no split (allowed: {', '.join(reversed(SPLITS))})")
    header = trained.header
    data, recorded = header.data_options, header.data_root
    if data_root:
        data = moved_images(data, Path(data_root), header.class_names)
    elif recorded and Path(recorded).is_dir():  # else a run from another machine
        data_root = recorded
    split, class_names, num_skipped = prepare_split(
        data,
        name,
        preprocessing=trained.preprocessing,
        data_root=data_root,
        device=trained.device,
        reporter=reporter,
        processes=processes,
    )
    if not len(split):
        others = " or ".join(f"--split {other}" for other in SPLITS if header.split(other)["num_images"])
        raise DataError(
            f"there are no {name} images: the network was trained with data.{name}_fraction 0. Take other images of it "
            f"({others}), or train a new run with data.{name}_fraction above 0"
        )
    if class_names != header.class_names:
        raise DataError(
            f"the data have the classes {quoted(class_names)}; "
            f"the network of this checkpoint knows {quoted(header.class_names)}"
        )
    sha256 = split.identity()["sha256"]
    return RecordedSplit(split, num_skipped, sha256, sha256 == header.split(name)["sha256"])


def evaluate_split(
    trained: "Trained", name: str, *, data_root: str | None, reporter: Reporter, processes: Processes = ALONE
) -> dict[str, Any]:
    """What `cnntrain evaluate` prints, to the last digit whatever the number of processes; see `Trained.evaluate`."""
    header = trained.header
    with settings_kept():
        some = processes.only(compute_alike(header.num_threads, trained.device, processes))
        split, num_skipped, sha256, is_as_recorded = find_split(
            trained, name, data_root=data_root, reporter=reporter, processes=processes
        )
        batches = eval_batches_with_bar(split, trained.preprocessing, header.eval_batch_size, reporter, some)
        evaluation = evaluate(trained.network, batches, trained.task, processes)
    if not np.isfinite(evaluation.losses).all():
        raise CheckpointError(f"{trained.path}: {NOT_FINITE}")
    return {
        "checkpoint": str(trained.path),
        "split": name,
        "sha256": sha256,
        "same_images_as_in_training": is_as_recorded,
        **({"num_skipped": num_skipped} if num_skipped else {}),
        **evaluation.summary(),
    }
