"""Checkpoints: what was learnt (`best.safetensors`), and what is needed to go on (`step-NNNNNNNN.pt`).

Both hold tensors and plain values alone; loading executes nothing, and finds every damage (`runtime/sealing.py`).
A training checkpoint is committed by its manifest: without one it does not exist.
"""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import nn

from cnntrain.config import Config, parse_config
from cnntrain.config.reader import write_yaml
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models import build_model
from cnntrain.models.weights_file import METADATA_KEY, read_tensors
from cnntrain.records.files import write_bytes
from cnntrain.runtime.sealing import (
    DIGEST_KEY,
    UNSEALED,
    check_manifest,
    manifest,
    manifest_of,
    read_manifest,
    seal,
)
from cnntrain.task import SingleLabel

KEPT_STEPS = 2


@dataclass(frozen=True)
class Header:
    """Everything that must be known to use a network's weights.

    Attributes:
        splits: Number of images and sha256 of train, val and test.
        epoch: Of these weights; of a training checkpoint, the one in progress.
        step: Updates so far.
        val: Validation metrics of these weights, numbers alone; of a training checkpoint, of the best so far.
        temperature: See `SingleLabel`; other than 1 only where `recipe.temperature_scaling` asked for it.
    """

    config: Config
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, dict[str, Any]]
    epoch: int = 0
    step: int = 0
    val: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def task(self) -> SingleLabel:
        """What the network's outputs mean."""
        return SingleLabel(self.class_names, self.config.recipe.loss.name, self.temperature)

    @property
    def says_of_confidence(self) -> str:
        """What the probabilities are worth, in words."""
        num_images = self.splits.get("val", {}).get("num_images", 0)
        if self.temperature != 1:
            few = ", which are few" if num_images < 100 else ""
            return f"calibrated on {num_images:,} validation images{few}"
        asked = self.config.recipe.temperature_scaling
        return "not calibrated" + (f" ({num_images:,} validation images gave no temperature)" if asked else "")

    def at(self, epoch: int, step: int, val: dict[str, float]) -> "Header":
        """The same at a moment of training."""
        return replace(self, epoch=epoch, step=step, val=val)

    def to_json(self) -> str:
        """As text, for a checkpoint's header."""
        values = {key: getattr(self, key) for key in ("class_names", "splits", "epoch", "step", "val", "temperature")}
        values |= {"config": self.config.model_dump(mode="json"), "preprocessing": self.preprocessing.to_dict()}
        return json.dumps(values)  # in ASCII: names of folders may be no UTF-8

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Header":
        """The inverse of `to_json`.

        Raises:
            CheckpointError: The text is not what this version of cnntrain writes.
        """
        try:
            values = json.loads(text)
            values["config"]["data"].setdefault("group_copies", "none")  # of a version that carved so
            values["config"] = parse_config(write_yaml(values["config"]), str(path))
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            return cls(**{**values, "class_names": tuple(values["class_names"])})
        except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{path}: its header does not fit this version of cnntrain: {error}") from error


def network_bytes(model: nn.Module, header: Header) -> bytes:
    """Weights and their description as the content of one safetensors file, which carries its own digest."""
    # safetensors wants plain row-major tensors; channels_last is restored on loading
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return seal(safetensors.torch.save(weights, metadata={METADATA_KEY: header.to_json(), DIGEST_KEY: UNSEALED}))


def load_network(path: Path, device: torch.device) -> tuple[nn.Module, Header]:
    """Reads either kind of checkpoint and rebuilds its network, in evaluation mode.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint of cnntrain.
    """
    try:
        weights, text = read_tensors(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if text is None:
        raise CheckpointError(f"{path}: a file of weights, but not one that cnntrain wrote; model.weights takes it")
    header = Header.from_json(text, path)
    fitting = header.preprocessing
    try:
        model = build_model(
            header.config.model,
            in_channels=fitting.channels,
            num_classes=len(header.class_names),
            image_size=fitting.image_size,
        )
        model.load_state_dict(weights)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights do not fit its own configuration: {error}") from error
    return model.to(device).to(memory_format=torch.channels_last).eval(), header


def save_training(folder: Path, state: dict[str, Any], header: Header, keep: Collection[int] = ()) -> None:
    """Writes `step-NNNNNNNN.pt` with all that is needed to go on, then its manifest; keeps the newest few.

    Those of later steps, which training has gone back from, are removed.

    At every moment there is a checkpoint with its manifest, the one before or this one.

    Args:
        folder: The run's `checkpoints`.
        state: Tensors and plain values; `kept` holds the weights to evaluate.
        header: Of this moment.
        keep: Steps whose checkpoints are kept besides.

    Raises:
        StorageError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"header": header.to_json(), **state}, buffer)
    content, path = buffer.getvalue(), _file(folder, header.step)
    digest, before = hashlib.sha256(content).hexdigest(), read_manifest(path)
    if path.exists() and before:  # both are true while the file is replaced
        write_bytes(manifest_of(path), manifest(*before, digest))
    write_bytes(path, content)
    write_bytes(manifest_of(path), manifest(digest))

    found = {file for file in folder.glob("step-*.pt") if file.is_file()}
    committed = sorted(file for file in found if file.name <= path.name and manifest_of(file).exists())
    _remove(found - {*committed[-KEPT_STEPS:], *(_file(folder, step) for step in keep)})


def _file(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def _remove(checkpoints: Iterable[Path]) -> None:
    for path in checkpoints:
        manifest_of(path).unlink(missing_ok=True)  # first: what is half removed does not exist
        path.unlink(missing_ok=True)


class Saved(NamedTuple):
    """A training checkpoint that was read."""

    path: Path
    state: dict[str, Any]
    header: Header


def remove_later(saved: Saved) -> None:
    """Removes the checkpoints of later steps, which are damaged, or training would not go on from this one."""
    _remove(file for file in saved.path.parent.glob("step-*.pt") if file.is_file() and file.name > saved.path.name)


def remove_uncommitted(folder: Path) -> None:
    """Removes what a killed process was saving, where nothing else was saved."""
    _remove(file for file in folder.glob("step-*.pt") if not manifest_of(file).exists())


def newest_training(folder: Path, say: Callable[[str], None]) -> Saved | None:
    """The newest training checkpoint that is whole; None where none was saved.

    Args:
        folder: The run's `checkpoints`.
        say: Is told of each one that is damaged.

    Raises:
        CheckpointError: There are some, and all are damaged.
    """
    names = sorted({path.stem for path in folder.glob("step-*.*")}, reverse=True)
    uncommitted = [name for name in names if not manifest_of(folder / f"{name}.pt").exists()]
    for name in uncommitted:
        say(f"     note: {folder / name}.pt has no manifest, so its writing did not come to an end; it is left out")
    for name in [name for name in names if name not in uncommitted]:
        try:
            return _read_training(folder / f"{name}.pt")
        except CheckpointError as error:
            say(f"     note: {error}; trying the one before")
    # A crash leaves one such file behind, and then there is nothing else.
    if len(names) > len(uncommitted) or len(uncommitted) > 1:
        raise CheckpointError(
            f"{folder}: no training checkpoint is whole and has its manifest (.json), so this run cannot go on; "
            f"best.safetensors can still be evaluated, or trained on with model.weights"
        )
    return None


def training_to_go_back_to(folder: Path, steps: Sequence[int], say: Callable[[str], None]) -> Saved | None:
    """The checkpoint of the last of these steps; where it is damaged, of the one before, or else the newest.

    Args:
        folder: The run's `checkpoints`.
        steps: In rising order.
        say: Is told of each one that is damaged.

    Raises:
        CheckpointError: All checkpoints are damaged.
    """
    for step in reversed(steps):
        try:
            return _read_training(_file(folder, step))
        except CheckpointError as error:
            say(f"     note: {error}; going back further, the result is not that of an undamaged run")
    return newest_training(folder, say)


def _read_training(path: Path) -> Saved:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    check_manifest(path, content)
    try:
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return Saved(path, state, Header.from_json(state["header"], path))
    except CheckpointError:
        raise
    except Exception as error:  # its digest is right, so another program has written it
        raise CheckpointError(f"{path}: no training checkpoint of this version of cnntrain") from error
