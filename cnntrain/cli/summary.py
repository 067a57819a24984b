"""`cnntrain summary`: shows a network layer by layer."""

from dataclasses import asdict
from typing import Annotated

import typer

from cnntrain.cli.options import ConfigArgument, DataRootOption, JsonOption, SetOption
from cnntrain.cli.output import complain, show, show_json


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

    loaded = load_config(config, set=set_, data_root=data_root)

    from cnntrain.insight.summarise import summarise_config
    from cnntrain.reports.network_tables import summary_text

    with locate(loaded):
        summarised = summarise_config(loaded.config, classes)
    for notice in summarised.notices:
        complain(f"note: {notice}")
    fields = asdict(summarised)
    show_json(fields | fields.pop("network")) if as_json else show(*summary_text(summarised))
