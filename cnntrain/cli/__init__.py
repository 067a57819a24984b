"""The command line: a file per command, which reads arguments, calls one function, prints, and chooses the exit code.

What is heavy is imported inside the commands, so that `cnntrain --help` answers at once.
"""

from cnntrain.cli.app import main

__all__ = ["main"]
