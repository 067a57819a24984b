"""The configurations that come with cnntrain."""

import contextlib
import difflib
import shlex
from pathlib import Path

from cnntrain.errors import ConfigError, StorageError
from cnntrain.runtime.names import printable

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
    if path.suffix in (".safetensors", ".pt", ".pth") and path.is_file():
        raise ConfigError(
            f"{source} holds weights and is no configuration; to start from them: `--set model.weights={source}` with "
            f"one; to go on with a run: `cnntrain train --resume` with its folder"
        )
    if path.is_file():
        return path
    if source in shipped:
        return shipped[source]
    if path.is_dir():
        raise ConfigError(_instead_of_folder(path, source))
    if path.exists():
        raise ConfigError(f"{source} is not a file; a configuration is a YAML file")
    beside = [str(path.parent / name) for name in _yaml_files(path.parent)]
    same = [name for name in beside if Path(name).stem.lower() == path.stem.lower()]
    close = same or difflib.get_close_matches(path.stem, list(shipped), n=1)
    close = close or difflib.get_close_matches(source, beside, n=1, cutoff=0.75)
    is_shipped = bool(close) and close[0] in shipped
    hint = f"did you mean {'the shipped ' * is_shipped}{close[0]!r}?" if close else "`cnntrain configs` lists them."
    raise ConfigError(f"{source}: no such file, and no shipped configuration has this name; {hint}")


def _instead_of_folder(folder: Path, source: str) -> str:
    """What to do with a folder, where a configuration is wanted: of a run, of configurations, or of images."""
    quoted = shlex.quote(source)
    if (folder / "config.yaml").is_file() or (folder / "checkpoints").is_dir():
        return (
            f"{source} is the folder of a run, not a configuration; to go on with it: "
            f"cnntrain train --resume {quoted}; to train a new one like it: "
            f"cnntrain train {shlex.quote(str(folder / 'config.yaml'))}"
        )
    if any(folder.glob("*/config.yaml")) or any(folder.glob("*/*/config.yaml")):
        return (
            f"{source} is a folder of runs, not a configuration; to go on with the newest unfinished one: "
            f"cnntrain train --resume {quoted}; `cnntrain runs {quoted}` lists them"
        )
    if names := _yaml_files(folder):
        return f"{source} is a folder; did you mean the configuration {str(folder / names[0])!r} in it?"
    root = shlex.quote(str(folder.absolute()))
    return (
        f"{source} is a folder; if it holds images, train on them with a shipped configuration: "
        f"cnntrain train image_folder_resnet18 --set data.root={root} (few photos: image_folder_transfer); "
        f"or copy it first: cnntrain init image_folder_resnet18 my.yaml, and write data.root: {root} there"
    )


def _yaml_files(folder: Path) -> list[str]:
    """Names of the YAML files in a folder, sorted."""
    with contextlib.suppress(OSError):
        return sorted(path.name for path in folder.iterdir() if path.suffix in (".yaml", ".yml"))
    return []


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
