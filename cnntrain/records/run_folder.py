"""Run folders: making one, and finding them again.

runs/<name>/<timestamp>/        runs/latest -> the newest
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnntrain.errors import CheckpointError, ConfigError, StorageError

BEST = Path("checkpoints/best.safetensors")


@contextmanager
def run_folder(output: Path, name: str) -> Iterator[Path]:
    """Makes `output/<name>/<timestamp>/` with `checkpoints/` in it, and points `output/latest` to it.

    Should the run fail before there is anything worth keeping (`best.safetensors`), the folder goes again.

    Raises:
        ConfigError: The name cannot be a folder's.
        StorageError: The folder cannot be made.
    """
    if name in (".", "..", "latest") or not re.fullmatch(r"[^/\\\0]+", name):
        raise ConfigError(f"{name!r} cannot name a folder of runs", key="run.name")
    folder = _make_folder(output, name)
    try:
        yield folder
    finally:
        if not (folder / BEST).exists():
            _remove(folder, output)


def find_checkpoint(run: str | None, output: Path) -> Path:
    """The checkpoint file meant by a run.

    Args:
        run: A checkpoint file, a run folder, a folder of runs, or such a folder's name in `output`;
            None means the newest run in `output`.
        output: The folder of all runs.

    Raises:
        CheckpointError: There is none.
    """
    if run is None:
        found = _newest(output)
        if found is None:
            raise CheckpointError(f"no trained run in {output}; train one first, or name one with its path or --output")
        return found
    for path in (Path(run), output / run):
        if path.is_file():
            return path
        if path.is_dir():
            found = path / BEST if (path / BEST).is_file() else _newest(path.parent, path.name) or _newest(path)
            if found is None:
                raise CheckpointError(f"{path} holds no trained run: there is no {path / BEST}")
            return found
    raise CheckpointError(f"{run}: no such run folder or checkpoint file, nor is it in {output}")


def _newest(output: Path, name: str = "*") -> Path | None:
    # Timestamps sort as text. `latest` is a link to a run, one level too high to match.
    found = sorted(output.glob(f"{name}/*/{BEST}"), key=lambda path: path.parts[-3])
    return found[-1] if found else None


def _make_folder(output: Path, name: str) -> Path:
    try:
        while True:  # another run of the same second takes the next
            folder = output / name / time.strftime("%Y%m%d-%H%M%S")
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                if (output / name).exists() and not (output / name).is_dir():
                    raise
                time.sleep(0.1)
        (folder / BEST.parent).mkdir()
        _point_latest(output, folder)
    except OSError as error:
        raise StorageError(f"the run folder {output / name} cannot be made: {error.strerror}") from error
    return folder


def _point_latest(output: Path, folder: Path) -> None:
    link, fresh = output / "latest", output / f".latest.{os.getpid()}"
    with contextlib.suppress(OSError, NotImplementedError):  # Windows asks for a privilege; nothing depends on it
        fresh.symlink_to(folder.relative_to(output), target_is_directory=True)
        fresh.replace(link)


def _remove(folder: Path, output: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    link, newest = output / "latest", _newest(output)
    with contextlib.suppress(OSError):
        if link.is_symlink() and not link.exists():
            link.unlink()
            if newest:
                _point_latest(output, newest.parents[1])
    for parent in (folder.parent, output):
        with contextlib.suppress(OSError):  # not empty: it holds other runs
            parent.rmdir()
