"""What becomes of a network that is trained on parts of a batch: on several processes, or in shards."""

from collections.abc import Callable

from torch import nn

from cnntrain.errors import ConfigError
from cnntrain.runtime.processes import Processes
from cnntrain.runtime.together import Together
from cnntrain.training.batch_norm import share_batch_norm
from cnntrain.training.dropout import Rows, share_dropout
from cnntrain.training.exchange import Adding, Exchange, Forward
from cnntrain.training.overlapping import Overlapped
from cnntrain.training.recipe import Recipe
from cnntrain.training.settings import Settings
from cnntrain.training.sharding import InOrder


def spread(network: nn.Module, recipe: Recipe, processes: Processes) -> Rows:
    """Lets batch norm and dropout of a network know of the other parts of a batch; see `SharedBatchNorm`.

    Raises:
        ConfigError: The number of processes does not divide that of the shards.
    """
    rows, shards = Rows(), recipe.shards
    if shards and shards % processes.count:
        raise ConfigError(
            f"{shards} shards cannot be shared by {processes.count} processes (allowed: 1 or a number that divides "
            f"{shards})",
            key="recipe.shards",
        )
    if processes.count > 1 or shards:
        synchronised = recipe.sync_batch_norm is not False and not shards
        share_batch_norm(network, processes if synchronised else None)
    if processes.count > 1 and not shards:
        share_dropout(network, rows)
    return rows


def build_exchange(
    network: nn.Module,
    settings: Settings,
    make_forward: Callable[[nn.Module], Forward],
    rows: Rows,
    *,
    is_static: bool,
    is_compressed: bool,
) -> tuple[Forward, Exchange]:
    """What is called in training, and what makes its gradients those of the whole batch; see `Overlapped`."""
    processes = settings.processes
    if settings.shards:
        return make_forward(network), InOrder(network, processes, settings.shards, has_dropout=settings.has_dropout)
    if isinstance(processes, Together):
        together = Overlapped(network, processes, make_forward, rows, is_static=is_static, is_compressed=is_compressed)
        return together.forward, together
    return make_forward(network), Adding()
