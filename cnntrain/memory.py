"""Memory: how much training will need, what to lower where it is short, and how many images fit into a GPU's."""

import copy
from collections.abc import Callable

import torch

from cnntrain.config.loading import Config
from cnntrain.data import Splits
from cnntrain.data.batches import Batch, train_batches
from cnntrain.data.pipeline import build_pipeline
from cnntrain.learner import Learner
from cnntrain.records.console import Console


def estimated_memory(learner: Learner, splits: Splits, batch_size: int) -> int:
    """About how many bytes training takes, besides PyTorch itself and the images.

    Weights, gradients, the optimizer's state, averages, and what a pass keeps for its backward pass, found by a pass
    without data (PyTorch's `meta` device). In half precision activations take half.

    Args:
        learner: Stays as it is, and is in the mode in which it will train.
        splits: Say how large images are.
        batch_size: Images in a pass.
    """
    fitting = splits.preprocessing
    num_weights = sum(parameter.numel() for parameter in learner.model.parameters())
    states = {"SGD": 1, "Adam": 2, "AdamW": 2}[type(learner.optimizer).__name__]
    copies = 2 + states + (1 if learner.average else 0)  # weights, gradients
    model = copy.deepcopy(learner.model).to("meta")
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.empty(batch_size, fitting.channels, fitting.image_size, fitting.image_size, device="meta")
        outputs = model(images)  # held, so that nothing is freed and counted twice
    activations = sum(storage.nbytes() for storage in kept.values()) // (1 if learner.precision == "float32" else 2)
    del outputs
    return 4 * num_weights * copies + activations + images.nbytes


def fit_into_memory(
    learner: Learner, splits: Splits, config: Config, step: Callable[[Learner, Batch], object], console: Console
) -> None:
    """Chooses the size of micro-batches where that is left open, and says how much memory training will take."""
    learner.begin_epoch(config.recipe.epochs)  # when most of it is trained
    if config.recipe.micro_batch == "auto":
        learner.micro_batch = largest_micro_batch(learner, splits, config, step)
        console.say(f"     micro-batches of {learner.micro_batch or config.recipe.batch_size} images (auto)")
    at_once = learner.micro_batch or config.recipe.batch_size
    console.describe_memory(estimated_memory(learner, splits, min(at_once, len(splits.train))), learner.device)


def smaller_batches(config: Config) -> str:
    """What to lower when memory is short."""
    recipe, data = config.recipe, config.data
    micro = f", recipe.micro_batch {recipe.micro_batch}" if recipe.micro_batch else ""
    return (
        f"recipe.batch_size is {recipe.batch_size}{micro}, and images have {data.image_size} px: "
        f"set recipe.micro_batch to {max(1, recipe.images_at_once // 2)} (gradients add up to the whole batch), "
        f"or lower data.image_size or data.stored_size"
    )


def largest_micro_batch(
    learner: Learner, splits: Splits, config: Config, step: Callable[[Learner, Batch], object]
) -> int | None:
    """What `recipe.micro_batch: auto` means here: the whole batch (None), or the largest part of it that fits.

    Args:
        learner: Takes a step for each size that is tried, and is put back to its start.
        splits: The first batch of the first epoch is tried.
        config: Says how large it is.
        step: Trains on a batch.

    Raises:
        OutOfMemoryError: Not even two images fit.
    """
    if learner.device.type != "cuda":
        return None
    pipeline = build_pipeline(config.data.augment, splits.preprocessing, splits.num_classes)
    batch = next(train_batches(splits.train, pipeline, config.recipe.batch_size, seed=config.run.seed, epoch=1))
    start = copy.deepcopy(learner.state_dict())

    def fits(size: int) -> None:
        learner.micro_batch = size
        try:
            step(learner, batch)
        finally:
            learner.load_state_dict(start)
            learner.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()

    size = halved_until_it_fits(len(batch.targets), fits)
    return None if size == len(batch.targets) else size


def halved_until_it_fits(size: int, attempt: Callable[[int], None]) -> int:
    """The first of size, size / 2, ... down to 2 for which there is memory.

    Raises:
        OutOfMemoryError: There is none for 2 either.
    """
    while True:
        try:
            attempt(size)
        except torch.OutOfMemoryError:
            if size <= 2:
                raise
            size = -(-size // 2)
        else:
            return size
