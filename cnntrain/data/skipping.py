"""Images that cannot be read, left out of a data set: counted, named, and up to a limit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cnntrain.data.folder_part import FolderPart
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.data.reporter import Reporter
from cnntrain.data.source import Part, Source
from cnntrain.errors import DataError


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
        faults = part.unreadable(preprocessing, reporter) if isinstance(part, FolderPart) else {}
        if not faults or not isinstance(part, FolderPart):
            continue
        if len(faults) > max_skipped * len(part.files):
            raise DataError(
                f"{len(faults)} of {len(part.files)} images in {part.folder} cannot be read, more than "
                f"data.max_skipped {max_skipped:g} allows:",
                more=list(faults.values())[:5],
            )
        parts[name], skipped[name] = part.without(faults), list(faults.values())
        reporter.say(
            f"     note: {len(faults)} of {len(part.files):,} images in {part.folder} cannot be read and are left out, "
            f"such as {skipped[name][0]}"
        )
    labels = np.unique(parts["train"].labels)
    if missing := [label for index, label in enumerate(source.class_names) if index not in labels]:
        raise DataError(f"no image of {', '.join(missing)} can be read; repair some, or remove the folder")
    return replace(source, parts=parts), skipped
