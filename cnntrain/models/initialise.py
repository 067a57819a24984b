"""Initial weights."""

from torch import nn


def kaiming_normal(model: nn.Module) -> None:
    """Convolutions drawn with variance 2 / fan_out, norms the identity.

    He et al.: "Delving deep into rectifiers", arXiv:1502.01852, equation 14. Linear layers keep PyTorch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
