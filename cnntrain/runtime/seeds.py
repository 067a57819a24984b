"""Random numbers as pure functions of a purpose and some keys, such as (seed, epoch).

Nothing here keeps state: asking twice with the same keys gives the same numbers, and two purposes
with the same keys are independent (NumPy's SeedSequence mixes them).
"""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def generator(purpose: str, *keys: int) -> np.random.Generator:
    """A NumPy generator for one purpose, seeded by non-negative keys."""
    return np.random.default_rng([zlib.crc32(purpose.encode()), *keys])


@contextmanager
def torch_seeded(purpose: str, *keys: int) -> Iterator[None]:
    """Seeds torch's global CPU generator for a while, for initialisation, which takes no other."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator(purpose, *keys).integers(2**63)))
        yield
