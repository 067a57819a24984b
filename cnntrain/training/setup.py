"""Steps 1 and 2: the data, and a network ready to learn from them. Here the configuration is resolved."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from cnntrain.config.schema import Config
from cnntrain.data.places import resolve_data_root
from cnntrain.data.prepare import prepare_data
from cnntrain.data.reporter import Reporter
from cnntrain.data.splits import Splits
from cnntrain.data.storage import describe_size, free_memory
from cnntrain.errors import ConfigError
from cnntrain.models import count_parameters
from cnntrain.models.general import BatchNorm, Dropout
from cnntrain.models.pretrained import Weights
from cnntrain.models.stages import frozen_stages, learning_rate_factors, stage_of_parameters, stages
from cnntrain.runs.artifacts.checking import loading
from cnntrain.runtime.compiling import compiled
from cnntrain.runtime.device import (
    MEMORY_FORMAT,
    choose_fast_arithmetic,
    device_name,
    laid_out,
    resolve_precision,
    use_threads,
)
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.training.dropout import Rows
from cnntrain.training.early_stopping import MetricWatch
from cnntrain.training.exchange import Forward
from cnntrain.training.freezing import Freezing
from cnntrain.training.loop import begin_epoch
from cnntrain.training.memory import estimated_memory, fit_micro_batch
from cnntrain.training.optimizers import build_optimizer
from cnntrain.training.schedules import build_scheduler
from cnntrain.training.settings import Settings
from cnntrain.training.spreading import build_exchange, spread
from cnntrain.training.start import build_network, initial_weights
from cnntrain.training.state import TrainingState


class SetUp(NamedTuple):
    """What steps 1 and 2 make of a configuration.

    Attributes:
        config: With everything that it left open resolved, so that it repeats the training.
        splits: The images.
        state: At its start, or where a checkpoint was saved.
        settings: The recipe, as plain values.
        weights: The file that the initial weights came from, `source` and `sha256`; None if they were random.
    """

    config: Config
    splits: Splits
    state: TrainingState
    settings: Settings
    weights: dict[str, str] | None


class Built(NamedTuple):
    """A network ready to learn, and what the user should know of its initial weights, one sentence each."""

    state: TrainingState
    settings: Settings
    notices: list[str]


def set_up(
    config: Config,
    device: torch.device,
    reporter: Reporter,
    *,
    processes: Processes = ALONE,
    saved: Mapping[str, Any] | None = None,
    origin: str = "",
) -> SetUp:
    """Steps 1 and 2 of the textbook: data preparation and model initialisation.

    Args:
        config: What to do.
        device: Where.
        reporter: Told what is done.
        processes: That train together.
        saved: The content of a training checkpoint to go on from; its weights need no others to start from.
        origin: What that checkpoint is called.

    Raises:
        CnntrainError: The configuration, the data, the weights or the device does not allow it.
    """
    use_threads(config.run.threads or (1 if config.recipe.shards and device.type == "cpu" else None))
    processes.use(device)
    config, weights = (config, None) if saved else initial_weights(config)
    # 1 data preparation: three sets that share no image, for what was seen in training proves nothing.
    reporter.step(1, "data preparation", config.data.source)
    data_root = resolve_data_root(config.data.source, config.run.data_root)
    splits = prepare_data(config.data, data_root=data_root, device=device, reporter=reporter, processes=processes)
    reporter.say(*_about_data(splits))

    # 2 initialisation: weights must differ, or all units would learn the same; a seed makes them repeatable.
    state, settings, notices = build_training(config, splits, device, weights, processes=processes)
    if saved:
        with loading(origin):
            state.load_state_dict(saved)
    source = origin if saved else weights.source if weights else ""
    reporter.step(2, "model initialisation", _about_network(config, state.network, source))
    chosen = " (auto)" if config.recipe.precision == "auto" else ""
    several = f"{processes.count} processes: " if processes.count > 1 else ""
    computing = f"{device_name(device)}, {settings.precision}{chosen}, {MEMORY_FORMAT}"
    reporter.say(f"     {several}{computing}, seed {config.run.seed}")
    if config.recipe.micro_batch == "auto":
        settings = fit_micro_batch(
            state, splits, settings, lambda: build_training(config.without_shards(), splits, device, weights)[:2]
        )
        reporter.say(f"     micro-batches of {settings.eval_batch_size} images (auto)")
    reporter.say(*_about_memory(state, splits, settings))
    reporter.say(*(f"     note: {notice}" for notice in notices if not saved))
    if weights:
        reporter.say(_about_preprocessing(splits))
    resolved = config.pinned(
        precision=settings.precision,
        micro_batch=settings.micro_batch,
        weights=weights.source if weights else config.model.weights,
        data=splits.preprocessing.sizes(),
        device=str(device) if processes.count == 1 else device.type,
        data_root=data_root,
        threads=torch.get_num_threads(),
    )
    origin_of_weights = {"source": weights.source, "sha256": weights.sha256} if weights else None
    return SetUp(resolved, splits, state, settings, saved["weights"] if saved else origin_of_weights)


def build_training(
    config: Config,
    splits: Splits,
    device: torch.device,
    weights: Weights | None = None,
    *,
    processes: Processes = ALONE,
) -> Built:
    """Step 2 alone: the network with its initial weights, and what will change them.

    Args:
        config: The whole configuration.
        splits: What to train on.
        device: Where.
        weights: Trained ones to start from.
        processes: That train together.

    Raises:
        CheckpointError: The trained weights are those of another network.
        ConfigError: The configuration does not fit the images.
        DeviceError: The device cannot compute in the precision asked for.
    """
    recipe, preprocessing = config.recipe, splits.preprocessing
    precision = resolve_precision(recipe.precision, device)
    choose_fast_arithmetic(device)
    network, notices = build_network(config, splits, weights)
    if recipe.progressive_resizing:
        recipe.progressive_resizing.check(network, preprocessing.channels, recipe.epochs, preprocessing.image_size)
    network = laid_out(network.to(device))
    rows = spread(network, recipe, processes)
    freezing = _freezing(config, network)
    _check_batch_norm(config, network, freezing)
    if not len(splits.val):
        notices = [*notices, recipe.without_validation()]
    task = SingleLabel(splits.class_names, recipe.loss)
    settings = Settings(
        task=task,
        criterion=task.criterion(splits.train.targets if recipe.balance == "weights" else None).to(device),
        pipeline=preprocessing.augmentation(config.data.augment, splits.num_classes),
        freezing=freezing,
        device=device,
        precision=precision,
        num_images=len(splits.train),
        batch_size=recipe.batch_size,
        micro_batch=recipe.micro_batch if isinstance(recipe.micro_batch, int) else None,
        epochs=recipe.epochs,
        seed=config.run.seed,
        balanced=recipe.balance == "sampler",
        resizing=recipe.progressive_resizing,
        image_size=preprocessing.image_size,
        has_dropout=any(isinstance(module, Dropout) for module in network.modules()),
        clip_grad_norm=recipe.clip_grad_norm,
        on_nonfinite=recipe.on_nonfinite,
        log_every_steps=config.run.log_every_steps,
        shards=recipe.shards,
        processes=processes,
    )
    return Built(_build_state(config, network, settings, rows, watches=bool(len(splits.val))), settings, notices)


def _build_state(config: Config, network: nn.Module, settings: Settings, rows: Rows, *, watches: bool) -> TrainingState:
    """The state at its start; where nothing is validated, no metric is watched."""
    recipe, device = config.recipe, settings.device
    factors = learning_rate_factors(network, backbone=recipe.backbone_lr_factor, layer_decay=recipe.layer_decay)
    stages_differ = bool(settings.freezing.stages) or set(factors.values()) != {1.0}
    stage_of = stage_of_parameters(network) if stages_differ else None
    optimizer = build_optimizer(recipe.optimizer, network, stage_of, factors)
    num_steps, headline = settings.steps_per_epoch, settings.task.headline
    stopping = recipe.early_stopping.build() if recipe.early_stopping and watches else MetricWatch(headline)

    def make_forward(wrapped: nn.Module) -> Forward:
        return compiled(wrapped, device, accumulates=recipe.micro_batch is not None) if config.run.compile else wrapped

    forward, exchange = build_exchange(
        network,
        settings,
        make_forward,
        rows,
        is_static=not (config.run.compile or recipe.unfreeze or recipe.micro_batch),
        is_compressed=recipe.compress_gradients,
    )
    return TrainingState(
        network=network,
        forward=forward,
        exchange=exchange,
        optimizer=optimizer,
        scheduler=build_scheduler(
            recipe.schedule, optimizer, steps_per_epoch=num_steps, total_steps=recipe.epochs * num_steps
        ),
        stopping=stopping,
        scaler=torch.amp.GradScaler(device.type, enabled=settings.precision == "float16"),
        average=recipe.averaging.build(network) if recipe.averaging else None,
    )


def _freezing(config: Config, network: nn.Module) -> Freezing:
    frozen, modules, unfreeze = frozen_stages(network, config.model.freeze), stages(network), config.recipe.unfreeze
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


def _check_batch_norm(config: Config, network: nn.Module, freezing: Freezing) -> None:
    """Refuses batches of one, which batch norm could not take a mean of."""
    recipe = config.recipe
    if 1 not in (recipe.batch_size, recipe.micro_batch):
        return
    freezing.apply(recipe.epochs)
    norms = [module for module in network.modules() if isinstance(module, BatchNorm)]
    if any(module.training for module in norms):
        raise ConfigError(
            f"{config.model.name} has batch norm, which needs at least 2 images at once to take a mean of (got 1)",
            key="recipe.batch_size" if recipe.batch_size == 1 else "recipe.micro_batch",
        )


def _about_data(splits: Splits) -> Iterator[str]:
    """How many images of which shape there are, and what the user should know about them."""
    preprocessing = splits.preprocessing
    stored, size = preprocessing.stored_size, preprocessing.image_size
    cropped = f", cropped to {size}" if stored != size else ""
    yield (
        f"     {len(splits.train):,} train, {len(splits.val):,} val, {len(splits.test):,} test images of "
        f"{stored}x{stored}x{preprocessing.channels}{cropped}, {splits.num_classes} classes"
    )
    yield f"     images are {splits.where_held}"
    for notice in splits.notices:
        yield f"     note: {notice}"


def _about_network(config: Config, network: nn.Module, source: str) -> str:
    """Its name, its size, and the file that its weights are from, if there is one."""
    start = f"from {source}" if source else f"random weights, init: {config.model.init}"
    return f"{config.model.name}, {count_parameters(network):,} parameters, {start}"


def _about_memory(state: TrainingState, splits: Splits, settings: Settings) -> Iterator[str]:
    """How much memory training will take, and what to do where there is less."""
    begin_epoch(state.network, settings, settings.epochs)  # when most of it is trained
    at_once = -(-min(settings.eval_batch_size, len(splits.train)) // settings.processes.count)
    needed = estimated_memory(state, settings, splits.preprocessing.inputs, at_once)
    free = free_memory(settings.device)
    yield f"     training takes about {describe_size(needed)} of memory"
    if needed > free:
        yield f"     note: {describe_size(free)} are free; recipe.micro_batch takes less for the same batches"


def _about_preprocessing(splits: Splits) -> str:
    """How images reach a network that has seen others before."""
    mean, std = (
        ", ".join(f"{value:.3g}" for value in values)
        for values in (splits.preprocessing.mean, splits.preprocessing.std)
    )
    return f"     images of {splits.preprocessing.image_size} px, mean ({mean}), std ({std})"
