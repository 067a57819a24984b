"""The images that commands are given, where pictures of them go, and how their ranked classes are printed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.errors import ConfigError, DataError
from cnntrain.runtime.names import shortened

if TYPE_CHECKING:
    from cnntrain.reports.explanations.saving import Pictures
    from cnntrain.runs.console import Console
    from cnntrain.tasks.task import Decoded

ImagesArgument = Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders and globs.")]
PicturesOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Where pictures go; or the one picture's file, NAME.png.")
]


def files_of(images: list[str]) -> list[Path | DataError]:
    """The files that are meant, and why there are none in some places."""
    from cnntrain.trained.predict import find_images

    if "" in images:
        raise ConfigError("an IMAGE is empty; is a variable of the shell not set?")
    return list(find_images(images))


def files_to_draw(images: list[str], pictures: "Pictures", console: "Console") -> list[Path | DataError]:
    """As `files_of`, without the pictures that these commands make."""
    from cnntrain.reports.explanations.saving import is_own_picture

    every = files_of(images)
    files = [file for file in every if isinstance(file, DataError) or not is_own_picture(file)]
    if len(files) < len(every):
        console.say(f"note: {len(every) - len(files)} pictures that cnntrain made are left out")
    if pictures.is_file and len(files) > 1:
        raise ConfigError(f"--out {pictures.out} is one picture, and there are {len(files)} images; name a folder")
    return files


def ranking(ranked: "Decoded") -> list[str]:
    """A line for each class, likeliest first."""
    return [f"  {100 * share:6.2f} %  {shortened(name)}" for name, share in ranked]
