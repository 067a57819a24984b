"""The commands that show what there is: networks, configurations, their schema."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.app import app, command
from cnntrain.cli.completing import complete_command, complete_shipped
from cnntrain.cli.options import ConfigArgument, DataRootOption, JsonOption, OutputOption, SetOption, assignments
from cnntrain.cli.output import complain, show, show_json
from cnntrain.errors import CheckpointError, ConfigError


@command
def models(as_json: JsonOption = False) -> None:
    """List the networks: parameters, multiply-adds, sizes, papers.

    Examples:
        cnntrain models
        cnntrain models --json
    """
    from cnntrain.records.network_tables import models_text
    from cnntrain.summarise import catalogue_figures

    found = catalogue_figures()
    show_json([asdict(model) for model in found]) if as_json else show(*models_text(found))


@command
def summary(
    config: ConfigArgument,
    set_: SetOption = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Size of the output, instead of the data's.")] = None,
    data_root: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a network layer by layer: shapes, parameters, multiply-adds, receptive fields, memory. No data is needed.

    Examples:
        cnntrain summary cifar10_resnet20
        cnntrain summary my.yaml --set model.name=resnet50 --set data.image_size=224 --classes 1000
    """
    from cnntrain.config.loading import load_config, locate

    loaded = load_config(config, set_ or [], assignments(data_root=data_root))

    from cnntrain.records.network_tables import summary_text
    from cnntrain.summarise import summarise_config

    with locate(loaded):
        found = summarise_config(loaded.config, classes)
    for notice in found.notices:
        complain(f"note: {notice}")
    fields = asdict(found)
    show_json(fields | fields.pop("network")) if as_json else show(*summary_text(found))


@command
def runs(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="Folder of all runs, or of those of one name: runs.")
    ] = None,
    output: OutputOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """List the runs: state, epochs, accuracies, network, data.

    finished: it has its results. stopped: `cnntrain train --resume RUN` goes on with it.
    in progress: a process trains it. failed: it left nothing to go on with.
    damaged: a record cannot be read; it is named.

    Examples:
        cnntrain runs
        cnntrain runs runs/my --json
    """
    from cnntrain.records.run_list import list_runs, runs_text

    if folder and not folder.is_dir():
        raise CheckpointError(f"there is no folder of runs {folder}; without FOLDER, it is {output}")
    found = list_runs(folder or output)
    if as_json:
        show_json([asdict(run) for run in found])
    else:
        show(*(runs_text(found) if found else [f"no runs in {folder or output}; `cnntrain train CONFIG` makes one"]))


@command
def configs() -> None:
    """List the shipped configurations."""
    from cnntrain.config.shipped import first_line, shipped_configs

    for name, path in shipped_configs().items():
        show(f"{name:<24}{first_line(path)}")


@command
def init(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A shipped configuration (see `cnntrain configs`).", autocompletion=complete_shipped
        ),
    ],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml by default.")] = None,
) -> None:
    """Copy a shipped configuration to start from, with the schema for editors beside it.

    Examples:
        cnntrain init cifar10_lenet my.yaml
    """
    from cnntrain.config.shipped import copy_config

    written = copy_config(name, file)
    for path in written:
        show(f"wrote {path}")
    show(f"try it: cnntrain check {written[0]}")


@command
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors that complete and check YAML."""
    from cnntrain.config.loading import json_schema

    show(*json_schema().splitlines())


@command
def help(
    about: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]", help="Which one.", autocompletion=complete_command)
    ] = None,
) -> None:
    """Show what there is, or how a command is used.

    Examples:
        cnntrain help train
        cnntrain help data check
    """
    if unknown := [word for word in about or [] if word.startswith("-")]:
        raise ConfigError(f"{unknown[0]} is no command; cnntrain help COMMAND")
    app([*(about or []), "--help"], prog_name="cnntrain")
