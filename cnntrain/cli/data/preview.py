"""`cnntrain data preview`: draws what training would see."""

from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import ConfigArgument, DataRootOption, QuietOption, SeedOption, SetOption
from cnntrain.cli.output import show


def preview(
    config: ConfigArgument,
    set_: SetOption = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture, PNG.")] = Path("preview.png"),
    images: Annotated[int, typer.Option(min=1, max=1024, help="How many.")] = 32,
    epoch: Annotated[int, typer.Option(min=1, help="Whose first images.")] = 1,
    seed: SeedOption = None,
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
) -> None:
    """Draw the first images that training would see, each before and after augmentation.

    Order, seed, augmentation and normalising are those of `cnntrain train`. Below a mixed image stand the shares of
    its classes.

    Examples:
        cnntrain data preview cifar10_lenet
        cnntrain data preview my.yaml --epoch 3 --images 64 --out augmented.png
    """
    from cnntrain.config.loading import load_config, locate

    loaded = load_config(config, set=set_, data_root=data_root, seed=seed)

    from cnntrain.reports.data_check.preview import check_replaceable, first_images, save_preview
    from cnntrain.runs.console import Console

    check_replaceable(out)
    with locate(loaded):
        pairs = first_images(loaded.config, Console(quiet=quiet), num_images=images, epoch=epoch)
    save_preview(pairs, out)
    show(f"wrote {out}: {len(pairs.names)} images of epoch {epoch}, each as stored (left) and as the network sees it")
