"""Random numbers as pure functions of a purpose and some keys, such as (seed, epoch).

Nothing here keeps state: asking twice with the same keys gives the same numbers, and two purposes
with the same keys are independent (NumPy's SeedSequence mixes them).
"""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_TURN = threading.RLock()  # trainings in several threads share torch's global generators


def generator(purpose: str, *keys: int) -> np.random.Generator:
    """A NumPy generator for one purpose, seeded by non-negative keys."""
    return np.random.default_rng([zlib.crc32(purpose.encode()), *keys])


@contextmanager
def torch_seeded(purpose: str, *keys: int, device: torch.device | None = None) -> Iterator[None]:
    """Seeds torch's global generators for a while, for what takes no other: initial weights, dropout.

    Other threads that want the same wait meanwhile.

    Args:
        purpose: What for.
        keys: Non-negative.
        device: Seeds this device's generator too, where it has its own.
    """
    elsewhere = device is not None and device.type != "cpu"
    kind, devices = (device.type, [device]) if device is not None and elsewhere else ("cuda", [])
    with _TURN, torch.random.fork_rng(devices=devices, device_type=kind):
        seed = int(generator(purpose, *keys).integers(2**63))
        if elsewhere:
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield
