"""Going on with a run: finding it, and what may differ from when it began."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from cnntrain.config import Config, dump_config, load_config
from cnntrain.errors import CheckpointError, ConfigError, DataError
from cnntrain.models.pretrained import PREPROCESSING
from cnntrain.records.checkpoints import Saved, newest_training
from cnntrain.records.files import remove_partials, write_text
from cnntrain.records.run_folder import is_in_use
from cnntrain.records.runs import BEST, is_run, newest_for_dangling, runs_in
from cnntrain.runtime.device import resolve_device
from cnntrain.runtime.machine import available_cores

# What may be said anew when a run goes on: none of it changes what is learnt, or it is about how long and how safely.
_FREE = {
    "run.output", "run.name", "run.device", "run.data_root", "run.tensorboard", "run.report", "run.log_every_steps",
    "recipe.checkpoint_every_steps", "recipe.checkpoint_every_minutes", "recipe.on_nonfinite",
    "data.storage", "data.num_workers", "data.on_error", "data.max_skipped", "expect",
}  # fmt: skip
# What a run pins when it begins, and a configuration may leave open.
_OPEN = {
    "run.data_root", "run.device", "recipe.precision", "recipe.micro_batch",
    "data.channels", "data.image_size", "data.stored_size",
}  # fmt: skip


# What decides which image is in which split. (The folder does not: it may have moved, and its images are compared.)
_SPLITTING = tuple(
    f"data.{key}" for key in ("source", "splits", "val_fraction", "test_fraction", "split_seed", "group_copies")
)


@dataclass(frozen=True)
class Resumed:
    """A run to go on with.

    Attributes:
        folder: The run folder.
        config: What to do, as the run began and with what was said anew.
        saved: Its newest checkpoint that is whole; None where nothing was saved yet.
        changes: What the configuration says anew.
        allow_changes: Whether it may go on with another configuration, or other images.
        finished: Why there is nothing left to do; empty if there is.
        notices: What the user should know, one sentence each.
    """

    folder: Path
    config: Config
    saved: Saved | None
    changes: tuple[str, ...]
    allow_changes: bool
    finished: str
    notices: tuple[str, ...]

    def check_data(self, splits: Mapping[str, Mapping[str, Any]], say: Callable[[str], None]) -> None:
        """Compares the images with those that the run began with.

        Args:
            splits: Number of images and sha256 of each split, as they are now.
            say: Is told where they are others, and may be.

        Raises:
            DataError: They are others, and may not be.
        """
        before = self.saved.header.splits if self.saved else splits
        others = [name for name in splits if splits[name]["sha256"] != before[name]["sha256"]]
        if others and not self.allow_changes:
            counts = ((name, before[name]["num_images"], splits[name]["num_images"]) for name in others)
            found = ", ".join(f"{name}: {then:,} images then, {now:,} now" for name, then, now in counts)
            raise DataError(
                f"the images are not those that {self.folder} began with ({found}; their sha256 differs); "
                f"bring them back, or add --allow-changes to go on with these"
            )
        if others:
            say(
                f"     note: other images than the run began with ({', '.join(others)}): it may have been trained on "
                f"some that are for validation or test now"
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
            if found := _newest(runs_in(path), given):
                return found
        raise CheckpointError(f"{run}: no run folder, that is, one with config.yaml in it; nor is it in {output}")
    return _newest(runs_in(output, name), given)


def open_run(folder: Path, given: Config | None, *, allow_changes: bool, say: Callable[[str], None]) -> Resumed:
    """Reads what a run left behind.

    Args:
        folder: The run folder.
        given: What to do now, if it was said; compared with what the run was doing.
        allow_changes: Whether they may differ.
        say: Is told of each damaged checkpoint.

    Raises:
        CheckpointError: All its checkpoints are damaged, or its configuration is.
        ConfigError: The configuration is another one.
    """
    remove_partials(folder)
    saved = newest_training(folder / BEST.parent, say)
    before = saved.header.config if saved else load_config(str(folder / "config.yaml")).config
    config, changes = merge(before, given) if given else (before, [])
    moved = [change for change in changes if change.startswith(_SPLITTING)]
    if saved and moved:
        raise ConfigError(
            f"{folder} has begun, and {'; '.join(moved)} would move images between training and test; train a new run"
        )
    if saved and config.recipe.epochs < _epochs_done(saved):
        raise ConfigError(f"recipe.epochs is {config.recipe.epochs}, and {_epochs_done(saved)} are done in {folder}")
    if changes and not allow_changes:
        raise ConfigError(
            f"{folder} was trained with another configuration:",
            more=[
                *(f"  {change}" for change in changes),
                "add --allow-changes to go on with the new one, name another run, or start anew without --resume",
            ],
        )
    notices, finished = [f"changed: {change}" for change in changes], ""
    if saved:
        with understood(saved):
            notices += _differences(saved, config)
            finished = _finished(folder, saved, config)
    elif (folder / "results.json").exists():
        finished = "its training checkpoints are gone, so it cannot be trained on"
    return Resumed(folder, config, saved, tuple(changes), allow_changes, finished, tuple(notices))


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


def merge(before: Config, given: Config) -> tuple[Config, list[str]]:
    """The configuration to go on with, and what in it is not as it was, such as `recipe.batch_size: 64 -> 32`.

    What `given` leaves open stays as it was resolved when the run began.
    """
    old, new = before.model_dump(mode="json"), given.model_dump(mode="json")
    left_open = [key for key in _OPEN if _value(new, key) in (None, "auto")]
    if before.model.weights is not None:
        if _is_same_file(before.model.weights, given.model.weights):
            left_open.append("model.weights")
        # The preprocessing of trained weights was filled in where the configuration said nothing.
        left_open += [f"data.{key}" for key in PREPROCESSING if key not in given.data.model_fields_set]
    if "group_copies" not in given.data.model_fields_set:  # runs of older versions were carved without
        left_open.append("data.group_copies")
    for key in left_open:
        section, name = key.split(".")
        new[section][name] = old[section][name]
    flat_old, flat_new = _flat(old), _flat(new)
    changes = [
        f"{key}: {_text(flat_old.get(key))} -> {_text(flat_new.get(key))}"
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key) != flat_new.get(key) and key not in _FREE and not _extends(key, flat_old, flat_new)
    ]
    return Config.model_validate(new), changes


@contextmanager
def understood(saved: Saved) -> Iterator[None]:
    """While a checkpoint is loaded whose digest is right, but which another program may have written.

    Raises:
        CheckpointError: Something in it is missing, or of another kind.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{saved.path}: no training checkpoint of this version of cnntrain ({error})") from error


def use_threads(saved: Saved) -> None:
    """Computes with as many threads as when the run began: another number adds up in another order.

    Raises:
        CheckpointError: The checkpoint has no sensible number.
    """
    with understood(saved):
        threads = saved.state["environment"]["threads"]
        if type(threads) is not int or not 0 < threads <= 1024:
            raise ValueError(f"{threads!r} threads")
    torch.set_num_threads(threads)


def environment() -> dict[str, Any]:
    """What the last bit of a result depends on, besides configuration and data."""
    return {
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        "processor": str(torch.backends.cpu.get_cpu_capability()),
    }


def _differences(saved: Saved, config: Config) -> list[str]:
    """Why the result may not be that of an uninterrupted run, to the last bit."""
    before, now = saved.state["environment"], environment()
    was, is_ = saved.header.config.run.device, str(resolve_device(config.run.device))
    found = [f"the device was {was} and is {is_}"] if was != is_ else []
    for key, name in (("torch", "PyTorch's version"), ("processor", "the processor's instruction set")):
        if before[key] != now[key]:
            found.append(f"{name} was {before[key]} and is {now[key]}")
    notices = [f"{'; '.join(found)}: the last digits may differ from those of an uninterrupted run"] if found else []
    if before["threads"] > available_cores():
        notices.append(
            f"{before['threads']} threads compute, as when the run began, on {available_cores()} cores: exact but slow"
        )
    if config.recipe.epochs > saved.header.config.recipe.epochs:
        notices.append(f"{config.recipe.epochs} epochs instead of {saved.header.config.recipe.epochs}")
    return notices


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
    with understood(saved):
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


def _is_same_file(before: str, given: str | None) -> bool:
    """Whether `model.weights` means what it meant when the run began, which then recorded the file itself."""
    path = Path(given or "").expanduser().absolute()
    return given == before or (given is not None and Path(before).is_relative_to(path))


def _value(values: Mapping[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return values[section][name]


def _extends(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return key == "recipe.epochs" and bool(new[key] > old[key])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and prefix + key not in _FREE:
            flat |= _flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
