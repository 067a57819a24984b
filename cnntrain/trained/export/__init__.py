"""Handing a trained network on: as ONNX, as a torch.export program, or as plain weights; checked on real images."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cnntrain.errors import CheckpointError, CnntrainError, ConfigError, StorageError
from cnntrain.runs.files import to_json, write_bytes, write_text
from cnntrain.runs.runs import BEST
from cnntrain.runtime.device import exact_float32
from cnntrain.trained import Trained
from cnntrain.trained.export.agreement import Agreement, RealImages, Run, compare, run_trained
from cnntrain.trained.export.card import as_text, facts
from cnntrain.trained.export.deployable import Deployable
from cnntrain.trained.export.safetensors_file import run_safetensors, safetensors_content
from cnntrain.trained.export.torch_file import run_torch, torch_content
from cnntrain.trained.export.usage import usage

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}


def card_of(target: Path) -> Path:
    """The file beside an exported network that describes it."""
    return target.with_name(f"{target.name}.json")


def export_target(trained: Trained, kind: str, *, out: Path | None, overwrite: bool) -> Path:
    """The file to write, which is nobody else's: an export in the run folder may be replaced by the next one.

    Args:
        trained: The network.
        kind: `onnx`, `torch-export` or `safetensors`.
        out: The file that was asked for, or its folder; by default it is in `export` in the run folder.
        overwrite: Whether a file that was asked for may be replaced.

    Raises:
        ConfigError: The file that was asked for cannot be this one.
    """
    checkpoint, suffix = trained.path, SUFFIXES[kind]
    name = f"{trained.header.run_name or trained.header.network_name}{suffix}"
    if out is None:
        in_run = checkpoint.parent.name == BEST.parent.name
        return (checkpoint.parents[1] if in_run else checkpoint.parent) / "export" / name
    target = out / name if out.is_dir() else out
    if target.suffix != suffix:
        raise ConfigError(f"--out {out}: files of --format {kind} end in {suffix}")
    if target.exists() and target.samefile(checkpoint):
        raise ConfigError(f"--out {out} is the checkpoint itself; choose another name")
    for path in (target, card_of(target)):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists already and is left as it is; --overwrite replaces it")
    return target


def export_network(trained: Trained, images: RealImages, *, kind: str, target: Path) -> dict[str, Any]:
    """Writes a network and its card, once what is written has been found to agree with the network.

    Args:
        trained: The network, on the CPU.
        images: To compare on.
        kind: `onnx`, `torch-export` or `safetensors`.
        target: The file to write; its card is written beside it.

    Returns:
        The card.

    Raises:
        CheckpointError: The network cannot be exported, or the exported one does not agree; nothing is written.
        StorageError: The files cannot be written.
    """
    about = facts(trained, kind)
    with exact_float32(), _explained(kind):
        content, exported, versions = _export(trained, kind, about)
        agreement = compare(run_trained(trained), exported, images, trained.task)
    if not agreement.holds:
        raise CheckpointError(_refusal(agreement, kind, trained.task.export_notes.decision))
    card = {
        "file": target.name,
        "format": kind,
        "num_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        **about,
        "agreement": agreement.to_dict(),
        "versions": versions,
        "usage": usage(kind, target.name, trained).splitlines(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{target.parent} cannot be made: {error.strerror}; say where with --out") from error
    write_bytes(target, content)
    write_text(card_of(target), to_json(card) + "\n")
    return card


def _export(trained: Trained, kind: str, about: Mapping[str, Any]) -> tuple[bytes, Run, dict[str, str]]:
    """The content of the file, the network as it is read from it again, and the versions of what did both."""
    versions = {"torch": str(torch.__version__)}
    match kind:
        case "onnx":
            from cnntrain.trained.export import onnx_file  # which needs the extra

            content = onnx_file.onnx_content(Deployable(trained), about["description"], as_text(about))
            return content, onnx_file.run_onnx(content), versions | onnx_file.versions()
        case "torch-export":
            content = torch_content(Deployable(trained), about)
            return content, run_torch(content), versions
        case "safetensors":
            content = safetensors_content(trained.network, as_text(about))
            return content, run_safetensors(content, trained), versions
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


def _refusal(agreement: Agreement, kind: str, decision: str) -> str:
    differences = [
        f"its {name} {'' if number else 'differ '}by up to {difference.largest:.2g} (allowed: {difference.allowed:.2g})"
        for number, (name, difference) in enumerate(reversed(agreement.differences.items()))
    ]
    if decision:
        differences.append(f"and its {decision} in {agreement.num_other_decision} cases")
    return (
        f"the network exported as {kind} is not the original: on {agreement.images} {', '.join(differences)}; nothing "
        f"was written. Another --format, or another release of torch or onnxruntime, may do better"
    )
