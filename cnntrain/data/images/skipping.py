"""Images that cannot be read, left out of a data set: counted, named, and up to a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnntrain.data.images.folder_part import FolderPart
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Part, Source
from cnntrain.errors import DataError
from cnntrain.runtime.names import quoted


def without_unreadable(
    source: Source, preprocessing: Preprocessing, max_skipped: float, reporter: Reporter
) -> tuple[Source, Mapping[str, Sequence[str]]]:
    """The source without images that cannot be read, and by part which they are and why.

    Args:
        source: Only folders of images have files that could be broken.
        preprocessing: How they will be fitted.
        max_skipped: Largest share of a part that may be left out.
        reporter: Is told how many are left out.

    Raises:
        DataError: There are too many, or a class has no others to train on.
    """
    parts: dict[str, Part] = dict(source.parts)
    skipped: dict[str, Sequence[str]] = {}
    for name, part in source.parts.items():
        if not isinstance(part, FolderPart):
            continue
        faults = part.unreadable(preprocessing, reporter)
        # A folder counts as one image, since nobody knows how many it holds.
        lines = [*part.unreadable_folders, *faults.values()]
        if not lines:
            continue
        number, folders = len(part.files), len(part.unreadable_folders)
        what = f"{len(faults)} of {number:,} images" + (
            f" and {folders} folder{'s' * (folders > 1)}" if folders else ""
        )
        if len(lines) > max_skipped * number:
            raise DataError(
                f"{what} in {part.folder} cannot be read, more than data.max_skipped {max_skipped:g} allows:",
                more=lines[:5],
            )
        parts[name], skipped[name] = part.without(faults), lines
        reporter.say(f"     note: {what} in {part.folder} cannot be read and are left out, such as {lines[0]}")
    labels = np.unique(parts["train"].labels)
    if missing := [label for index, label in enumerate(source.class_names) if index not in labels]:
        raise DataError(f"no image of {quoted(missing)} can be read; repair some, or remove the folder")
    return replace(source, parts=parts), skipped
