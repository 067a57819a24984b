"""The stages of a network, from the input to the head: what is frozen, slowed down and shown together.

Every architecture lists them in `stages`: for each name the modules that belong to it. The last is always `head`, the
layers that tell the classes apart; the others together are the backbone.
"""

from collections.abc import Mapping
from typing import cast

from torch import nn

from cnntrain.errors import ConfigError


def stages(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The modules of each stage, in order."""
    listed = cast(Mapping[str, tuple[str, ...]], model.stages)
    known = dict(model.named_modules())  # an auxiliary classifier that is switched off is not among them
    return {stage: [known[name] for name in names if name in known] for stage, names in listed.items()}


def frozen_stages(model: nn.Module, freeze: str | None) -> list[str]:
    """The stages that stay as they are.

    Args:
        model: A network.
        freeze: `backbone`, or the last stage to freeze, or None.

    Raises:
        ConfigError: There is no such stage.
    """
    *backbone, head = stages(model)
    if freeze is None:
        return []
    if not backbone:
        raise ConfigError("this network has a single stage, so there is nothing to freeze", key="model.freeze")
    if freeze in ("backbone", backbone[-1]) and not any(
        True for part in stages(model)[head] for _ in part.parameters()
    ):
        raise ConfigError(
            f"nothing would be left to train: the head of this network has no parameters (got {freeze!r}, allowed: "
            f"{', '.join(backbone[:-1])})",
            key="model.freeze",
        )
    if freeze == "backbone":
        return backbone
    if freeze not in backbone:
        raise ConfigError(
            f"there is no stage {freeze!r} to freeze (allowed: backbone, {', '.join(backbone)})", key="model.freeze"
        )
    return backbone[: backbone.index(freeze) + 1]


def stage_of_parameters(model: nn.Module) -> dict[str, str]:
    """The stage to which each parameter belongs, by names."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: stage
        for stage, modules in stages(model).items()
        for module in modules
        for parameter in module.parameters()
    }


def learning_rate_factors(model: nn.Module, *, backbone: float, layer_decay: float) -> dict[str, float]:
    """By what the learning rate of each stage is multiplied.

    Args:
        model: A network.
        backbone: Factor of all stages but the head.
        layer_decay: Factor for each step from the head towards the input.
    """
    from_head = enumerate(reversed(stages(model)))
    return {stage: layer_decay**steps * (backbone if steps else 1.0) for steps, stage in from_head}
