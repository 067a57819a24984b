"""What the shell offers when the tab key is pressed. Nothing here imports what takes long."""

import glob
from pathlib import Path

from cnntrain.cli.output import show
from cnntrain.errors import ConfigError

COMPLETION = "_CNNTRAIN_COMPLETE"  # the variable by which a shell asks what it may offer
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
_YAML = (".yaml", ".yml")


def complete_config(incomplete: str) -> list[str]:
    """Shipped configurations, YAML files and folders whose names begin like this."""
    return complete_shipped(incomplete) + [path for path in _paths(incomplete) if path.endswith(("/", *_YAML))]


def complete_shipped(incomplete: str) -> list[str]:
    """Shipped configurations."""
    from cnntrain.config.shipped import shipped_configs

    return [name for name in shipped_configs() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Runs in the folder `runs`, the newest first; else files and folders."""
    from cnntrain.runs.runs import runs_in

    runs = [str(run) for run in runs_in(Path("runs"))[::-1]]
    return [run for run in runs if run.startswith(incomplete)] or _paths(incomplete)


def complete_command(incomplete: str) -> list[str]:
    """Commands."""
    from cnntrain.cli.commands import Commands

    return [name for name in Commands.names if name.startswith(incomplete)]


def _paths(incomplete: str) -> list[str]:
    paths = sorted(Path(path) for path in glob.glob(f"{glob.escape(incomplete)}*"))  # noqa: PTH207 (keeps `./`)
    return [f"{path}/" if path.is_dir() else str(path) for path in paths]


def completion_for(arguments: list[str]) -> bool:
    """Answers `--show-completion SHELL` and `--install-completion SHELL`; typer itself takes the shell that runs it.

    Returns:
        Whether that was asked for.

    Raises:
        ConfigError: There is no completion for this shell.
    """
    if len(arguments) != 2 or arguments[0] not in ("--show-completion", "--install-completion"):
        return False
    option, shell = arguments
    if shell not in SHELLS:
        raise ConfigError(f"{option} {shell}: there is completion for {', '.join(SHELLS)}")

    from typer.completion import get_completion_script, install  # type: ignore[attr-defined]

    if option == "--show-completion":
        show(*get_completion_script(prog_name="cnntrain", complete_var=COMPLETION, shell=shell).splitlines())
    else:
        show(f"wrote {install(shell, 'cnntrain', COMPLETION)[1]}; it takes effect in a new terminal")
    return True
