"""The `data` section: where images and labels come from, and how they reach the network."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, Strict, model_validator

from cnntrain.config.section import ChannelValues, ProperFraction, Section
from cnntrain.data.images.augmentations import Augmentation
from cnntrain.data.sources import SOURCES, SourceName
from cnntrain.data.sources.image_folder import IMAGE_FOLDER

# Of what a network is given; a checkpoint that says something else is refused (`artifacts.header`).
MAX_SIDE = 10_000  # px: what is read of a square image, 100 megapixels
MIN_STD = 1e-4

CarvedFraction = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


class SplitFolders(Section):
    """Which folder of an image folder plays which part, where it is not the usual one."""

    train: str | None = None
    val: str | None = None
    test: str | None = None


class Data(Section):
    """Where images and labels come from, and how they reach the network."""

    source: SourceName
    root: str | None = Field(
        None,
        description="image_folder: the folder, relative to --data-root when given, else to the working folder. "
        "Downloaded sets: a folder to use instead of the data root.",
    )
    splits: SplitFolders | None = Field(None, description="image_folder: which folder plays which part.")
    val_fraction: CarvedFraction = Field(
        0.1,
        description="carved from the training images, stratified; 0: no validation, the last epoch's weights are kept",
    )
    test_fraction: CarvedFraction = Field(
        0.2, description="carved from the training images where no test set exists; 0: no test"
    )
    split_seed: NonNegativeInt = Field(0, description="apart from run.seed, so that another seed moves no image")
    group_copies: Literal["exact", "near", "none"] = Field(
        "exact", description="what carving keeps in one split: images with equal pixels; nearly equal ones too; nothing"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 grey, 3 colour; null: as the source has them")
    image_size: Side | None = Field(None, description="side of the network's square input, px; null: as usual")
    stored_size: Side | None = Field(
        None, description="side of the images held in memory, px, from which image_size is cropped; null: image_size"
    )
    storage: Literal["auto", "device", "memory", "cache", "stream"] = Field(
        "auto",
        description="where decoded images are held: the device's memory, the host's, a file mapped into memory, or "
        "nowhere (stream: decoded in every epoch); auto: the first of these that has room",
    )
    num_workers: NonNegativeInt | None = Field(
        None,
        description="image_folder: threads that decode; 0: the one that trains; null: one for each core of the machine",
    )
    on_error: Literal["auto", "stop", "skip"] = Field(
        "auto",
        description="image_folder: images and folders that cannot be read stop training, or are left out, counted and "
        "named (skip); an empty class folder is left out and named, or stops training too (stop)",
    )
    max_skipped: ProperFraction = Field(0.1, description="on_error skip: at most this share of a folder's images")
    resize: Literal["crop", "letterbox", "squash"] = "crop"
    mean: ChannelValues | None = Field(None, description="per channel, of [0, 1]; null: of the training images")
    std: ChannelValues | None = Field(None, description="per channel; null: of the training images")
    augment: Annotated[tuple[Augmentation, ...], Strict(False)] = ()

    @model_validator(mode="after")
    def _check_source(self) -> Self:
        source = SOURCES[self.source]
        if source.is_folder and self.root is None:
            raise ValueError(f"source {self.source} needs data.root, the folder that holds train/<class>/*")
        if source.without_root and self.root is not None:
            raise ValueError(f"data.root has no meaning for {self.source}, {source.without_root}; remove it")
        if not source.is_folder and self.splits is not None:
            raise ValueError(f"data.splits names folders of an {IMAGE_FOLDER.name}; {self.source} has its own splits")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"val_fraction and test_fraction must leave images to train on "
                f"(got {self.val_fraction} + {self.test_fraction}, allowed: a sum below 1)"
            )
        return self

    @model_validator(mode="after")
    def _check_images(self) -> Self:
        if self.image_size and self.stored_size and self.stored_size < self.image_size:
            raise ValueError(
                f"stored_size must be at least image_size (got {self.stored_size}, image_size {self.image_size})"
            )
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both or neither")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
                raise ValueError(f"mean and std need one value per channel, 1 or 3 (got {self.mean} and {self.std})")
            if max(self.mean) > 1 or not MIN_STD <= min(self.std) <= max(self.std) <= 1:
                raise ValueError(
                    f"mean and std are of images in [0, 1], std at least {MIN_STD} (got {self.mean} and {self.std})"
                )
            if self.channels is not None and len(self.mean) != self.channels:
                raise ValueError(f"mean has {len(self.mean)} values for channels: {self.channels}")
        return self

    @model_validator(mode="after")
    def _check_augment(self) -> Self:
        counts = Counter(augmentation.name for augmentation in self.augment)
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"augment lists {', '.join(repeated)} more than once")
        crops = sorted(augmentation.name for augmentation in self.augment if augmentation.crops)
        if len(crops) > 1:
            raise ValueError(f"augment has both {' and '.join(crops)}; an image is cropped once")
        return self


def folder_section(folder: Path) -> Data:
    """The section for the images of a folder, where there is no configuration."""
    return Data(source=IMAGE_FOLDER.name, root=str(folder.absolute()))
