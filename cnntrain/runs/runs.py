"""The runs in a folder: which there are, in which order they began, and what the next one is called.

The newest run is the one that `latest` points to. Where there is no such link, and among all others, the names tell:
they are times, and each is later than all that are there, whatever the clock says.
"""

import contextlib
import difflib
import glob
import os
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

BEST = Path("checkpoints/best.safetensors")
LATEST = "latest"  # the link to the newest run
_FORMAT, _TIME = "%Y%m%d-%H%M%S", re.compile(r"\d{8}-\d{6}")


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run, perhaps a damaged one."""
    return (folder / "config.yaml").is_file() or any((folder / BEST.parent).glob("*.*"))


def runs_in(folder: Path, name: str | None = None) -> list[Path]:
    """The run folders in a folder of runs, or in the part of it that has one name, from the oldest to the newest.

    Args:
        folder: The folder of all runs, or of those of one name.
        name: Of the runs that are wanted; None means all.
    """
    patterns = [f"{glob.escape(name)}/*"] if name is not None else ["*/*", "*"]
    paths = [path for pattern in patterns for path in folder.glob(pattern) if path.name != LATEST and is_run(path)]
    # Each once, by its own name, if there are links to it too.
    runs = {path.resolve(): path for path in sorted(paths, key=Path.is_symlink, reverse=True)}
    newest = {link.resolve() for link in (folder / LATEST, folder.parent / LATEST) if link.is_symlink()}
    return [runs[path] for path in sorted(runs, key=lambda path: (path in newest, _began(path), str(path)))]


def which_is_meant(run: str, output: Path) -> str:
    """What to say of a run that is not there: the run, or the folder of runs, in `output` that is called nearly so."""
    runs = runs_in(output)
    named = {str(folder) for path in runs for folder in (path, path.parent)} - {str(output)}
    names = {text: name for name in named for text in (name, os.path.relpath(name, output))}
    close = difflib.get_close_matches(run.rstrip("/"), sorted(names), n=1)
    return f"did you mean {names[close[0]]}?" if close else "`cnntrain runs` lists those there are"


def newest_for_dangling(link: Path) -> Path:
    """What `latest` means where its run was removed: the newest that is there; any other path is left as it is."""
    if link.name != LATEST or not link.is_symlink() or link.exists():
        return link
    return next(iter(runs_in(link.parent)[::-1]), link)


def next_name(output: Path) -> str:
    """A name for a new run: the time, or where the clock was set back, a second after the newest run."""
    now = datetime.fromtimestamp(time.time())
    for path in output.glob("*/*"):
        with contextlib.suppress(ValueError, OverflowError):
            if _TIME.fullmatch(path.name):
                now = max(now, datetime.strptime(path.name, _FORMAT) + timedelta(seconds=1))
    return now.strftime(_FORMAT)


def _began(run: Path) -> str:
    """A text that sorts by time; a run that somebody has renamed counts as old."""
    return run.name if _TIME.fullmatch(run.name) else ""
