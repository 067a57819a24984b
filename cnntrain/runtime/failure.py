"""What went wrong in one of several processes, as it is posted for all, and in which words it is told."""

import json
from collections.abc import Sequence
from typing import NamedTuple

import torch.distributed as dist

from cnntrain.errors import CnntrainError, Interrupted, OtherProcessError, StorageError, describe_bug
from cnntrain.runtime.names import printable


class Failure(NamedTuple):
    """What went wrong.

    Attributes:
        rank: Of the process where it did; None where that has ended without a word.
        exit_code: With which all processes end.
        lines: The message.
        voice: The process that tells it.
    """

    rank: int | None
    exit_code: int
    lines: Sequence[str]
    voice: int = 0

    def error(self, rank: int, count: int) -> OtherProcessError:
        """What process `rank` of `count` raises for it."""
        first, *more = self.lines
        which = f"process {self.rank} of {count}: {first}" if self.rank else first
        return OtherProcessError([which, *more], self.exit_code, quiet=rank != self.voice)


def failure_of_error(error: BaseException, rank: int) -> Failure:
    """What process `rank` posts for an error of its own."""
    if isinstance(error, CnntrainError):
        return Failure(rank, error.exit_code, list(error.lines))
    if isinstance(error, KeyboardInterrupt):
        return Failure(rank, getattr(error, "exit_code", Interrupted.exit_code), [str(error) or "interrupted"])
    if isinstance(error, OSError):
        return Failure(rank, StorageError.exit_code, [printable(error)])
    # Of bugs there is more to tell, which the process itself knows.
    return Failure(rank, CnntrainError.exit_code, [printable(describe_bug(error))], voice=rank)


def is_of_connections(error: BaseException) -> bool:
    """Whether an error is about the others, not about this process: PyTorch has no class for Gloo's."""
    if isinstance(error, dist.DistError):
        return True
    signs = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def failure_of(text: bytes) -> Failure:
    """A failure as it was posted."""
    return Failure(*json.loads(text))


def cut_off(error: BaseException, rank: int) -> Failure:
    """Of a connection that is lost, where nobody says why."""
    lines = [printable(f"the connection to another process is lost: {str(error).splitlines()[0]}")]
    return Failure(rank, OtherProcessError.exit_code, lines)


def gone(rank: int, count: int, voice: int) -> Failure:
    """Of process `rank`, which process `voice` tells."""
    text = f"process {rank} of {count} ended without a word: killed, perhaps for want of memory, or the machine is gone"
    return Failure(None, OtherProcessError.exit_code, [text], voice)


def still(rank: int, count: int, voice: int, *, seconds: float) -> Failure:
    """Of process `rank`, which process `voice` tells."""
    text = f"process {rank} of {count} has given no sign of life for {seconds:.0f} s: stopped, or cut off"
    return Failure(None, OtherProcessError.exit_code, [text], voice)
