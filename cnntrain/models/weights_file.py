"""Reading files of weights: our own checkpoints, and those of others.

Files come from outside, so nothing in them is executed: safetensors, or PyTorch's format with `weights_only=True`.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from cnntrain.errors import CheckpointError
from cnntrain.runtime.sealing import check_manifest, check_seal, read_manifest

METADATA_KEY = "cnntrain"  # of the header in our own safetensors files
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state")


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file by name, on the CPU, and the header if cnntrain wrote it.

    Wrappings that other trainers use are taken off: a dict around the state dict, `module.` before its keys.

    Raises:
        CheckpointError: The file is damaged, or holds something else than weights.
        OSError: It cannot be opened.
    """
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: is empty")
    return _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)


def _is_safetensors(path: Path) -> bool:
    """By the content, not the name, which people change: eight bytes of length, then JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    is_sealed = check_seal(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
            header = (file.metadata() or {}).get(METADATA_KEY)
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a checkpoint of cnntrain or another file of weights, or damaged ({error})"
        ) from error
    if (header is not None) != is_sealed:
        raise CheckpointError(f"{path}: damaged, or of another version of cnntrain: its header lacks the sha256")
    return tensors, header


def _read_torch(path: Path) -> tuple[dict[str, Tensor], str | None]:
    try:
        raw, listed = path.read_bytes(), read_manifest(path)
        if listed:  # even where damage hides whose it is
            check_manifest(path, raw)
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (CheckpointError, OSError):
        raise
    except Exception as error:  # on damaged or foreign files torch.load raises nearly every kind of exception
        # PyTorch's own message is left out: it advises to load without protection.
        raise CheckpointError(
            f"{path}: not a checkpoint of cnntrain or another file of weights, or damaged; a whole pickled network is "
            f"not read, because that could run any code: write torch.save(model.state_dict(), ...)"
        ) from error
    header, tensors = None, content
    if isinstance(content, dict):
        if isinstance(content.get("header"), str) and isinstance(content.get("kept"), dict):  # one of ours
            if not listed:
                check_manifest(path, raw)
            header, tensors = content["header"], content["kept"]
        else:
            tensors = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not _is_state_dict(tensors):
        raise CheckpointError(f"{path}: holds no state dict, that is tensors by the names of a network's layers")
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in tensors.items()}, header


def _is_state_dict(content: Any) -> bool:
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    return named and len(content) > 0 and all(isinstance(tensor, Tensor) for tensor in content.values())
