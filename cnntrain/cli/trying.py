"""The commands that try a configuration without training it to its end."""

from typing import Annotated

import typer

from cnntrain.cli.app import command
from cnntrain.cli.options import (
    ConfigArgument,
    DataRootOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    SetOption,
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
    quiet: QuietOption = False,
) -> None:
    """Try a configuration on one batch, without training or writing a run.

    Examples:
        cnntrain check digits_lenet
        cnntrain check my.yaml --set recipe.batch_size=512
    """
    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], assignments(device=device, data_root=data_root))

    from cnntrain.check import check as check_config
    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        show(*check_config(loaded.config, Console(quiet=quiet)))


@command
def bench(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured.")] = 9,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how close training comes to its bare arithmetic, and where the rest of the time goes. Writes no run.

    Examples:
        cnntrain bench cifar10_lenet
        cnntrain bench my.yaml --set recipe.batch_size=256 --json
    """
    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], assignments(device=device, data_root=data_root))

    from cnntrain.bench import consistent, measure, report
    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        figures = measure(loaded.config, Console(quiet=quiet), rounds)
    show_json(consistent(figures)) if as_json else show(*report(figures))
