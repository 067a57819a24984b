"""The arrays that data are held in."""

from typing import Any

import numpy as np
import numpy.typing as npt

Items = npt.NDArray[Any]  # (N, *item_shape), or one of them
Digests = npt.NDArray[np.uint8]  # (N, 32), a sha256 for each example
Labels = npt.NDArray[np.int64]  # (N,)
Indices = npt.NDArray[np.int64]  # positions
Groups = npt.NDArray[np.int64]  # (N,): for each example, the position of the first one of its group
Pairs = npt.NDArray[np.int64]  # (M, 2), positions of examples that belong together
