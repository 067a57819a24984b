"""The configurations that come with cnntrain."""

import difflib
from pathlib import Path

from cnntrain.errors import ConfigError, StorageError
from cnntrain.names import printable

SCHEMA_FILE = "cnntrain.schema.json"

_PACKAGE = Path(__file__).parent.parent


def config_folder() -> Path:
    """The folder of shipped configurations: in the package when installed, beside it in a checkout."""
    inside = _PACKAGE / "configs"
    return inside if inside.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> dict[str, Path]:
    """Name -> file of every shipped configuration, sorted by name."""
    return {path.stem: path for path in sorted(config_folder().glob("*.yaml"))}


def first_line(path: Path) -> str:
    """The line that says what a shipped configuration is."""
    return path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").rstrip()


def find_config(source: str) -> Path:
    """A file, or a shipped configuration by its name.

    Raises:
        ConfigError: There is neither.
    """
    path, shipped = Path(source), shipped_configs()
    if path.is_file():
        return path
    if source in shipped:
        return shipped[source]
    if path.exists():
        raise ConfigError(f"{source} is not a file; a configuration is a YAML file")
    close = difflib.get_close_matches(path.stem, list(shipped), n=1)
    hint = f"did you mean the shipped {close[0]!r}?" if close else "`cnntrain configs` lists the shipped ones."
    raise ConfigError(f"{source}: no such file, and no shipped configuration has this name; {hint}")


def copy_config(name: str, target: Path | None) -> list[Path]:
    """Copies a shipped configuration to start from, and the schema that editors read beside it.

    Args:
        name: Of a shipped configuration.
        target: A file, a folder, or None for `NAME.yaml` here.

    Returns:
        The files written, the configuration first.

    Raises:
        ConfigError: No such name, or the target exists.
        StorageError: The target cannot be written.
    """
    shipped, name = shipped_configs(), name.removesuffix(".yaml")
    if name not in shipped:
        close = difflib.get_close_matches(name, list(shipped), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"no shipped configuration is called {name!r}{hint} (allowed: {', '.join(shipped)})")
    target = target or Path()
    if target.is_dir():
        target = target / f"{name}.yaml"
    if target.exists():
        raise ConfigError(f"{target} exists already and is left as it is; name another file")
    text = shipped[name].read_text(encoding="utf-8").replace(f"configs/{name}.yaml", printable(target))
    contents = {target: text, target.parent / SCHEMA_FILE: (config_folder() / SCHEMA_FILE).read_text(encoding="utf-8")}
    try:
        for path, content in contents.items():
            path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    return list(contents)
