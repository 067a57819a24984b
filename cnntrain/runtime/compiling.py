"""Kernels made for one network, by torch.compile."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.errors import DeviceError


def compiled(model: nn.Module, device: torch.device, *, accumulates: bool) -> Callable[[Tensor], Any]:
    """The forward pass of a network, compiled at its first call for each size of batch; the network stays as it is.

    On a GPU whole passes are recorded as CUDA graphs, because launching the kernels of a small network one by one
    takes longer than they do; but not where gradients add up over passes, since a graph writes its own anew each time.

    Raises:
        DeviceError: At the first call: nothing can be compiled on this machine.
    """
    # Each size of image and batch is compiled apart, and growing images have more of them than the compiler expects.
    torch._dynamo.config.recompile_limit = 64
    recorded = device.type == "cuda" and not accumulates
    run = torch.compile(model, dynamic=False, mode="reduce-overhead" if recorded else None)

    def forward(images: Tensor) -> Any:
        try:
            return run(images)
        except Exception as error:
            # PyTorch names no public base of what its compiler raises.
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            raise DeviceError(
                f"torch.compile failed: {str(error).strip().splitlines()[0]}; it needs a C++ compiler (g++), on a GPU "
                f"Triton too; set run.compile: false"
            ) from error

    return forward
