"""Checkpoints: what was learnt (`best.safetensors`), and what is needed to go on (`step-NNNNNNNN.pt`).

Both hold tensors and plain values alone; loading executes nothing.
"""

import io
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from cnntrain.config import Config, parse_config
from cnntrain.data.preprocessing import Preprocessing
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models import build_model
from cnntrain.models.weights_file import METADATA_KEY, read_tensors
from cnntrain.records.files import write_bytes

KEPT_STEPS = 2


@dataclass(frozen=True)
class Header:
    """Everything that must be known to use a network's weights.

    Attributes:
        splits: Number of images and sha256 of train, val and test.
        val: Validation metrics of these weights, numbers alone.
    """

    config: Config
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, dict[str, Any]]
    epoch: int = 0
    step: int = 0
    val: dict[str, float] = field(default_factory=dict)

    def at(self, epoch: int, step: int, val: dict[str, float]) -> "Header":
        """The same at a moment of training."""
        return replace(self, epoch=epoch, step=step, val=val)

    def to_json(self) -> str:
        """As text, for a checkpoint's header."""
        values = {key: getattr(self, key) for key in ("class_names", "splits", "epoch", "step", "val")}
        values |= {"config": self.config.model_dump(mode="json"), "preprocessing": self.preprocessing.to_dict()}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Header":
        """The inverse of `to_json`.

        Raises:
            CheckpointError: The text is not what this version of cnntrain writes.
        """
        try:
            values = json.loads(text)
            values["config"] = parse_config(json.dumps(values["config"], ensure_ascii=False), str(path))
            values["preprocessing"] = Preprocessing.from_dict(values["preprocessing"])
            return cls(**{**values, "class_names": tuple(values["class_names"])})
        except (ConfigError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise CheckpointError(f"{path}: its header does not fit this version of cnntrain: {error}") from error


def save_network(path: Path, model: nn.Module, header: Header) -> None:
    """Writes weights and their description as one safetensors file.

    Raises:
        StorageError: The file cannot be written.
    """
    # safetensors wants plain row-major tensors; channels_last is restored on loading
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_bytes(path, safetensors.torch.save(weights, metadata={METADATA_KEY: header.to_json()}))


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


def save_training(folder: Path, state: dict[str, Any], header: Header) -> None:
    """Writes `step-NNNNNNNN.pt` with all that is needed to go on, and removes all but the newest few.

    Args:
        folder: The run's `checkpoints`.
        state: Tensors and plain values; `kept` holds the weights to evaluate.
        header: Of this moment.

    Raises:
        StorageError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"header": header.to_json(), **state}, buffer)
    write_bytes(folder / f"step-{header.step:08d}.pt", buffer.getvalue())
    for old in sorted(folder.glob("step-*.pt"))[:-KEPT_STEPS]:
        old.unlink(missing_ok=True)
