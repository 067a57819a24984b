"""`cnntrain train`: begins a training, or goes on with one."""

from typing import Annotated

import typer

from cnntrain.cli.options import ConfigOptions, NewRunOptions, OptionalConfigArgument, QuietOption, StepOptions, given
from cnntrain.cli.running import train_and_tell
from cnntrain.errors import ConfigError


def train(
    config: OptionalConfigArgument = None,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="With --resume: the run folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with RUN, or the newest unfinished run.")] = False,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="With --resume: also with another configuration.")
    ] = False,
    *,
    config_options: ConfigOptions,
    new_run: NewRunOptions,
    steps: StepOptions,
    quiet: QuietOption = False,
) -> None:
    """Train a network: the ten steps, from data preparation to the final test.

    Examples:
        cnntrain train digits_lenet
        cnntrain train my.yaml --epochs 5 --lr 0.1 --set model.activation=relu
        cnntrain train image_folder_resnet18 --data-root ~/photos --device cuda:1
        cnntrain train my.yaml --resume
        cnntrain train --resume runs/my/20260131-120000 --epochs 40
    """
    for unused, option in ((run, "RUN"), (allow_changes, "--allow-changes")):
        if unused and not resume:
            raise ConfigError(f"{option} goes with --resume: cnntrain train CONFIG --resume RUN")
    train_and_tell(
        config,
        given(config_options, new_run, steps),
        resume=(run or True) if resume else False,
        allow_changes=allow_changes,
        quiet=quiet,
    )
