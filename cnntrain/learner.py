"""Everything that changes while a network is trained, in one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.config import schema
from cnntrain.data import Splits
from cnntrain.data.batches import steps_per_epoch
from cnntrain.errors import ConfigError
from cnntrain.models import build_model
from cnntrain.recipe.averaging import WeightAverage
from cnntrain.recipe.early_stopping import EarlyStopping
from cnntrain.recipe.losses import Criterion, balanced_weights
from cnntrain.recipe.optimizers import build_optimizer
from cnntrain.recipe.schedules import Scheduler, build_scheduler
from cnntrain.runtime.device import resolve_precision
from cnntrain.task import SingleLabel


@dataclass
class Learner:
    """A network in training.

    Attributes:
        model: The network, on its device.
        task: What its outputs mean.
        criterion: The loss it is trained with.
        stopping: Judges each epoch's validation.
        average: The average of its weights, if one is kept.
        scaler: Scales the loss where gradients are float16; elsewhere it does nothing.
        precision: `float32`, `bfloat16` or `float16`.
        micro_batch: Images per backward pass; None takes the whole batch.
        step: Updates so far.
        last_learning_rate: Of the last update.
    """

    model: nn.Module
    task: SingleLabel
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    scheduler: Scheduler
    stopping: EarlyStopping
    average: WeightAverage | None
    scaler: torch.amp.GradScaler
    device: torch.device
    precision: str
    micro_batch: int | None = None
    clip_grad_norm: float | None = None
    step: int = 0
    last_learning_rate: float = 0.0

    @property
    def kept(self) -> nn.Module:
        """What is validated, tested and kept: the averaged network where there is one."""
        return self.average.model if self.average else self.model

    def update(self) -> None:
        """Step 6: moves the weights along their gradients, then the learning rate and the average."""
        self.last_learning_rate = float(self.optimizer.param_groups[0]["lr"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        self.step += 1
        if self.average:
            self.average.update(self.model, self.step)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values from which training can go on."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "kept": self.kept.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "stopping": self.stopping.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.stopping.load_state_dict(state["stopping"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.model.load_state_dict(state["kept"])


def build_learner(config: schema.Config, splits: Splits, device: torch.device) -> Learner:
    """Step 2: the network with its initial weights, and what will change them.

    Raises:
        ConfigError: The configuration does not fit the images.
        DeviceError: The device cannot compute in the precision asked for.
    """
    recipe, fitting = config.recipe, splits.preprocessing
    precision = resolve_precision(recipe.precision, device)
    model = build_model(
        config.model,
        in_channels=fitting.channels,
        num_classes=splits.num_classes,
        image_size=fitting.image_size,
        seed=config.run.seed,
    )
    model = model.to(device).to(memory_format=torch.channels_last)
    if 1 in (recipe.batch_size, recipe.micro_batch) and any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        key = "recipe.batch_size" if recipe.batch_size == 1 else "recipe.micro_batch"
        raise ConfigError(
            f"{config.model.name} has batch norm, which needs at least 2 images at once to take a mean of (got 1)", key
        )
    weighted = recipe.balance == "weights"
    class_weights = balanced_weights(splits.train.targets, splits.num_classes).to(device) if weighted else None
    watch = recipe.early_stopping
    task = SingleLabel(splits.class_names, recipe.loss.name)
    optimizer = build_optimizer(recipe.optimizer, model)
    num_steps = steps_per_epoch(len(splits.train), recipe.batch_size)
    scheduler = build_scheduler(
        recipe.schedule, optimizer, steps_per_epoch=num_steps, total_steps=recipe.epochs * num_steps
    )
    return Learner(
        model=model,
        task=task,
        criterion=task.criterion(recipe.loss.label_smoothing, class_weights),
        optimizer=optimizer,
        scheduler=scheduler,
        stopping=EarlyStopping(**watch.model_dump()) if watch else EarlyStopping(),
        average=WeightAverage(model, recipe.averaging.decay) if recipe.averaging else None,
        scaler=torch.amp.GradScaler(device.type, enabled=precision == "float16"),
        device=device,
        precision=precision,
        micro_batch=recipe.micro_batch,
        clip_grad_norm=recipe.clip_grad_norm,
    )


def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """For each layer with parameters the Euclidean norm of its gradient, scalars on the device."""
    layers: dict[str, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            layers.setdefault(name.rpartition(".")[0], []).append(parameter.grad)
    return {layer: nn.utils.get_total_norm(gradients) for layer, gradients in layers.items()}
