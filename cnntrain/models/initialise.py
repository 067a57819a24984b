"""Initial weights: rules that fit any network. What a paper asks for its own network stands with that network."""

from collections.abc import Callable

from torch import Tensor, nn

from cnntrain.models.general import Convolution


def initialise(model: nn.Module, rule: str) -> None:
    """Draws the weights of all convolutions and linear layers anew; biases become 0, norms stay.

    Args:
        model: Changed in place, with torch's global generator.
        rule: `kaiming`: normal with variance 2 / fan_in, which keeps the variance of activations through ReLUs (He et
            al., arXiv:1502.01852, equation 10). `xavier`: uniform with variance 2 / (fan_in + fan_out) (Glorot and
            Bengio 2010, equation 16). `orthogonal`: rows or columns orthonormal, so that lengths are kept (Saxe et
            al., arXiv:1312.6120).

    Raises:
        ValueError: There is no such rule.
    """
    rules: dict[str, Callable[[Tensor], object]] = {
        "kaiming": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
        "xavier": nn.init.xavier_uniform_,
        "orthogonal": nn.init.orthogonal_,
    }
    if rule not in rules:
        raise ValueError(f"rule must be one of {', '.join(rules)} (got {rule!r})")
    _initialise(model, rules[rule])


def kaiming_fan_out(model: nn.Module) -> None:
    """Convolutions normal with variance 2 / fan_out; linear layers keep PyTorch's default.

    The form of He et al., arXiv:1502.01852, that keeps the variance of gradients (equation 14), as residual networks
    are usually started.
    """
    for module in model.modules():
        if isinstance(module, Convolution):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def uniform_by_fan_in(model: nn.Module, gain: float = 2.4) -> None:
    """Weights uniform in [-gain / fan_in, gain / fan_in] (LeCun et al. 1998, appendix A); biases 0."""

    def draw(weight: Tensor) -> None:
        bound = gain / weight[0].numel()
        nn.init.uniform_(weight, -bound, bound)

    _initialise(model, draw)


def _initialise(model: nn.Module, draw: Callable[[Tensor], object]) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | Convolution):
            draw(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
