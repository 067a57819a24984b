"""Going on with a run: finding it, and what may differ from when it began."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cnntrain.config.loading import Config, dump_config, load_config
from cnntrain.config.schema import MAX_THREADS
from cnntrain.data.places import moved_images
from cnntrain.errors import CheckpointError, ConfigError, DataError
from cnntrain.runs.artifacts.checking import loading
from cnntrain.runs.changes import SPLITTING, merge
from cnntrain.runs.checkpoints import Header, Saved, newest_training
from cnntrain.runs.files import remove_partials, write_text
from cnntrain.runs.run_folder import is_in_use
from cnntrain.runs.runs import BEST, is_run, newest_for_dangling, runs_in, which_is_meant
from cnntrain.runtime.device import resolve_device
from cnntrain.runtime.launchers import launched
from cnntrain.runtime.machine import available_cores


@dataclass(frozen=True)
class Resumed:
    """A run to go on with.

    Attributes:
        folder: The run folder.
        config: What to do, as the run began and with what was said anew.
        saved: Its newest checkpoint that is whole; None where nothing was saved yet.
        changes: What the configuration says anew.
        finished: Why there is nothing left to do; empty if there is.
        notices: What the user should know, one sentence each.
    """

    folder: Path
    config: Config
    saved: Saved | None
    changes: tuple[str, ...]
    finished: str
    notices: tuple[str, ...]

    def check_data(self, now: Header) -> None:
        """Compares the images with those that the run began with.

        Others are refused, whatever else may change: carved anew, some that were trained on could be tested on.

        Args:
            now: What a checkpoint would say of the images as they are.

        Raises:
            DataError: They are others, or their classes have other names.
        """
        before = self.saved.header if self.saved else now
        others = [part for part in now.splits if now.splits[part]["sha256"] != before.splits[part]["sha256"]]
        counts = ((part, before.splits[part]["num_images"], now.splits[part]["num_images"]) for part in others)
        differences = [f"{part}: {then:,} images then, {number:,} now" for part, then, number in counts]
        if now.class_names != before.class_names:
            names = (", ".join(header.class_names[:10]) for header in (before, now))
            differences.append("classes: {} then, {} now".format(*names))
        if differences:
            raise DataError(
                f"the images are not those that {self.folder} began with ({'; '.join(differences)}; "
                f"compared by sha256); bring them back, or train a new run on these that starts from what this one "
                f"learnt: --set model.weights={self.folder}"
            )


def find_run(run: str | None, output: Path, given: Config | None = None, name: str | None = None) -> Path | None:
    """The run folder to go on with.

    Args:
        run: A run folder, perhaps below `output` or its folder for this name. None means the newest unfinished run
            (without results.json), where there are several, of the same configuration; else the newest finished one.
        output: The folder of all runs.
        given: The configuration to go on with.
        name: Of the runs that come into question; None means the configuration's, or all.

    Returns:
        None where there is no run at all.

    Raises:
        CheckpointError: The run that is named does not exist.
    """
    name = given.run.name if given else name
    if run is not None:
        for path in map(newest_for_dangling, (Path(run), output / run, output / str(name) / run)):
            if is_run(path):
                return path.resolve()
            if newest := _newest(runs_in(path), given):
                return newest
        what = f"{run}: no run folder, that is, one with config.yaml in it; nor is it in {output}"
        raise CheckpointError(f"{what}; {which_is_meant(run, output)}")
    runs = runs_in(output, name)
    if given:  # what another process trains with another configuration is none of ours
        runs = [run for run in runs if not is_in_use(run) or _matches(run, given)]
    return _newest(runs, given)


def open_run(
    folder: Path,
    given: Config | None,
    *,
    allow_changes: bool,
    say: Callable[[str], None],
    data_root: Path | None = None,
) -> Resumed:
    """Reads what a run left behind.

    Args:
        folder: The run folder.
        given: What to do now, if it was said; compared with what the run was doing.
        allow_changes: Whether they may differ.
        say: Is told of each damaged checkpoint.
        data_root: Where data sets live, if that was said; a folder of images that is no longer where it was is looked
            for there.

    Raises:
        CheckpointError: All its checkpoints are damaged, or its configuration is.
        ConfigError: The configuration is another one.
    """
    remove_partials(folder)
    saved = newest_training(folder / BEST.parent, say)
    before = saved.header.config if saved else load_config(str(folder / "config.yaml")).config
    config, changes = merge(before, given) if given else (before, [])
    _refuse_changes(folder, saved, config, changes, allowed=allow_changes)
    notices, finished = [f"changed: {change}" for change in changes], ""
    if saved:
        config = _where_images_are(config, before, data_root, saved.header.class_names)
        with loading(saved.path):
            config = _with_threads(config, saved.state["environment"]["threads"])
            notices += _differences(saved, config)
            finished = _finished(folder, saved, config)
    elif (folder / "results.json").exists():
        finished = "its training checkpoints are gone, so it cannot be trained on"
    return Resumed(folder, config, saved, tuple(changes), finished, tuple(notices))


def restore_config(folder: Path, say: Callable[[str], None]) -> None:
    """Writes a run's config.yaml anew from its newest checkpoint, where it is damaged or missing."""
    path = folder / "config.yaml"
    try:
        load_config(str(path))
    except ConfigError:
        saved = newest_training(folder / BEST.parent, lambda _: None)
        if saved is None:
            raise
        write_text(path, dump_config(saved.header.config))
        say(f"     note: {path} was damaged or missing, and is that of the newest checkpoint again")


def environment() -> dict[str, Any]:
    """What the last bit of a result depends on, besides configuration and data."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processes": _num_processes(),
        "processor": str(torch.backends.cpu.get_cpu_capability()),
    }


def _num_processes() -> int:
    launch = launched()
    return launch.num_processes if launch else 1


def _refuse_changes(
    folder: Path, saved: Saved | None, config: Config, changes: Sequence[str], *, allowed: bool
) -> None:
    """Raises ConfigError where a run cannot go on with what the configuration says anew, or must be told that it may.

    Args:
        folder: The run folder.
        saved: Its newest checkpoint, if there is one.
        config: What to do now.
        changes: What is other than when it began.
        allowed: Whether the user said that there may be changes.
    """
    moved = [change for change in changes if change.startswith(SPLITTING)]
    if saved and moved:
        raise ConfigError(
            f"{folder} has begun, and {'; '.join(moved)} would move images between training and test; train a new run"
        )
    if saved and config.recipe.epochs < _epochs_done(saved):
        raise ConfigError(f"recipe.epochs is {config.recipe.epochs}, and {_epochs_done(saved)} are done in {folder}")
    if changes and not allowed:
        raise ConfigError(
            f"{folder} was trained with another configuration:",
            more=[
                *(f"  {change}" for change in changes),
                "add --allow-changes to go on with the new one, name another run, or start anew without --resume",
            ],
        )


def _where_images_are(config: Config, before: Config, data_root: Path | None, class_names: Sequence[str]) -> Config:
    """The same, where they have moved since; that they are the same images is checked when they are read."""
    data, run, recorded = config.data, config.run, before.run.data_root
    if data_root and not (data_root / str(data.root)).is_dir():
        data = moved_images(data, data_root, class_names)
    if recorded and run.data_root == recorded and not Path(recorded).is_dir():  # on another machine, perhaps
        run = run.model_copy(update={"data_root": None})
    return config.model_copy(update={"data": data, "run": run})


def _with_threads(config: Config, before: object) -> Config:
    """Computes with as many threads as before, unless that is said anew: another number adds up in another order."""
    if type(before) is not int or not 0 < before <= MAX_THREADS:
        raise ValueError(f"{before!r} threads")
    run = config.run.model_copy(update={"threads": config.run.threads or before})
    return config.model_copy(update={"run": run})


def _differences(saved: Saved, config: Config) -> list[str]:
    """Why the result may not be that of an uninterrupted run, to the last bit."""
    before, now = saved.state["environment"], environment()
    was, is_ = saved.header.config.run.device, str(resolve_device(config.run.device))
    changes = [f"the device was {was} and is {is_}"] if was != is_ else []
    for key, name in (("torch", "PyTorch's version"), ("processor", "the processor's instruction set")):
        if before[key] != now[key]:
            changes.append(f"{name} was {before[key]} and is {now[key]}")
    processes = before.get("processes", 1)  # which older checkpoints do not tell
    if processes != now["processes"] and not config.recipe.shards:
        changes.append(f"the number of processes was {processes} and is {now['processes']}")
    last_digits = "the last digits may differ from those of an uninterrupted run"
    notices = [f"{'; '.join(changes)}: {last_digits}"] if changes else []
    if is_ == "cpu":
        notices += _about_threads(before["threads"], int(config.run.threads or 0))
    if config.recipe.epochs > saved.header.config.recipe.epochs:
        notices.append(f"{config.recipe.epochs} epochs instead of {saved.header.config.recipe.epochs}")
    return notices


def _about_threads(before: int, now: int) -> list[str]:
    """What going on does about the number of threads, where it is not the one that PyTorch would take here."""
    usual, cores = torch.get_num_threads(), available_cores()
    if now != before:
        return [f"threads: {now} instead of {before}: the last digits may differ from those of an uninterrupted run"]
    if now == usual:
        return []
    slow = f" (exact, but slow on {cores} cores)" if now > cores else ""
    return [
        f"threads: {now}, as before, where PyTorch would take {usual}{slow}; "
        f"--set run.threads={usual} takes these, and the last digits may differ"
    ]


def _finished(folder: Path, saved: Saved, config: Config) -> str:
    if not (folder / "results.json").exists():
        return ""
    stopping, done = config.recipe.early_stopping, _epochs_done(saved)
    waited = saved.state["stopping"]["num_waited"]
    if stopping and stopping.metric == saved.state["stopping"]["metric"] and waited >= stopping.patience:
        return f"early stopping ended it, after {waited} epochs without improvement (recipe.early_stopping.patience)"
    if config.recipe.epochs <= done:
        return f"all {done} epochs are done; --epochs says how many there should be, to train on"
    return ""


def _epochs_done(saved: Saved) -> int:
    with loading(saved.path):
        return int(saved.state["progress"]["epoch"]) - 1


def _newest(runs: list[Path], given: Config | None) -> Path | None:
    unfinished = [run for run in runs if not (run / "results.json").exists()]
    if given:
        matching = [run for run in runs if _matches(run, given)]
        waiting = [run for run in matching if run in unfinished]
        idle = [run for run in waiting if not is_in_use(run)]
        runs = idle or waiting or matching or unfinished or runs
    else:
        runs = unfinished or runs
    return runs[-1].resolve() if runs else None


def _matches(run: Path, given: Config) -> bool:
    try:
        return not merge(load_config(str(run / "config.yaml")).config, given)[1]
    except ConfigError:
        return False
