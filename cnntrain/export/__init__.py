"""Handing a trained network on: as ONNX, as a torch.export program, or as plain weights; checked on real images."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnntrain.errors import CheckpointError, CnntrainError, StorageError
from cnntrain.export.agreement import TOLERANCE, Agreement, RealImages, Run, compare, run_network
from cnntrain.export.card import as_text, facts
from cnntrain.export.deployable import Deployable
from cnntrain.export.safetensors_file import run_safetensors, safetensors_content
from cnntrain.export.torch_file import run_torch, torch_content
from cnntrain.export.usage import usage
from cnntrain.records.checkpoints import Header
from cnntrain.records.files import to_json, write_bytes, write_text
from cnntrain.runtime.device import exact_float32

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}


def card_of(target: Path) -> Path:
    """The file beside an exported network that describes it."""
    return target.with_name(f"{target.name}.json")


def export_network(
    network: nn.Module, header: Header, images: RealImages, *, kind: str, checkpoint: Path, target: Path
) -> dict[str, Any]:
    """Writes a network and its card, once what is written has been found to agree with the network.

    Args:
        network: As `load_network` gives it, on the CPU.
        header: Likewise.
        images: To compare on.
        kind: `onnx`, `torch-export` or `safetensors`.
        checkpoint: The file that network and header are from.
        target: The file to write; its card is written beside it.

    Returns:
        The card.

    Raises:
        CheckpointError: The network cannot be exported, or the exported one does not agree; nothing is written.
        StorageError: The files cannot be written.
    """
    with checkpoint.open("rb") as file:
        known = facts(header, kind, hashlib.file_digest(file, "sha256").hexdigest())
    with exact_float32(), _explained(kind):
        content, exported, versions = _export(network, header, kind, known)
        agreement = compare(run_network(network, header.preprocessing, header.temperature), exported, images)
    if not agreement.holds:
        raise CheckpointError(_refusal(agreement, kind))
    card = {
        "file": target.name,
        "format": kind,
        "num_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **known,
        "agreement": agreement.to_dict(),
        "versions": versions,
        "usage": usage(kind, target.name, header).splitlines(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{target.parent} cannot be made: {error.strerror}; say where with --out") from error
    write_bytes(target, content)
    write_text(card_of(target), to_json(card) + "\n")
    return card


def _export(
    network: nn.Module, header: Header, kind: str, known: Mapping[str, Any]
) -> tuple[bytes, Run, dict[str, str]]:
    """The content of the file, the network as it is read from it again, and the versions of what did both."""
    versions = {"torch": str(torch.__version__)}
    deployable = Deployable(network, header.preprocessing, header.temperature)
    match kind:
        case "onnx":
            from cnntrain.export import onnx_file  # which needs the extra

            content = onnx_file.onnx_content(deployable, known["description"], as_text(known))
            return content, onnx_file.run_onnx(content), versions | onnx_file.versions()
        case "torch-export":
            content = torch_content(deployable, known)
            return content, run_torch(content), versions
        case "safetensors":
            content = safetensors_content(network, as_text(known))
            return content, run_safetensors(content, header), versions
    raise ValueError(kind)


@contextmanager
def _explained(kind: str) -> Iterator[None]:
    """Makes an error of an exporter, which may be of nearly every kind, one of ours."""
    try:
        yield
    except (CnntrainError, MemoryError):
        raise
    except Exception as error:
        first_line = str(error.__cause__ or error).strip().partition("\n")[0]
        reason = re.sub(r"\x1b\[[\d;]*m", "", first_line) or type(error).__name__  # PyTorch writes in colours
        others = ", ".join(other for other in SUFFIXES if other != kind)
        raise CheckpointError(
            f"this network cannot be exported as {kind} with torch {torch.__version__}: {reason}; nothing was written. "
            f"Another --format ({others}) may work; --debug shows where it failed"
        ) from error


def _refusal(found: Agreement, kind: str) -> str:
    return (
        f"the network exported as {kind} is not the original: on {found.images} its probabilities "
        f"differ by up to {found.max_difference_probabilities:.2g} (allowed: {TOLERANCE:g}), its logits by up to "
        f"{found.max_difference_logits:.2g} (allowed: {found.logits_tolerance:.2g}), and its top class in "
        f"{found.num_other_class} cases; nothing was written. Another --format, or another release of torch or "
        f"onnxruntime, may do better"
    )
