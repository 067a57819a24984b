"""Memory: how much training will need, what to lower where it is short, and how many images fit into a GPU's."""

import copy
from collections.abc import Callable
from dataclasses import replace

import torch

from cnntrain.data.batches import Batch
from cnntrain.data.inputs import Inputs
from cnntrain.data.splits import Splits
from cnntrain.training.loop import begin_epoch, epoch_batches, train_step
from cnntrain.training.optimizers import REMEMBERED
from cnntrain.training.settings import Settings
from cnntrain.training.state import TrainingState


def estimated_memory(state: TrainingState, settings: Settings, inputs: Inputs, batch_size: int) -> int:
    """About how many bytes training takes, besides PyTorch itself and the images.

    Weights, gradients, the optimizer's state, averages, and what a pass keeps for its backward pass, found by a pass
    without data (PyTorch's `meta` device). In half precision activations take half.

    Args:
        state: Stays as it is; its network is in the mode in which it will train.
        settings: The recipe.
        inputs: What arrives at the network.
        batch_size: Images in a pass.
    """
    num_weights = sum(parameter.numel() for parameter in state.network.parameters())
    remembered = REMEMBERED[type(state.optimizer).__name__] - {"step"}
    copies = 2 + len(remembered) + (1 if state.average else 0)  # weights, gradients
    network = copy.deepcopy(state.network).to("meta")
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.empty(batch_size, *inputs.shape, dtype=inputs.dtype, device="meta")
        outputs = network(images)  # held, so that nothing is freed and counted twice
    half = 1 if settings.precision == "float32" else 2
    activations = sum(storage.nbytes() for storage in kept.values()) // half
    del outputs
    return 4 * num_weights * copies + activations + images.nbytes


def fit_micro_batch(
    state: TrainingState, splits: Splits, settings: Settings, alone: Callable[[], tuple[TrainingState, Settings]]
) -> Settings:
    """What `recipe.micro_batch: auto` means here: the whole batch, or on GPUs the largest part of it that fits.

    Args:
        state: Takes a step for each size that is tried, and is put back to its start.
        splits: The first batch of the first epoch is tried.
        settings: The recipe, in which the micro-batch is still open.
        alone: Makes the same training of one process, without shards. Several try by themselves how many images of
            their part fit: one that ran out of memory in the middle of a common step would let the others wait.

    Raises:
        OutOfMemoryError: Not even two images fit.
    """
    if settings.device.type != "cuda":
        return settings
    processes, num_images = settings.processes, settings.images_in(0)
    at_once = max(portion.size for portion in settings.portions(num_images))
    batch = next(epoch_batches(splits, replace(settings, resizing=None), epoch=1))
    own = Batch(batch.images[:at_once], batch.targets[:at_once])
    tried, how = alone() if processes.count > 1 or settings.shards else (state, settings)
    size = min(processes.gather(_largest_that_fits(tried, own, how) if at_once else num_images))
    is_whole = size >= max(processes.gather(at_once))
    return replace(settings, micro_batch=None if is_whole else size * (1 if settings.shards else processes.count))


def _largest_that_fits(state: TrainingState, batch: Batch, settings: Settings) -> int:
    begin_epoch(state.network, settings, settings.epochs)  # when most of it is trained
    start = copy.deepcopy(state.state_dict())

    def attempt(size: int) -> None:
        try:
            train_step(state, batch, replace(settings, micro_batch=size))
        finally:
            state.load_state_dict(start)
            torch.cuda.empty_cache()

    return halved_until_it_fits(len(batch.targets), attempt)


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


def smaller_batches(settings: Settings) -> str:
    """What to lower when memory is short."""
    micro = f", recipe.micro_batch {settings.micro_batch}" if settings.micro_batch else ""
    return (
        f"recipe.batch_size is {settings.batch_size}{micro}, and images have {settings.image_size} px: "
        f"set recipe.micro_batch to {max(1, settings.eval_batch_size // 2)} (gradients add up to the whole batch), "
        f"or lower data.image_size or data.stored_size"
    )
