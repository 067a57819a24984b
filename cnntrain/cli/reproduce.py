"""`cnntrain reproduce`: trains, and compares with what the configuration expects."""

from typing import TYPE_CHECKING, Any

from cnntrain.cli.options import ConfigArgument, ConfigOptions, NewRunOptions, QuietOption, StepOptions, given
from cnntrain.cli.output import show
from cnntrain.cli.running import train_and_tell
from cnntrain.errors import ConfigError, ReproductionError
from cnntrain.runtime.launchers import speaks

if TYPE_CHECKING:
    from cnntrain.config.schema import Expect


def reproduce(
    config: ConfigArgument,
    *,
    config_options: ConfigOptions,
    new_run: NewRunOptions,
    steps: StepOptions,
    quiet: QuietOption = False,
) -> None:
    """Train a network and see whether its test accuracy is what the configuration expects.

    Examples:
        cnntrain reproduce digits_lenet
        cnntrain reproduce cifar10_lenet --seed 3 --data-root ~/data
    """
    from cnntrain.runs.console import Console
    from cnntrain.runs.reproduce import compare
    from cnntrain.runtime.joining import joined

    overrides = given(config_options, new_run, steps)
    expect, notes = _band(config, overrides)
    Console(quiet=quiet or not speaks()).say(*notes)
    run = train_and_tell(config, overrides, quiet=quiet)
    with joined() as processes:
        test = processes.first(lambda: run.results["test"])
        if test is None:
            raise ReproductionError(
                "nothing was tested (data.test_fraction: 0), so there is nothing to compare with the band"
            )
        reproduced, text = compare(test, expect)
        if not reproduced:
            error = ReproductionError(f"{text}; the run is kept: cnntrain evaluate {run.folder}")
            for note in [*notes, *([f"the band: {' '.join(expect.note.split())}"] if expect.note else [])]:
                error.add_note(note)
            raise error
    if processes.rank == 0:
        show(text, *notes)


def _band(config: str, overrides: dict[str, Any]) -> tuple["Expect", list[str]]:
    """What is expected, and what one should know of it."""
    from cnntrain.config.loading import load_config
    from cnntrain.runs.reproduce import changed_keys

    loaded = load_config(config, **overrides)
    label, expect = loaded.document.label, loaded.config.expect
    if expect is None:
        raise ConfigError(
            f"{label}: there is no `expect` to compare with; add what one run should reach, such as "
            f"`expect: {{accuracy: [0.97, 0.99], basis: measured}}`, or use `cnntrain train`"
        )
    changed = changed_keys(load_config(config).config, loaded.config)
    notes = [f"note: the band is for {label} as it stands; changed here: {', '.join(changed)}"] if changed else []
    return expect, notes
