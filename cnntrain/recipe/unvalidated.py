"""What a recipe can and cannot do where nothing is validated (`data.val_fraction: 0`)."""

from cnntrain.config import schema
from cnntrain.errors import ConfigError


def without_validation(recipe: schema.Recipe) -> list[str]:
    """What the user should know where nothing is validated.

    Raises:
        ConfigError: The recipe cannot do without.
    """
    if isinstance(recipe.schedule, schema.ReduceOnPlateau):
        raise ConfigError(
            "reduce_on_plateau watches validation, and there are no validation images (data.val_fraction: 0); "
            "take another schedule, such as one_cycle, or a data.val_fraction above 0",
            key="recipe.schedule",
        )
    if recipe.temperature_scaling:
        raise ConfigError(
            "a temperature is fitted on validation, and there are no validation images (data.val_fraction: 0); "
            "set it to false, or take a data.val_fraction above 0",
            key="recipe.temperature_scaling",
        )
    stopping = "recipe.early_stopping is off, and " if recipe.early_stopping else ""
    return [f"there are no validation images: {stopping}the weights of the last epoch are kept"]
