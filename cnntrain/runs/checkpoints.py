"""Checkpoints: what was learnt (`best.safetensors`), and what is needed to go on (`step-NNNNNNNN.pt`).

Both hold tensors and plain values alone; loading executes nothing, and finds every damage (`runtime/sealing.py`).
A training checkpoint is committed by its manifest: without one it does not exist.
"""

import hashlib
import io
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models.weights_file import METADATA_KEY, check_archive, check_fit
from cnntrain.runs.artifacts.training import check_training
from cnntrain.runs.files import write_bytes
from cnntrain.runs.header import Header
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, check_manifest, manifest, manifest_of, read_manifest, seal

__all__ = [
    "Header", "Saved", "check_weights", "network_bytes", "newest_training", "remove_later",
    "remove_uncommitted", "save_training", "training_to_go_back_to",
]  # fmt: skip

KEPT_STEPS = 2


def network_bytes(model: nn.Module, header: Header) -> bytes:
    """Weights and their description as the content of one safetensors file, which carries its own digest."""
    # safetensors wants plain row-major tensors; channels_last is restored on loading
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    return seal(safetensors.torch.save(weights, metadata={METADATA_KEY: header.to_json(), DIGEST_KEY: UNSEALED}))


def check_weights(path: Path, header: Header, weights: Mapping[str, Tensor]) -> None:
    """Compares weights with the network that their header describes, which is not built for that.

    Raises:
        CheckpointError: They are those of another network, of another type, or not finite.
    """
    try:
        outline = header.build_outline()
    except (ConfigError, RuntimeError, OverflowError) as error:  # torch's own, of sizes beyond 64 bits
        raise CheckpointError(f"{path}: its header describes no network: {error}") from error
    check_fit(path, weights, outline.state_dict())


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

    existing = {file for file in folder.glob("step-*.pt") if file.is_file()}
    committed = sorted(file for file in existing if file.name <= path.name and manifest_of(file).exists())
    _remove(existing - {*committed[-KEPT_STEPS:], *(_file(folder, step) for step in keep)})


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
            check_archive(path, content)
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:  # its digest is right, so another program has written it
        raise CheckpointError(f"{path}: no training checkpoint of this version of cnntrain") from error
    check_training(state, str(path))
    header = Header.from_json(state["header"], path)
    for part in ("model", "kept"):
        check_weights(path, header, state[part])
    _check_position(path, header, state)
    return Saved(path, state, header)


def _check_position(path: Path, header: Header, state: dict[str, Any]) -> None:
    """Whether step, epoch and what was logged of epochs are of the same moment.

    Raises:
        CheckpointError: They are not.
    """
    if missing := {"train", "val", "test"} - header.splits.keys():
        raise CheckpointError(
            f"{path}: its header does not fit this version of cnntrain: splits.{min(missing)} is missing"
        )
    step, epoch = state["step"], state["progress"]["epoch"]
    per_epoch = header.steps_per_epoch
    if step != header.step or not (epoch - 1) * per_epoch <= step <= epoch * per_epoch:
        raise CheckpointError(
            f"{path}: no training checkpoint of this version of cnntrain: step {step} (header: {header.step}) is not "
            f"in progress.epoch {epoch} of {per_epoch} steps"
        )
