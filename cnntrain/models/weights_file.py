"""Reading files of weights: our own checkpoints, and those of others.

Files come from outside, so nothing in them is executed: safetensors, or PyTorch's format with `weights_only=True`.
"""

import io
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from cnntrain.errors import CheckpointError
from cnntrain.runtime.names import printable
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


def check_fit(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Compares the tensors of a file with those of a network, and looks at their values.

    Args:
        path: The file.
        tensors: Of the file.
        wanted: Of the network, by the same names; their shapes and types are looked at alone.

    Raises:
        CheckpointError: A tensor is missing or one too many, of another shape or type, or has values that are no
            finite numbers.
    """
    for unmatched, where in ((wanted.keys() - tensors.keys(), "file"), (tensors.keys() - wanted.keys(), "network")):
        if unmatched:
            more = f" and {len(unmatched) - 1:,} more tensors" if len(unmatched) > 1 else ""
            what = f"{printable(min(unmatched))}{more} not in the {where}"
            raise CheckpointError(f"{path}: its weights do not fit its own configuration: {what}")
    for name, tensor in tensors.items():
        known, place = wanted[name], f"{path}: its weights do not fit its own configuration: {printable(name)}"
        if tensor.shape != known.shape or tensor.dtype != known.dtype:
            raise CheckpointError(f"{place} is {_kind(tensor)}, and must be {_kind(known)}")
        if not is_plain(tensor):
            raise CheckpointError(f"{place} does not hold all of its values ({tensor.layout}, {tensor.device})")
        if not is_finite(tensor):
            raise CheckpointError(
                f"{path}: {printable(name)} holds values that are not finite (NaN or infinite), so the network's "
                f"outputs are not finite; its training went wrong, or the file was changed"
            )


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor holds each of its values in memory: a small file cannot stand for a huge tensor."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def is_finite(tensor: Tensor) -> bool:
    """Whether all values are, without a copy."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))  # NaN is both


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


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
        check_archive(path, raw)
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


def check_archive(path: Path, content: bytes) -> None:
    """Looks at a file in PyTorch's format, a zip archive that packs nothing.

    Raises:
        CheckpointError: It would unfold to more than it holds.
    """
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unfolded = sum(member.file_size for member in archive.infolist())
    if unfolded > len(content):
        raise CheckpointError(
            f"{path}: not a file of weights that PyTorch wrote: it would unfold from {len(content):,} bytes to "
            f"{unfolded:,}"
        )


def _is_state_dict(content: Any) -> bool:
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    return named and len(content) > 0 and all(isinstance(tensor, Tensor) for tensor in content.values())
