"""`cnntrain data check`: looks for what is wrong with images."""

import contextlib
import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cnntrain.cli.completing import complete_config
from cnntrain.cli.options import DataRootOption, JsonOption, QuietOption, SetOption
from cnntrain.cli.output import show, show_json
from cnntrain.errors import ConfigError, DataError
from cnntrain.runtime.launchers import refuse_several_processes

if TYPE_CHECKING:
    from cnntrain.data.options import Data


ConfigOrFolderArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG|FOLDER",
        help="A YAML file, a shipped one's name, or a folder of images.",
        autocompletion=complete_config,
    ),
]


def check(
    config: ConfigOrFolderArgument,
    set_: SetOption = None,
    data_root: DataRootOption = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with thumbnails (HTML).")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 for warnings too.")] = False,
    examples: Annotated[int, typer.Option(min=1, help="How many images of each finding to name.")] = 5,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look for broken images, copies, leaks between splits, and odd classes and sizes. Every image is read once.

    A FOLDER holds train/, val/ and test/ with class folders, or class folders
    alone; it needs no configuration. A CONFIG says how its images are carved
    into splits, and which size its network takes.

    problem: an image that cannot be read, the same image in several splits or
    classes, a layout that training refuses. Exits with 3.

    warning: somebody should look, such as near copies in several splits or
    classes, tiny images, small classes. Exits with 0, under --strict with 3.

    notice: good to know. Exits with 0.

    Examples:
        cnntrain data check photos/
        cnntrain data check my.yaml --page check.html
        cnntrain data check cifar10_lenet --data-root ~/data --json
    """
    if page:
        refuse_several_processes()
        if page.suffix.lower() not in (".html", ".htm") or not page.parent.is_dir():
            raise ConfigError(f"--page {page}: name an .html file in a folder that exists")
    section, root, knows_size = _data_section(config, set_, data_root)

    from cnntrain.insight.data_check.report import inspect_data
    from cnntrain.reports.data_check.text import report_text, totals_text
    from cnntrain.runs.console import Console
    from cnntrain.runs.files import write_text

    console = Console(quiet=quiet)
    report = inspect_data(section, console, data_root=root, knows_size=knows_size)
    if as_json:
        show_json(report.to_dict())
    else:
        show(*report_text(report, examples))
    if page:
        from cnntrain.reports.data_check.page import report_page

        write_text(page, report_page(report))
        console.say(f"wrote {page}")
    if report.num_findings("problem") or (strict and report.num_findings("warning")):
        raise DataError(f"{report.inventory.place}: {totals_text(report)}")


def _data_section(source: str, set_: list[str] | None, data_root: Path | None) -> tuple["Data", str | None, bool]:
    """The `data` section, the data root, and whether a configuration says the network's image size."""
    from cnntrain.config.loading import load_config
    from cnntrain.config.shipped import shipped_configs
    from cnntrain.data.options import folder_section

    if Path(source).is_dir():
        if set_ or data_root:
            raise ConfigError(f"{source} is a folder; --set and --data-root go with a CONFIG")
        return folder_section(Path(source)), None, False
    path = Path(source)
    if not path.exists() and path.suffix not in (".yaml", ".yml") and source not in shipped_configs():
        raise ConfigError(_no_such_folder(path, source))
    loaded = load_config(source, set=set_, data_root=data_root).config
    return loaded.data, loaded.run.data_root, True


def _no_such_folder(path: Path, source: str) -> str:
    """What to say where neither a folder nor a configuration is called so."""
    from cnntrain.config.shipped import shipped_configs

    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    with contextlib.suppress(OSError):
        beside = [name.name for name in nearest.iterdir() if name.is_dir()]
        if close := difflib.get_close_matches(path.name, beside, n=1):
            return f"there is no folder {source}; did you mean {path.parent / close[0]}?"
    if close := difflib.get_close_matches(source, list(shipped_configs()), n=1):
        return f"there is no folder {source}, and no configuration; did you mean the shipped {close[0]!r}?"
    return f"there is no folder {source}, and no configuration; the nearest folder that there is: {nearest}"
