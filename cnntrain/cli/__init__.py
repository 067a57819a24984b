"""The commands: read arguments, call one function, print, choose the exit code.

What is heavy is imported inside the commands, so that `cnntrain --help` answers at once.
"""

from cnntrain.cli import inspecting, training, trying, using, viewing
from cnntrain.cli.app import main

__all__ = ["inspecting", "main", "training", "trying", "using", "viewing"]
