"""Batch norm where a batch is spread over parts: over several processes, or over shards.

PyTorch's own synchronised layer computes on GPUs alone. This one is tested against a single process, on a CPU too.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnntrain.models.general import BatchNorm
from cnntrain.runtime.processes import Processes


class SharedBatchNorm(BatchNorm):
    """Batch norm (Ioffe and Szegedy, arXiv:1502.03167) over the examples of all processes.

    With `processes` None mean and variance are those of the part alone, as long as that has more than one value. It
    takes the place of a layer of PyTorch, whose parameters and buffers it has.
    """

    processes: Processes | None

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: float (N, C, ...), on this process; N may be 0."""
        if not self.training or inputs.is_meta:  # without data there is nothing to take a mean of
            return super().forward(inputs)
        if self.processes is None:
            return self._normalised_alone(inputs)
        outputs: Tensor = _synchronised(inputs, self)
        return outputs

    def _check_input_dim(self, inputs: Tensor) -> None:
        """Any number of dimensions."""

    def _normalised_alone(self, inputs: Tensor) -> Tensor:
        if inputs.numel() > inputs.shape[1]:
            return super().forward(inputs)
        # Of a single value there is no variance: the running statistics stand in, and stay as they are.
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return F.batch_norm(inputs, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)

    @torch.no_grad()
    def track(self, mean: Tensor, variance: Tensor, number: Tensor) -> None:
        """Takes the statistics of `number` values into the running ones."""
        if self.num_batches_tracked is None or self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (number / (number - 1).clamp(min=1)), momentum)


def share_batch_norm(network: nn.Module, processes: Processes | None) -> None:
    """Puts `SharedBatchNorm` in the place of each batch norm of a network; see there for `processes`."""
    for name, module in list(network.named_modules()):
        if isinstance(module, BatchNorm) and name:
            shared = SharedBatchNorm.__new__(SharedBatchNorm)
            shared.__dict__ = {**module.__dict__, "processes": processes}
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, shared)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _synchronised(inputs: Tensor, layer: SharedBatchNorm) -> Tensor:
    assert layer.processes is not None
    mean, variance, number = _statistics(inputs.detach(), layer.processes)
    layer.track(mean, variance, number)
    outputs: Tensor = _Normalised.apply(
        inputs, layer.weight, layer.bias, mean, variance, number, layer.eps, layer.processes
    )
    return outputs


def _statistics(inputs: Tensor, processes: Processes) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each channel over all processes, float32 (C,), and over how many values that is.

    They are put together from those of each process, in the order of these, without a difference of large numbers:
    Chan, Golub and LeVeque, "Algorithms for computing the sample variance" (The American Statistician 37, 1983).
    """
    channels = inputs.shape[1]
    dtype = torch.promote_types(inputs.dtype, torch.float32)  # whatever the precision of what is normalised
    own = torch.zeros(2 * channels + 1, dtype=dtype, device=inputs.device)
    if inputs.numel():
        mean, variance = torch.batch_norm_update_stats(inputs, None, None, 0.0)
        own[:channels], own[channels:-1], own[-1] = mean, variance, inputs.numel() // channels
    all_of_them = processes.stack(own)
    means, variances, numbers = all_of_them[:, :channels], all_of_them[:, channels:-1], all_of_them[:, -1:]
    weights = numbers / numbers.sum()
    mean = (weights * means).sum(0)
    variance = (weights * (variances + (means - mean).square())).sum(0)
    return mean, variance, numbers.sum()


class _Normalised(torch.autograd.Function):
    """Normalises by statistics of all processes, which the gradient takes into account."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, variance: Tensor,
        number: Tensor, eps: float, processes: Processes,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(inputs, weight, mean, variance, number)
        ctx.eps, ctx.processes = eps, processes
        return F.batch_norm(inputs, mean, variance, weight, bias, eps=eps) if inputs.numel() else inputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        inputs, weight, mean, variance, number = ctx.saved_tensors
        # Sums over the values of this process; those of an empty one are zero, and the others wait for them.
        weight_gradient = bias_gradient = torch.zeros_like(mean)
        if inputs.numel():
            # (a GPU's kernel wants to be given all of these)
            ones, inverse = torch.ones_like(mean), (variance + ctx.eps).rsqrt()
            _, weight_gradient, bias_gradient = torch.ops.aten.native_batch_norm_backward(
                gradient, inputs, ones, mean, variance, mean, inverse, False, ctx.eps, [False, True, True]
            )
        means = ctx.processes.total(torch.stack([weight_gradient, bias_gradient])) / number
        # scale / std (gradient - mean of gradients - x^ mean of gradients times x^), by kernels that add up in float32
        through = gradient
        if inputs.numel():
            owed = F.batch_norm(inputs, mean, variance, means[0], means[1], eps=ctx.eps)
            factor = (variance + ctx.eps).rsqrt() * (1 if weight is None else weight)
            torch.sub(gradient, owed, out=owed)
            through = F.batch_norm(owed, torch.zeros_like(mean), torch.ones_like(mean), factor, eps=0.0)
        own = (None, None) if weight is None else (weight_gradient, bias_gradient)
        return through, *own, None, None, None, None, None
