"""`cnntrain check`: tries a configuration on one batch."""

from typing import Annotated

import typer

from cnntrain.cli.options import ConfigArgument, ConfigOptions, QuietOption, StepOptions, given
from cnntrain.cli.output import show
from cnntrain.cli.running import explained


def check(
    config: ConfigArgument,
    *,
    config_options: ConfigOptions,
    steps: StepOptions,
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
    from cnntrain.config.loading import load_config

    loaded = load_config(config, **given(config_options, steps))

    from cnntrain.runs.console import Console
    from cnntrain.training.check import check as check_config

    with explained(loaded):
        show(*check_config(loaded.config, Console(quiet=quiet), show_config=show_config))
