"""What training would see: the first images of an epoch, before and after augmentation."""

from collections.abc import Sequence
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from cnntrain.config import schema
from cnntrain.data.batches import epoch_order, train_batches
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.prepare import prepare_data
from cnntrain.data.reporter import Reporter
from cnntrain.data.splits import Splits
from cnntrain.errors import ConfigError
from cnntrain.runs.files import write_bytes
from cnntrain.runs.pictures import image_grid
from cnntrain.runtime.names import printable
from cnntrain.training.start import initial_weights

_MARK = "cnntrain data preview"  # in the PNG, so that only our own pictures are replaced


class Preview(NamedTuple):
    """The first images of an epoch.

    Attributes:
        before: uint8 (N, stored_size, stored_size, C), as they are stored.
        after: uint8 (N, S, S, C), as the network would see them, brought back from normalised values.
        labels: Of each image, its class before augmentation.
        targets: Of each image, what the network should say: a class, or several with their shares.
        names: Of each image.
    """

    before: Pixels
    after: Pixels
    labels: Sequence[str]
    targets: Sequence[str]
    names: Sequence[str]


def first_images(config: schema.Config, reporter: Reporter, *, num_images: int = 32, epoch: int = 1) -> Preview:
    """The first images that an epoch of training takes: its first batch, and more where that is too small.

    Args:
        config: What would be trained.
        reporter: Tells the user what takes its time.
        num_images: How many; fewer where an epoch has fewer.
        epoch: From 1.

    Raises:
        CnntrainError: The configuration or the data does not allow it.
    """
    if epoch > config.recipe.epochs:
        raise ConfigError(
            f"there is no epoch {epoch}: recipe.epochs is {config.recipe.epochs}; choose a smaller --epoch"
        )
    config, _ = initial_weights(config)
    recipe, seed, balanced = config.recipe, config.run.seed, config.recipe.balance == "sampler"
    splits = prepare_data(config.data, data_root=config.run.data_root, reporter=reporter)
    for notice in splits.notices:
        reporter.say(f"note: {notice}")
    resizing, size = recipe.progressive_resizing, splits.preprocessing.image_size
    batches = train_batches(
        splits.train,
        splits.preprocessing.augmentation(config.data.augment, splits.num_classes),
        recipe.batch_size,
        seed=seed,
        epoch=epoch,
        balanced=balanced,
        image_size=resizing.size(epoch, recipe.epochs, size) if resizing else None,
    )
    taken = list(islice(batches, -(-num_images // recipe.batch_size)))
    images, targets = (torch.cat(parts)[:num_images] for parts in zip(*taken, strict=True))
    order = epoch_order(splits.train.targets, seed=seed, epoch=epoch, balanced=balanced)[: len(images)]
    return _described(splits, order, images, targets)


def _described(splits: Splits, order: Tensor, images: Tensor, targets: Tensor) -> Preview:
    """What became of the training images at these places, int64 (N,)."""
    train, class_names = splits.train, splits.class_names
    return Preview(
        train.items(order.tolist()),
        splits.preprocessing.show(images).numpy(),
        [printable(class_names[label]) for label in train.targets[order].tolist()],
        [_target_text(target, class_names) for target in targets],
        [train.names[position] for position in order.tolist()],
    )


def save_preview(preview: Preview, path: Path) -> None:
    """Draws each image as it is stored, and beside it as the network sees it, four pairs in a row, into a PNG.

    Raises:
        StorageError: The file cannot be written.
    """
    side = max(96, preview.before.shape[1], preview.after.shape[1])
    pairs = [_enlarged(image, side) for pair in zip(preview.before, preview.after, strict=True) for image in pair]
    captions = [
        caption
        for label, target in zip(preview.labels, preview.targets, strict=True)
        for caption in (f"as stored\n{label}", f"as seen\n{target}")
    ]
    content, mark = BytesIO(), PngInfo()
    mark.add_text("Software", _MARK)
    image_grid(np.stack(pairs), captions).save(content, format="PNG", pnginfo=mark)
    write_bytes(path, content.getvalue())


def check_replaceable(path: Path) -> None:
    """Whether a preview may be written there: a picture of someone else's is never replaced.

    Raises:
        ConfigError: It may not.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"--out {path}: the preview is a PNG; let its name end in .png")
    if not path.parent.is_dir():
        raise ConfigError(f"--out {path}: there is no folder {path.parent}")
    if path.exists():
        try:
            with Image.open(path) as image:
                ours = image.info.get("Software") == _MARK
        except OSError:
            ours = False
        if not ours:
            raise ConfigError(f"--out {path} exists and is no preview of ours; it is left as it is, name another file")


def _enlarged(pixels: Pixels, side: int) -> Pixels:
    """The same image with its squares kept sharp, uint8 (side, side, C)."""
    rows = np.arange(side) * len(pixels) // side
    return pixels[rows][:, rows]


def _target_text(target: Tensor, class_names: Sequence[str]) -> str:
    """A class; where labels are mixed, each with its share on a line."""
    if target.ndim == 0:
        return printable(class_names[int(target)])
    shares = sorted(((share, label) for label, share in enumerate(target.tolist()) if share >= 0.005), reverse=True)
    if len(shares) == 1:
        return printable(class_names[shares[0][1]])
    return "\n".join(f"{100 * share:.0f} % {printable(class_names[label])}" for share, label in shares)
