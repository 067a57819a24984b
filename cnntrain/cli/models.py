"""`cnntrain models`: lists the networks."""

from dataclasses import asdict

from cnntrain.cli.options import JsonOption
from cnntrain.cli.output import show, show_json


def models(as_json: JsonOption = False) -> None:
    """List the networks: parameters, multiply-adds, sizes, papers.

    Examples:
        cnntrain models
        cnntrain models --json
    """
    from cnntrain.insight.summarise import catalogue_figures
    from cnntrain.reports.network_tables import models_text

    networks = catalogue_figures()
    show_json([asdict(network) for network in networks]) if as_json else show(*models_text(networks))
