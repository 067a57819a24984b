"""What a training begins with: a configuration, or a run to go on with."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from cnntrain.config.loading import Config, ConfigSource, LoadedConfig, dump_config, load_config
from cnntrain.config.shipped import shipped_configs
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.runs.resume import Resumed, find_run, open_run, restore_config
from cnntrain.runs.run_folder import in_use
from cnntrain.runs.runs import is_run, runs_in
from cnntrain.runs.turns import one_at_a_time
from cnntrain.runtime.processes import Processes


class Start(NamedTuple):
    """What to train and from where, as all processes know it.

    Attributes:
        config: What to do, as the first one has read it.
        label: What the configuration is called.
        folder: Of the run to go on with; of a new one, none.
        finished: Why there is nothing left to do; empty if there is.
        saved: The content of the training checkpoint to go on from; None where there is none.
    """

    config: Config
    label: str
    folder: Path
    finished: str
    saved: dict[str, Any] | None

    @property
    def is_resumed(self) -> bool:
        """Whether there is a run to go on with; its configuration may be another one than was given."""
        return self.folder != Path()


class Beginning(NamedTuple):
    """What to train.

    Attributes:
        loaded: The configuration; None in processes other than the first.
        resumed: The run to go on with, which is in use; None for a new one.
        begun: To be called when there is a run folder for others to find.
    """

    loaded: LoadedConfig | None
    resumed: Resumed | None = None
    begun: Callable[[], None] = lambda: None

    def start(self) -> Start:
        """What all processes must know of it."""
        assert self.loaded is not None
        config, label = self.loaded.config, self.loaded.document.label
        if self.resumed is None:
            return Start(config, label, Path(), "", None)
        saved = self.resumed.saved
        return Start(config, label, self.resumed.folder, self.resumed.finished, saved.state if saved else None)


NOT_FIRST = Beginning(None)


def began_before(processes: Processes) -> str | None:
    """The run that these processes had in hand, where torchrun starts them anew after one has ended; else None."""
    folder = processes.remembered()
    return folder if folder and is_run(Path(folder)) else None


def check_same(start: Start, config: ConfigSource | None, overrides: Mapping[str, Any]) -> None:
    """Compares what the processes were told to do.

    Raises:
        ConfigError: The configuration is not the same on all machines.
    """
    own = dump_config(load_config(config, **overrides).config) if config is not None else ""
    if config is not None and own != dump_config(start.config):
        raise ConfigError("the configuration differs from that of the first process; give all machines the same files")


@contextmanager
def beginning(
    config: ConfigSource | None,
    overrides: Mapping[str, Any],
    *,
    resume: bool | str | os.PathLike[str] | None = False,
    began: str | None = None,
    allow_changes: bool = False,
    say: Callable[[str], None],
) -> Iterator[Beginning]:
    """Reads what is to be trained; a run to go on with is held for this process alone.

    Args:
        config: What to train; with `resume` it may be left out, and a run folder may stand in its place.
        overrides: What `load_config` takes besides: `set`, and flags by their names.
        resume: Whether to go on with the newest unfinished run, or begin one where there is none; or the run.
        began: The run that this same command began before, with which it goes on whatever `resume` says.
        allow_changes: Whether the configuration may differ from the run's own.
        say: Is told what is gone on with.

    Raises:
        CheckpointError: There is no such run, or it is damaged.
        ConfigError: The configuration is wrong, or another one than the run's.
        StorageError: Another process trains the run.
    """
    config = None if config == "" else config  # a variable of the shell that is not set
    if not began and (resume is False or resume is None):  # None: as of other keywords, nothing is said
        if config is None:
            which = "cnntrain train CONFIG (`cnntrain configs` lists those that are shipped)"
            raise ConfigError(f"say what to train: {which}")
        yield Beginning(load_config(config, **overrides))
        return
    run = os.fspath(resume) if isinstance(resume, str | os.PathLike) else None
    if run is None and isinstance(config, str | os.PathLike):
        config, run = _config_or_run(os.fspath(config), overrides)
    run = began or run
    given = None if config is None else load_config(config, **overrides)
    runs = Path(given.config.run.output if given else overrides.get("output") or "runs").expanduser()
    with ExitStack() as turn:
        begun: Callable[[], None] = lambda: None  # noqa: E731
        if given and run is None:
            begun = turn.enter_context(one_at_a_time(runs, str(given.config.run.name), say))
        folder = find_run(run, runs, given.config if given else None, overrides.get("name"))
        if folder:
            turn.enter_context(in_use(folder))
            begun()
            yield _going_on(folder, given, overrides, allow_changes=allow_changes, say=say)
        elif given:
            say(f"nothing to go on with in {runs}: this is the beginning")
            yield Beginning(given, begun=begun)
        else:
            raise CheckpointError(f"no run in {runs} to go on with; say which with RUN or --output, or give a CONFIG")


def _going_on(
    folder: Path,
    given: LoadedConfig | None,
    overrides: Mapping[str, Any],
    *,
    allow_changes: bool,
    say: Callable[[str], None],
) -> Beginning:
    """A run that is in use; without a configuration with its own, and what is said anew."""
    if given is None:
        restore_config(folder, say)
        given = load_config(folder / "config.yaml", **overrides)
    data_root = Path(overrides["data_root"]) if overrides.get("data_root") else None
    resumed = open_run(folder, given.config, allow_changes=allow_changes, say=say, data_root=data_root)
    if not resumed.finished:
        say(f"going on with {folder}")
        for notice in resumed.notices:
            say(f"     note: {notice}")
    return Beginning(replace(given, config=resumed.config), resumed)


def _config_or_run(named: str, overrides: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """What the only argument means: a configuration, or a run by its folder or a file in it."""
    path, runs = Path(named), Path(overrides.get("output") or "runs")
    if named in shipped_configs() and overrides.get("name") not in (None, named):
        return named, None  # no folder of runs that happens to be called so: they are in another one
    if path.parent.name == "checkpoints" and path.is_file():
        return None, str(path.parent.parent)
    if path.name == "config.yaml" and (path.parent / "checkpoints").is_dir():
        return None, str(path.parent)
    there = runs / named
    if path.is_dir() or is_run(there) or runs_in(there):  # a folder without a run yet may be what another begins
        return None, named
    return named, None
