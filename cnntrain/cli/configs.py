"""`cnntrain configs`: lists the shipped configurations."""

from cnntrain.cli.output import show


def configs() -> None:
    """List the shipped configurations."""
    from cnntrain.config.shipped import first_line, shipped_configs

    for name, path in shipped_configs().items():
        show(f"{name:<24}{first_line(path)}")
