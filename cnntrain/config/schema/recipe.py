"""The `recipe` section: how the network is trained."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, Strict, model_validator

from cnntrain.config.section import Betas, Fraction, ProperFraction, Section
from cnntrain.config.shorthand import Shorthand
from cnntrain.tasks.losses import CrossEntropy, Loss
from cnntrain.tasks.watched import Watched


class Sgd(Section):
    """Stochastic gradient descent with momentum; weight decay is added to the gradient."""

    name: Literal["sgd"] = "sgd"
    lr: PositiveFloat = 0.05
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: NonNegativeFloat = 5e-4
    decay_norms_and_biases: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: true needs a momentum above 0")
        return self


class Adam(Section):
    """Adam (Kingma and Ba 2014); weight decay is added to the gradient."""

    name: Literal["adam"] = "adam"
    lr: PositiveFloat = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    decay_norms_and_biases: bool = True


class Adamw(Section):
    """AdamW (Loshchilov and Hutter 2017): weight decay apart from the gradient."""

    name: Literal["adamw"] = "adamw"
    lr: PositiveFloat = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.01
    decay_norms_and_biases: bool = True


Optimizer = Annotated[Sgd | Adam | Adamw, Field(discriminator="name"), Shorthand(default="sgd")]


class Warmup(Section):
    """What every schedule has: a linear rise from near zero to the optimizer's rate."""

    name: str
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="of all steps")


class Constant(Warmup):
    """The optimizer's rate throughout."""

    name: Literal["constant"] = "constant"


class StepDecay(Warmup):
    """Multiply the rate by `factor` every `every_epochs`."""

    name: Literal["step"] = "step"
    every_epochs: PositiveInt = 10
    factor: ProperFraction = 0.1


class MultiStep(Warmup):
    """Multiply the rate by `factor` at each of `milestones`."""

    name: Literal["multi_step"] = "multi_step"
    milestones: Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)] = Field(description="epochs")
    factor: ProperFraction = 0.1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise (got {list(self.milestones)})")
        return self


class Cosine(Warmup):
    """Half a cosine from the rate down to `final_fraction` of it (Loshchilov and Hutter 2016)."""

    name: Literal["cosine"] = "cosine"
    final_fraction: Fraction = 0.0


class OneCycle(Warmup):
    """Linear up to the rate, then linear (or half a cosine) down to zero (Smith 2018)."""

    name: Literal["one_cycle"] = "one_cycle"
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = Field(0.2, description="of all steps")
    shape: Literal["linear", "cosine"] = "linear"


class ReduceOnPlateau(Warmup):
    """Multiply the rate by `factor` when the validation metric has not improved for `patience` epochs."""

    name: Literal["reduce_on_plateau"] = "reduce_on_plateau"
    metric: Watched = "loss"
    patience: PositiveInt = 5
    factor: ProperFraction = 0.1
    min_delta: NonNegativeFloat = 0.0


Schedule = Annotated[
    Constant | StepDecay | MultiStep | Cosine | OneCycle | ReduceOnPlateau,
    Field(discriminator="name"),
    Shorthand(default="one_cycle"),
]


class Ema(Section):
    """Exponential moving average of the weights; the average is what is validated, tested and kept."""

    name: Literal["ema"] = "ema"
    decay: ProperFraction = 0.999


class EarlyStopping(Section):
    """Stop when the validation metric has not improved by `min_delta` for `patience` epochs."""

    metric: Watched = "accuracy"
    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0


class Unfreezing(Section):
    """Train the frozen stages after all, one by one, the last one first."""

    epoch: Annotated[int, Field(ge=2)] = Field(2, description="the first epoch that trains one more stage")
    every_epochs: PositiveInt = Field(1, description="after how many epochs the next one follows")


class ProgressiveResizing(Section):
    """Smaller images first: the network learns most of what it needs from them, in less time.

    They grow in steps of an eighth of their full size. The network must take images of any size (a global pooling).
    """

    initial_size: PositiveInt = Field(description="side of the training images in the first epoch, px")
    until: ProperFraction = Field(0.7, description="share of the epochs by which images have their full size")


def _check_micro_batch(value: object) -> object:
    if value != "auto" and not (type(value) is int and value > 0):
        raise ValueError(f"must be a whole number above 0, or auto (got {value!r})")
    return value


# Checked beforehand: pydantic's own message would speak of both kinds.
MicroBatch = Annotated[PositiveInt | Literal["auto"], BeforeValidator(_check_micro_batch)]


class Recipe(Section):
    """How the network is trained."""

    epochs: PositiveInt = 20
    batch_size: PositiveInt = 128
    micro_batch: MicroBatch | None = Field(
        None,
        description="images per backward pass; gradients add up to the whole batch (gradient accumulation); auto: on a "
        "GPU as many as fit into its memory",
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

    @property
    def images_at_once(self) -> int:
        """How many images the network takes in one pass."""
        return self.micro_batch if isinstance(self.micro_batch, int) else self.batch_size
