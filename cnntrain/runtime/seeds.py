"""Random numbers as pure functions of a purpose and some keys, such as (seed, epoch).

Nothing here keeps state: asking twice with the same keys gives the same numbers, and two purposes
with the same keys are independent (NumPy's SeedSequence mixes them).
"""

import zlib

import numpy as np
import torch


def generator(purpose: str, *keys: int) -> np.random.Generator:
    """A NumPy generator for one purpose, seeded by non-negative keys."""
    return np.random.default_rng([zlib.crc32(purpose.encode()), *keys])


def seed_torch(purpose: str, *keys: int) -> None:
    """Seeds torch's global generators, for the parts of PyTorch (dropout, initialisation) that take no other."""
    torch.manual_seed(int(generator(purpose, *keys).integers(2**63)))
