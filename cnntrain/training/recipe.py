"""The `recipe` section: how the network is trained."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from cnntrain.config.section import Section
from cnntrain.config.shorthand import Shorthand
from cnntrain.errors import ConfigError
from cnntrain.tasks.losses import CrossEntropy, Loss
from cnntrain.training.averaging import Ema
from cnntrain.training.early_stopping import EarlyStopping
from cnntrain.training.freezing import Unfreezing
from cnntrain.training.optimizers import Optimizer, Sgd
from cnntrain.training.resizing import ProgressiveResizing
from cnntrain.training.schedules import OneCycle, Schedule


def _check_micro_batch(value: object) -> object:
    if value != "auto" and not (type(value) is int and value > 0):
        raise ValueError(f"must be a whole number above 0, or auto (got {value!r})")
    return value


def _check_switch(value: object) -> object:
    if value != "auto" and type(value) is not bool:
        raise ValueError(f"must be auto, true or false (got {value!r})")
    return value


# Checked beforehand: pydantic's own message would speak of both kinds.
MicroBatch = Annotated[PositiveInt | Literal["auto"], BeforeValidator(_check_micro_batch)]
Switch = Annotated[Literal["auto"] | bool, BeforeValidator(_check_switch)]


class Recipe(Section):
    """How the network is trained."""

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 128
    micro_batch: MicroBatch | None = Field(
        None,
        description="images per backward pass, of all processes together (where there are shards: of each); gradients "
        "add up to the whole batch (gradient accumulation); auto: on a GPU as many as fit into its memory",
    )
    shards: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="cut each batch into so many parts and add up their gradients in order: the weights are the same "
        "to the last bit on any number of processes that divides it; batch norm sees each part apart",
    )
    sync_batch_norm: Switch = Field(
        "auto",
        description="on several processes: whether batch norm takes mean and variance over all of them; auto: yes, "
        "unless there are shards",
    )
    compress_gradients: bool = Field(
        False, description="on several processes: send gradients as bfloat16, half the bytes, which rounds them"
    )
    optimizer: Optimizer = Sgd()
    schedule: Schedule = OneCycle()
    loss: Loss = CrossEntropy()
    balance: Literal["none", "weights", "sampler"] = Field(
        "none", description="rare classes: weights in the loss, or drawn more often"
    )
    backbone_lr_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="by what the learning rate is multiplied everywhere but in the head"
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="by what the learning rate is multiplied for each stage further from the head"
    )
    unfreeze: Unfreezing | None = Field(None, description="train what model.freeze froze, stage by stage")
    progressive_resizing: ProgressiveResizing | None = None
    clip_grad_norm: PositiveFloat | None = None
    averaging: Annotated[Ema, Shorthand(default="ema")] | None = None
    early_stopping: EarlyStopping | None = None
    checkpoint_every_steps: PositiveInt | None = Field(
        None, description="saves a training checkpoint so often, besides the one after each epoch"
    )
    checkpoint_every_minutes: PositiveFloat | None = Field(10.0, description="the same, by time")
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        "stop",
        description="when loss or gradients are infinite or not a number: stop; leave the step out; or go back to the "
        "last end of an epoch or multiple of checkpoint_every_steps, halve the learning rate and go on without that "
        "step",
    )
    temperature_scaling: bool = Field(
        False, description="save a temperature, fitted on validation, with the network, so that it is as sure as right"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="arithmetic of training (float32 multiplies in TF32 on a GPU); evaluation is always float32"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.shards and self.shards > self.batch_size:
            raise ValueError(f"shards must be at most batch_size, {self.batch_size} (got {self.shards})")
        if self.shards and self.sync_batch_norm is True:
            raise ValueError(
                "sync_batch_norm must be auto or false where there are shards: each has statistics of its own"
            )
        return self

    @property
    def images_at_once(self) -> int:
        """How many images the network takes in one pass."""
        return self.micro_batch if isinstance(self.micro_batch, int) else self.batch_size

    def without_validation(self) -> str:
        """What the user should know where nothing is validated (`data.val_fraction: 0`).

        Raises:
            ConfigError: The recipe cannot do without.
        """
        if self.schedule.plateau():
            raise ConfigError(
                f"{self.schedule.name} watches validation, and there are no validation images (data.val_fraction: 0); "
                f"take another schedule, such as one_cycle, or a data.val_fraction above 0",
                key="recipe.schedule",
            )
        if self.temperature_scaling:
            raise ConfigError(
                "a temperature is fitted on validation, and there are no validation images (data.val_fraction: 0); "
                "set it to false, or take a data.val_fraction above 0",
                key="recipe.temperature_scaling",
            )
        stopping = "recipe.early_stopping is off, and " if self.early_stopping else ""
        return f"there are no validation images: {stopping}the weights of the last epoch are kept"
