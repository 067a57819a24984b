"""Everything that changes while a network is trained, in one place."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.config import schema
from cnntrain.data import Splits
from cnntrain.data.batches import steps_per_epoch
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models import count_parameters
from cnntrain.models.pretrained import Weights
from cnntrain.models.stages import frozen_stages, learning_rate_factors, stage_of_parameters, stages
from cnntrain.recipe.averaging import WeightAverage
from cnntrain.recipe.early_stopping import EarlyStopping
from cnntrain.recipe.freezing import Freezing
from cnntrain.recipe.optimizers import build_optimizer, check_state
from cnntrain.recipe.resizing import check_sizes
from cnntrain.recipe.schedules import Scheduler, build_scheduler
from cnntrain.recipe.unvalidated import without_validation
from cnntrain.runtime.compiling import compiled
from cnntrain.runtime.device import choose_fast_arithmetic, resolve_precision
from cnntrain.runtime.seeds import torch_seeded
from cnntrain.start import build_network
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.tasks.task import Criterion, Task


@dataclass
class Learner:
    """A network in training.

    Attributes:
        model: The network, on its device.
        forward: The same network as it is called in training, compiled if that was asked for.
        task: What its outputs mean.
        criterion: The loss it is trained with.
        stopping: Judges each epoch's validation.
        freezing: Which part of it stays as it is, by epoch.
        average: The average of its weights, if one is kept.
        scaler: Scales the loss where gradients are float16; elsewhere it does nothing.
        precision: `float32`, `bfloat16` or `float16`.
        seed: Of dropout, together with the step.
        has_dropout: Whether the network draws random numbers in training.
        micro_batch: Images per backward pass; None takes the whole batch.
        on_nonfinite: What is done about a loss or gradient that is not finite: `stop`, `skip` or `rollback`.
        weights: Where the initial weights came from, for results.json: `source` and `sha256`; None if random.
        notices: What the user should know about the initial weights, one sentence each.
        step: Updates so far.
        last_learning_rate: Of the last update, the head's where stages differ.
        scaler_skips: Updates that the scaler left out, as it does now and then in float16.
    """

    model: nn.Module
    forward: Callable[[Tensor], Any]
    task: Task[Any]
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler
    stopping: EarlyStopping
    freezing: Freezing
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: str
    seed: int = 0
    has_dropout: bool = False
    micro_batch: int | None = None
    clip_grad_norm: float | None = None
    on_nonfinite: str = "stop"
    weights: dict[str, str] | None = None
    notices: tuple[str, ...] = ()
    step: int = 0
    last_learning_rate: float = 0.0
    scaler_skips: int = 0

    def __post_init__(self) -> None:
        self._scale = self.scaler.get_scale()

    @property
    def kept(self) -> nn.Module:
        """What is validated, tested and kept: the averaged network where there is one."""
        return self.average.model if self.average else self.model

    def begin_epoch(self, epoch: int) -> None:
        """Training mode, save for what is frozen in this epoch (from 1)."""
        self.model.train()
        self.freezing.apply(epoch)

    def describe_freezing(self, epoch: int) -> str:
        """What is frozen in the first epoch, and what is trained too from a later one; nothing if nothing changes."""
        frozen = self.freezing.frozen(epoch)
        if epoch == 1 and frozen:
            trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
            return (
                f"{trained:,} of {count_parameters(self.model):,} parameters are trained; frozen: {', '.join(frozen)}"
            )
        thawed = [name for name in self.freezing.frozen(epoch - 1) if name not in frozen] if epoch > 1 else []
        return f"from epoch {epoch} trained too: {', '.join(thawed)}" if thawed else ""

    def seeded_dropout(self) -> AbstractContextManager[None]:
        """While a step is computed: dropout draws by seed and step, whatever was drawn before."""
        if not self.has_dropout:
            return nullcontext()
        return torch_seeded("dropout", self.seed, self.step, device=self.device)

    def reason_to_stop(self, epochs: int) -> str:
        """In words, when training is over."""
        return self.stopping.reason if self.stopping.gives_up else f"the last epoch, {epochs}, is done"

    @property
    def learning_rate(self) -> float:
        """Of the next update, the head's where stages differ."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def update(self, loss_sum: Tensor) -> bool:
        """Step 6: moves the weights along their gradients, then the learning rate and the average.

        Nothing is moved where the loss or a gradient is infinite or not a number, and False is returned. On a GPU that
        costs the host a wait, so with `on_nonfinite: stop` it is left to who reads the loss. Under float16 the scaler
        looks after the gradients.
        """
        watches = self.on_nonfinite != "stop" or self.device.type == "cpu"
        if watches or self.clip_grad_norm:
            norm = self._gradient_norm()
            watched = loss_sum if self.scaler.is_enabled() else loss_sum + norm
            if watches and not math.isfinite(float(watched)):
                self.scaler.update()
                return False
        self.scaler.step(self.optimizer)
        self.scaler.update()
        scale, self._scale = self._scale, self.scaler.get_scale()
        self.scaler_skips += self._scale < scale
        self.advance()
        if self.average:
            self.average.update(self.model, self.step)
        return True

    def _gradient_norm(self) -> Tensor:
        """A scalar that is finite where all gradients are; they are clipped, if that was asked for."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not self.clip_grad_norm:
            return torch.stack(torch._foreach_norm(gradients)).sum()  # half the time of the Euclidean norm of all
        norm = nn.utils.get_total_norm(gradients)
        nn.utils.clip_grads_with_norm_(parameters, self.clip_grad_norm, norm)
        return norm

    def buffers_to_restore(self) -> list[Tensor]:
        """Copies of batch norm's running values, where a step may have to be left out."""
        return [buffer.clone() for buffer in self.model.buffers()] if self.on_nonfinite == "skip" else []

    def advance(self) -> None:
        """On to the next step; without `update`, this one is left out."""
        self.last_learning_rate = self.learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which training can go on."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "kept": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "optimizer_name": type(self.optimizer).__name__,
            "scheduler": self.scheduler.state_dict(),
            "stopping": self.stopping.state_dict(),
            "scaler": self.scaler.state_dict(),
            "scaler_skips": self.scaler_skips,
            "last_learning_rate": self.last_learning_rate,
            "weights": self.weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken; what the configuration has changed since stays as it says now.

        Raises:
            CheckpointError: The network is another one.
            ValueError: The optimizer's state is that of another network, or not finite.
        """
        self.optimizer.zero_grad(set_to_none=True)  # of a step that was not taken
        self.step = state["step"]
        try:
            self.model.load_state_dict(state["model"])
            if self.average:
                self.average.model.load_state_dict(state["kept"])
        except RuntimeError as error:
            raise CheckpointError("the checkpoint is of another network than the configuration's") from error
        saved, own = state["optimizer"], self.optimizer.state_dict()
        same_groups = [len(group["params"]) for group in saved["param_groups"]] == [
            len(group["params"]) for group in own["param_groups"]
        ]
        if state["optimizer_name"] == type(self.optimizer).__name__ and same_groups:
            check_state(self.optimizer, saved["state"])
            self.optimizer.load_state_dict({"state": saved["state"], "param_groups": own["param_groups"]})
        else:
            self.optimizer.state.clear()
        self.scheduler.load_state_dict(state["scheduler"])
        self.stopping.load_state_dict(state["stopping"])
        if self.scaler.is_enabled() and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
            self._scale = self.scaler.get_scale()
        self.scaler_skips, self.last_learning_rate = state["scaler_skips"], state["last_learning_rate"]
        self.weights = state["weights"]

    def go_to(self, step: int) -> None:
        """Goes on at another step, where epochs have another number of steps than before."""
        self.step = step
        self.scheduler.go_to(step)


def build_learner(
    config: schema.Config, splits: Splits, device: torch.device, weights: Weights | None = None
) -> Learner:
    """Step 2: the network with its initial weights, and what will change them.

    Args:
        config: The whole configuration.
        splits: What to train on.
        device: Where.
        weights: Trained ones to start from.

    Raises:
        CheckpointError: The trained weights are those of another network.
        ConfigError: The configuration does not fit the images.
        DeviceError: The device cannot compute in the precision asked for.
    """
    recipe = config.recipe
    precision = resolve_precision(recipe.precision, device)
    choose_fast_arithmetic(device)
    model, notices = build_network(config, splits, weights)
    check_sizes(recipe, model, splits.preprocessing.channels, splits.preprocessing.image_size)
    model = model.to(device).to(memory_format=torch.channels_last)
    freezing = _freezing(config, model)
    _check_batch_norm(config, model, freezing)
    if not len(splits.val):
        notices += without_validation(recipe)
    watch = recipe.early_stopping if len(splits.val) else None
    task = SingleLabel(splits.class_names, recipe.loss)
    criterion = task.criterion(splits.train.targets if recipe.balance == "weights" else None).to(device)
    factors = learning_rate_factors(model, backbone=recipe.backbone_lr_factor, layer_decay=recipe.layer_decay)
    stages_differ = bool(freezing.stages) or set(factors.values()) != {1.0}
    optimizer = build_optimizer(recipe.optimizer, model, stage_of_parameters(model) if stages_differ else None, factors)
    num_steps = steps_per_epoch(len(splits.train), recipe.batch_size)
    scheduler = build_scheduler(
        recipe.schedule, optimizer, steps_per_epoch=num_steps, total_steps=recipe.epochs * num_steps
    )
    return Learner(
        model=model,
        forward=compiled(model, device, accumulates=recipe.micro_batch is not None) if config.run.compile else model,
        task=task,
        criterion=criterion,
        optimizer=optimizer,
        scheduler=scheduler,
        stopping=EarlyStopping(**watch.model_dump()) if watch else EarlyStopping(),
        freezing=freezing,
        average=WeightAverage(model, recipe.averaging.decay) if recipe.averaging else None,
        scaler=torch.amp.GradScaler(device.type, enabled=precision == "float16"),
        device=device,
        precision=precision,
        seed=config.run.seed,
        has_dropout=any(isinstance(module, nn.Dropout | nn.Dropout2d) for module in model.modules()),
        weights={"source": weights.source, "sha256": weights.sha256} if weights else None,
        notices=tuple(notices),
        micro_batch=recipe.micro_batch if isinstance(recipe.micro_batch, int) else None,
        clip_grad_norm=recipe.clip_grad_norm,
        on_nonfinite=recipe.on_nonfinite,
    )


def _freezing(config: schema.Config, model: nn.Module) -> Freezing:
    frozen, modules, unfreeze = frozen_stages(model, config.model.freeze), stages(model), config.recipe.unfreeze
    if unfreeze and not frozen:
        raise ConfigError("there is nothing to unfreeze: model.freeze is null", key="recipe.unfreeze")
    if unfreeze and unfreeze.epoch > config.recipe.epochs:
        raise ConfigError(
            f"must be at most recipe.epochs {config.recipe.epochs}, or nothing is ever unfrozen (got {unfreeze.epoch})",
            key="recipe.unfreeze.epoch",
        )
    return Freezing(
        {name: modules[name] for name in frozen},
        unfreeze_epoch=unfreeze.epoch if unfreeze else None,
        every_epochs=unfreeze.every_epochs if unfreeze else 1,
    )


def _check_batch_norm(config: schema.Config, model: nn.Module, freezing: Freezing) -> None:
    recipe = config.recipe
    if 1 not in (recipe.batch_size, recipe.micro_batch):
        return
    freezing.apply(recipe.epochs)
    if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.training for module in model.modules()):
        raise ConfigError(
            f"{config.model.name} has batch norm, which needs at least 2 images at once to take a mean of (got 1)",
            key="recipe.batch_size" if recipe.batch_size == 1 else "recipe.micro_batch",
        )
