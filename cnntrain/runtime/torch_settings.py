"""What PyTorch keeps for the whole process, and a training or an evaluation chooses for itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Self

import torch


class TorchSettings(NamedTuple):
    """Settings of PyTorch that belong to the process.

    Attributes:
        num_threads: With which a CPU computes.
        matmul_precision: Of float32 products on a GPU: `highest`, or `high` for TF32.
        cudnn_benchmark: Whether cuDNN tries which convolutions are fastest.
    """

    num_threads: int
    matmul_precision: str
    cudnn_benchmark: bool

    @classmethod
    def current(cls) -> Self:
        """Those of now."""
        return cls(
            num_threads=torch.get_num_threads(),
            matmul_precision=torch.get_float32_matmul_precision(),
            cudnn_benchmark=torch.backends.cudnn.benchmark,
        )

    def apply(self) -> None:
        """Sets what differs."""
        now = self.current()
        if self.num_threads != now.num_threads:
            torch.set_num_threads(self.num_threads)
        if self.matmul_precision != now.matmul_precision:
            torch.set_float32_matmul_precision(self.matmul_precision)
        torch.backends.cudnn.benchmark = self.cudnn_benchmark


@contextmanager
def settings_kept(within: TorchSettings | None = None) -> Iterator[None]:
    """Puts PyTorch's settings back at the end, as the caller of a library expects.

    Args:
        within: Those to compute with until then.
    """
    before = TorchSettings.current()
    if within:
        within.apply()
    try:
        with usual_arithmetic():
            yield
    finally:
        before.apply()


@contextmanager
def usual_arithmetic() -> Iterator[None]:
    """Weights are float32 and gradients can be had, whatever the caller has chosen for work of its own."""
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        if dtype != torch.float32:
            torch.set_default_dtype(dtype)
