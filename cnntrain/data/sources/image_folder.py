"""One's own images: `train/<class>/*`, with optional `val/` and `test/`, or just `<class>/*`."""

from typing import TYPE_CHECKING

from cnntrain.data.sources.data_set import DataSet, Whereabouts

if TYPE_CHECKING:
    from cnntrain.data.images.folder_scan import Scan
    from cnntrain.data.source import Source


def _scan(where: Whereabouts) -> "Scan":
    from cnntrain.data.images.folder_scan import scan_image_folder

    return scan_image_folder(where.root, where.folders, where.num_workers, where.on_error)


def _open(where: Whereabouts) -> "Source":
    """Looks through the folder, and into the beginning of each file: whether all are JPEGs."""
    from cnntrain.data.source import Source

    class_names, parts, notices = _scan(where)
    is_mixed = not all(part.is_all_jpeg(where.reporter) for part in parts.values())
    return Source(
        class_names,
        {name: part.among_formats(is_mixed=is_mixed) for name, part in parts.items()},
        channels=IMAGE_FOLDER.channels,
        image_size=IMAGE_FOLDER.image_size,
        notices=notices,
    )


def _class_names(where: Whereabouts) -> tuple[str, ...]:
    return _scan(where).class_names


IMAGE_FOLDER = DataSet("image_folder", _open, channels=3, image_size=224, class_names=_class_names, is_folder=True)
