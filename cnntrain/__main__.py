"""`python -m cnntrain` is the command `cnntrain`."""

from cnntrain.cli import entry

entry()
