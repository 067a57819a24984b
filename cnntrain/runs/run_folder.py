"""Run folders: making one, and finding a checkpoint in it again.

runs/<name>/<timestamp>/        runs/latest -> the newest
"""

import contextlib
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cnntrain.config.shipped import shipped_configs
from cnntrain.errors import CheckpointError, NumericalError, StorageError
from cnntrain.runs.runs import BEST, LATEST, newest_for_dangling, next_name, runs_in, which_is_meant

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

REPORT_FILES = ("report.html", "predictions.csv", "suspected_labels.csv")


@contextmanager
def run_folder(output: Path, name: str) -> Iterator[Path]:
    """Makes `output/<name>/<timestamp>/` with `checkpoints/` in it, and points `output/latest` to it.

    Should the run fail before there is anything worth keeping (a checkpoint), all that was made goes again.

    Raises:
        StorageError: The folder cannot be made.
    """
    made = [parent for parent in (output / name, output) if not parent.exists()]
    folder = _make_folder(output, name)
    try:
        with in_use(folder), _explained(folder):
            yield folder
    finally:
        if not _is_worth_keeping(folder):
            _remove(folder, output, made)


@contextmanager
def run_folder_again(folder: Path) -> Iterator[Path]:
    """The folder of a run that goes on, which is `in_use`.

    results.json of an earlier end is set aside, and the report that was made of it removed.
    """
    with _explained(folder):
        for name in REPORT_FILES:
            (folder / name).unlink(missing_ok=True)
        (folder / BEST.parent).mkdir(exist_ok=True)
        results = folder / "results.json"
        if results.exists():
            try:
                epochs = str(int(json.loads(results.read_text(encoding="utf-8"))["epochs_run"]))
            except (ValueError, KeyError, TypeError):
                epochs = "damaged"
            results.replace(folder / f"results-{epochs}-epochs.json")
        yield folder


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Holds a lock on a run folder, which is gone with the process, however it ends.

    Raises:
        StorageError: Another process is training it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"{folder} is being trained by another process; wait for it, or stop it") from error
        except OSError:  # some network file systems know no locks
            pass
        yield
    finally:
        os.close(descriptor)


def is_in_use(folder: Path) -> bool:
    """Whether a process trains in a run folder."""
    try:
        with in_use(folder):
            return False
    except StorageError:
        return True


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Tells whoever sees an error what is kept, and how to go on."""
    try:
        yield
    except BaseException as error:
        if any((folder / BEST.parent).glob("step-*.json")):
            changed = " --allow-changes --set KEY=VALUE" if isinstance(error, NumericalError) else ""
            error.add_note(f"go on with it: cnntrain train --resume {folder}{changed}")
        if (folder / BEST).exists():
            error.add_note(f"what was learnt until then is kept: cnntrain evaluate {folder}")
        raise


def _is_worth_keeping(folder: Path) -> bool:
    return (folder / BEST).exists() or any((folder / BEST.parent).glob("step-*.json"))


def unfinished(checkpoint: Path) -> str:
    """What to add to the name of a checkpoint whose run has not come to its end; nothing for others."""
    folder = checkpoint.parent.parent
    ended = checkpoint.parent.name != BEST.parent.name or (folder / "results.json").exists()
    return "" if ended else " (note: this run has not finished)"


def check_writable(output: Path, advice: str = "; say where with --output") -> None:
    """Says early, before anything slow, that a run could not be written.

    Raises:
        StorageError: The folder of runs, or the nearest one around it that exists, cannot be written.
    """
    nearest = next(path for path in (output, *output.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        reason = "is not writable" if nearest.is_dir() else "is a file"
        raise StorageError(f"no run can be written to {output}: {nearest} {reason}{advice}")


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
        newest = _newest(output)
        if newest is None:
            raise CheckpointError(f"no trained run in {output}; train one first, or name one with its path or --output")
        return newest
    for path in map(newest_for_dangling, (Path(run), output / run)):
        if path.suffix in (".yaml", ".yml"):
            raise CheckpointError(_instead_of_config(path, output))
        if path.is_file():
            return path
        if path.is_dir():
            best = next((file for file in (path / BEST, path / BEST.name) if file.is_file()), None)
            checkpoint = best or _newest(path)
            if checkpoint is None:
                raise CheckpointError(f"{path} holds no trained run: there is no {path / BEST}")
            return checkpoint
    text = f"{run}: no such run folder or checkpoint file, nor is it in {output}"
    if run in shipped_configs():
        raise CheckpointError(f"{text}; it is a configuration, to be trained first: cnntrain train {run}")
    raise CheckpointError(f"{text}; {which_is_meant(run, output)}")


def _instead_of_config(path: Path, output: Path) -> str:
    """What to name where a run is wanted, and a configuration is named."""
    run = path.parent if path.name == "config.yaml" and (path.parent / BEST).is_file() else None
    if checkpoint := run / BEST if run else _newest(output / path.stem):
        return f"{path} is a configuration, not a run; did you mean its run {checkpoint.parents[1]}?"
    text = f"{path} is a configuration, not a run, and {output / path.stem} holds none of it"
    return f"{text}; train it first: cnntrain train {shlex.quote(str(path))}"


def _newest(folder: Path) -> Path | None:
    """The checkpoint of the newest run that has one."""
    return next((run / BEST for run in reversed(runs_in(folder)) if (run / BEST).is_file()), None)


def _make_folder(output: Path, name: str) -> Path:
    try:
        (output / name).mkdir(parents=True, exist_ok=True)
        while True:  # until no other process is as quick
            folder = output / name / next_name(output)
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                break
        (folder / BEST.parent).mkdir()
        _point_latest(output, folder)
    except OSError as error:
        raise StorageError(
            f"the run folder {output / name} cannot be made: {error.strerror}; say where with --output"
        ) from error
    return folder


def _point_latest(output: Path, folder: Path) -> None:
    link, fresh = output / LATEST, output / f".latest.{os.getpid()}"
    with contextlib.suppress(OSError, NotImplementedError):  # Windows asks for a privilege; nothing depends on it
        fresh.symlink_to(folder.relative_to(output), target_is_directory=True)
        try:
            fresh.replace(link)
        finally:
            fresh.unlink(missing_ok=True)


def _remove(folder: Path, output: Path, made: list[Path]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    link, newest = output / LATEST, _newest(output)
    with contextlib.suppress(OSError):
        if link.is_symlink() and not link.exists():
            link.unlink()
            if newest:
                _point_latest(output, newest.parents[1])
    for parent in made:
        with contextlib.suppress(OSError):  # not empty: another run came in between
            parent.rmdir()
