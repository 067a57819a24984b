"""`cnntrain schema`: prints the JSON Schema of the configuration."""

from cnntrain.cli.output import show


def schema() -> None:
    """Print the JSON Schema of the configuration, for editors that complete and check YAML."""
    from cnntrain.config.loading import json_schema

    show(*json_schema().splitlines())
