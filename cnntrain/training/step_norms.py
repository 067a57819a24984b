"""How large the gradients, the weights and their update are in one training step."""

import math

import torch
from torch import Tensor, nn


class StepNorms:
    """Euclidean norms in one step: made when the gradients are there, told when the weights have moved.

    Nothing is changed, and the host waits for the device in `by_layer` alone.

    Args:
        model: Parameters without a gradient are left out.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.grad is not None}
        self._names = list(trained)
        self._weights = [parameter.detach() for parameter in trained.values()]
        self._before = [weights.clone() for weights in self._weights]
        self._norms = [_norms([parameter.grad for parameter in trained.values() if parameter.grad is not None])]

    @torch.no_grad()
    def weights_moved(self) -> None:
        """To be called after the update."""
        updates = torch._foreach_sub(self._weights, self._before)
        self._norms += [_norms(list(updates)), _norms(self._before)]
        self._before = []

    def by_layer(self) -> dict[str, dict[str, float]]:
        """The norms of each layer with parameters, as plain numbers.

        `gradient_norm` is that of the loss's gradient, before it is clipped. `update_ratio` is the norm of the update
        divided by that of the weights before it: around 1e-3 is healthy (Karpathy, notes of Stanford's CS231n, "Neural
        networks 3: ratio of weights:updates").
        """
        gradients: dict[str, float] = {}
        updates: dict[str, float] = {}
        weights: dict[str, float] = {}
        for name, *values in zip(self._names, *torch.stack(self._norms).tolist(), strict=True):
            layer = name.rpartition(".")[0]
            for norms, value in zip((gradients, updates, weights), values, strict=True):
                norms[layer] = math.hypot(norms.get(layer, 0.0), value)
        ratios = {layer: updates[layer] / weights[layer] if weights[layer] else math.inf for layer in weights}
        return {"gradient_norm": gradients, "update_ratio": ratios}


def _norms(tensors: list[Tensor]) -> Tensor:
    """float32 (P,)."""
    return torch.stack(torch._foreach_norm(tensors))
