"""Where a data set is held while it is used: the device's memory, the host's, a file, or nowhere."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from cnntrain.data import cache
from cnntrain.data.sharing import PRIVATE, Memory
from cnntrain.data.sources.image_folder import IMAGE_FOLDER
from cnntrain.errors import ConfigError, DataError
from cnntrain.runtime.machine import available_memory


@dataclass(frozen=True)
class Storage:
    """How images are held; what comes out of them is the same.

    Attributes:
        kind: `device`, `memory` (of the host), `cache` (decoded, in a file that is mapped into memory) or `stream`
            (decoded anew each time).
        device: That trains.
        memory: Into which the host's images are put.
    """

    kind: str
    device: torch.device
    memory: Memory = PRIVATE

    @property
    def home(self) -> torch.device:
        """The device whose memory holds images, where memory does."""
        return self.device if self.kind == "device" else torch.device("cpu")

    @property
    def maps_cache(self) -> bool:
        """Whether images are left in the cache's file: for good, or as the host need not have room for all at once."""
        return self.kind == "cache" or self.home.type != "cpu"

    @property
    def is_at_hand(self) -> bool:
        """Whether memory holds the images, so that reading them once more costs little."""
        return self.kind in ("device", "memory")

    def describe(self, num_bytes: int) -> str:
        """For people."""
        size = describe_size(num_bytes)
        match self.kind:
            case "stream":
                return f"decoded anew in every epoch ({size} if they were held)"
            case "cache":
                return f"mapped from the cache on disk, {size}"
            case _:
                return f"held in {'GPU memory' if self.home.type == 'cuda' else 'memory'}, {size}"


def choose_storage(
    wanted: str,
    num_bytes: int,
    device: torch.device,
    *,
    from_files: bool,
    is_cached: Callable[[], bool] = lambda: False,
) -> Storage:
    """What `data.storage` means for a data set of this size on this machine.

    Args:
        wanted: `auto`, or one of the kinds.
        num_bytes: Of all its images, fitted.
        device: That trains.
        from_files: Whether it comes as image files, which alone can be cached or streamed.
        is_cached: Asked only where it matters: whether an earlier start has cached it.

    Raises:
        ConfigError: This data set cannot be held as asked for.
        DataError: It does not fit.
    """
    if not from_files and wanted in ("cache", "stream"):
        raise ConfigError(
            f"{wanted} is for {IMAGE_FOLDER.name}; other data sets come as one array (allowed: auto, device, memory)",
            key="data.storage",
        )
    if wanted != "auto":
        return Storage("memory" if wanted == "device" and device.type == "cpu" else wanted, device)
    if device.type != "cpu" and num_bytes <= 0.5 * free_memory(device):
        return Storage("device", device)
    if num_bytes <= 0.5 * available_memory():
        return Storage("memory", device)
    if not from_files:
        raise DataError(
            f"the images need {describe_size(num_bytes)} of memory and this machine has "
            f"{describe_size(available_memory())}; lower data.stored_size or data.image_size"
        )
    # What would take more than a quarter of the free disk is decoded each time; the user may say otherwise.
    has_room = is_cached() or num_bytes <= 0.25 * cache.free_space()
    return Storage("cache" if has_room else "stream", device)


def describe_size(num_bytes: float) -> str:
    """Bytes for people: 1536 -> `1.5 KiB`."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    while num_bytes >= 1024 and len(units) > 1:
        num_bytes /= 1024
        units.pop(0)
    return f"{num_bytes:.0f} {units[0]}" if num_bytes >= 100 else f"{num_bytes:.3g} {units[0]}"


def free_memory(device: torch.device) -> float:
    """Bytes that this process may still fill on a device; of the host, all that it may fill."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory()
