"""The commands that try a configuration without training it to its end."""

from typing import Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    BatchSizeOption,
    ConfigArgument,
    DataRootOption,
    DeviceOption,
    JsonOption,
    LearningRateOption,
    QuietOption,
    SetOption,
    WorkersOption,
    assignments,
)
from cnntrain.cli.output import show, show_json

SMALLER = "lower recipe.micro_batch or recipe.batch_size, data.image_size or data.stored_size"


@command
def check(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    workers: WorkersOption = None,
    show_config: Annotated[
        bool, typer.Option("--show-config", help="Print the resolved configuration too, every key written out.")
    ] = False,
    quiet: QuietOption = False,
) -> None:
    """Try a configuration on one batch, without training or writing a run.

    Examples:
        cnntrain check digits_lenet
        cnntrain check my.yaml --batch-size 512 --show-config
    """
    from cnntrain.config.loading import load_config, locate

    loaded = load_config(
        config,
        set_ or [],
        assignments(device=device, data_root=data_root, batch_size=batch_size, lr=lr, workers=workers),
    )

    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained
    from cnntrain.training.check import check as check_config

    with locate(loaded), memory_explained(SMALLER):
        show(*check_config(loaded.config, Console(quiet=quiet), show_config=show_config))


@command
def bench(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    batch_size: BatchSizeOption = None,
    lr: LearningRateOption = None,
    workers: WorkersOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured.")] = 9,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how close training comes to its bare arithmetic, and where the rest of the time goes. Writes no run.

    Examples:
        cnntrain bench cifar10_lenet
        cnntrain bench my.yaml --batch-size 256 --json
    """
    from cnntrain.config.loading import load_config, locate

    loaded = load_config(
        config,
        set_ or [],
        assignments(device=device, data_root=data_root, batch_size=batch_size, lr=lr, workers=workers),
    )

    from cnntrain.bench import consistent, measure, report
    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        figures = measure(loaded.config, Console(quiet=quiet), rounds)
    show_json(consistent(figures)) if as_json else show(*report(figures))
