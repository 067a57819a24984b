"""The commands: read arguments, call one function, print, choose the exit code.

What is heavy is imported inside the commands, so that `cnntrain --help` answers at once.
"""

# In this order --help lists the commands.
# isort: off
from cnntrain.cli import (
    training,
    inspecting,
    trying,
    finding,
    using,
    reporting,
    explaining,
    exporting,
    serving,
    viewing,
)

# isort: on
from cnntrain.cli.app import main

__all__ = [  # noqa: RUF022 (the same order)
    "main",
    "training",
    "inspecting",
    "trying",
    "finding",
    "using",
    "reporting",
    "explaining",
    "exporting",
    "serving",
    "viewing",
]
