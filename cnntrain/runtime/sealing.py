"""Digests in and beside files of ours, by which a single flipped bit is found when they are read.

A safetensors file carries the sha256 of its own content, with zeros in the digest's place. A training checkpoint has
a manifest beside it, which lists the sha256 of what the file may hold: of one content, or, while it is being
replaced, of the old one and the new one.
"""

import hashlib
import json
import re
from pathlib import Path

from cnntrain.errors import CheckpointError

DIGEST_KEY = "cnntrain_sha256"  # in the metadata of a safetensors file
UNSEALED = "0" * 64
_FIELD = re.compile(rb'"cnntrain_sha256":"([0-9a-f]{64})"')
_CHUNK = 2**20


def seal(content: bytes) -> bytes:
    """A safetensors file whose digest is `UNSEALED`, with the right one."""
    span = _digest_span(content)
    if span is None:
        raise ValueError(f"the metadata lack {DIGEST_KEY}")
    return content[: span[0]] + hashlib.sha256(content).hexdigest().encode() + content[span[1] :]


def check_seal(path: Path) -> bool:
    """Whether a safetensors file carries a digest, which is then the right one.

    Raises:
        CheckpointError: It is not.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
        start += file.read(min(int.from_bytes(start, "little"), 2**27))
        span = _digest_span(start)
        if span is None:
            return False
        digest = hashlib.sha256(start[: span[0]] + UNSEALED.encode() + start[span[1] :])
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest().encode() != start[slice(*span)]:
        raise CheckpointError(f"{path}: damaged: its content does not match the sha256 in its header")
    return True


def manifest_of(path: Path) -> Path:
    """The manifest of a training checkpoint."""
    return path.with_suffix(".json")


def manifest(*digests: str) -> bytes:
    """The content of a manifest."""
    return json.dumps({"sha256": digests}, separators=(",", ":")).encode()


def read_manifest(path: Path) -> list[str]:
    """The digests that a training checkpoint's manifest lists; none where it is missing or damaged."""
    try:
        listed = json.loads(manifest_of(path).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return [digest for digest in listed if isinstance(digest, str)] if isinstance(listed, list) else []


def check_manifest(path: Path, content: bytes) -> None:
    """Compares a training checkpoint with its manifest.

    Raises:
        CheckpointError: There is no manifest, or it is of another content.
    """
    listed = read_manifest(path)
    if not listed:
        raise CheckpointError(
            f"{path}: {manifest_of(path).name} is not beside it, or damaged: the two are written and moved together"
        )
    if hashlib.sha256(content).hexdigest() not in listed:
        raise CheckpointError(f"{path}: damaged: its content does not match the sha256 in {manifest_of(path).name}")


def _digest_span(content: bytes) -> tuple[int, int] | None:
    """Where in a safetensors file its digest is."""
    digest = _FIELD.search(content, 8, 8 + int.from_bytes(content[:8], "little"))
    return digest.span(1) if digest else None
