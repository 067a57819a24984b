"""`cnntrain bench`: measures where the time of a training step goes."""

from typing import Annotated

import typer

from cnntrain.cli.options import ConfigArgument, ConfigOptions, JsonOption, QuietOption, StepOptions, given
from cnntrain.cli.output import show, show_json
from cnntrain.cli.running import explained


def bench(
    config: ConfigArgument,
    *,
    config_options: ConfigOptions,
    steps: StepOptions,
    rounds: Annotated[int, typer.Option(min=1, help="How often each part is measured.")] = 9,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how close training comes to its bare arithmetic, and where the rest of the time goes. Writes no run.

    Examples:
        cnntrain bench cifar10_lenet
        cnntrain bench my.yaml --batch-size 256 --json
    """
    from cnntrain.config.loading import load_config

    loaded = load_config(config, **given(config_options, steps))

    from cnntrain.insight.bench import consistent, measure, report
    from cnntrain.runs.console import Console
    from cnntrain.runtime.joining import joined

    with joined() as processes, explained(loaded):
        is_first = processes.rank == 0
        figures = measure(loaded.config, Console(quiet=quiet or not is_first), rounds, processes)
    if is_first:
        show_json(consistent(figures)) if as_json else show(*report(figures))
