"""Starting from trained weights: reading files of weights, and fitting them into a network.

Files come from outside, so nothing in them is executed: safetensors, or PyTorch's format with `weights_only=True`.
"""

import hashlib
import json
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from cnntrain.errors import CheckpointError, ConfigError

METADATA_KEY = "cnntrain"  # of the header in our own safetensors files
_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_AUXILIARY = ("aux1.", "aux2.")
_WRAPPERS = ("state_dict", "model", "model_state_dict", "model_state", "kept")


@dataclass(frozen=True)
class Weights:
    """Weights read from a file.

    Attributes:
        source: `torchvision`, or the absolute path of the file.
        path: The file.
        tensors: By the names of a network's state dict.
        sha256: Of the file.
        preprocessing: What is known of the images that the network was trained on: some of the keys `channels`,
            `image_size`, `stored_size`, `resize`, `mean`, `std` of the `data` section.
    """

    source: str
    path: Path
    tensors: dict[str, Tensor]
    sha256: str
    preprocessing: dict[str, Any] = field(default_factory=dict)


def read_weights(source: str, torchvision_name: str | None) -> Weights:
    """The weights that `model.weights` names.

    Args:
        source: A file, or `torchvision`.
        torchvision_name: What torchvision calls the network; None where it has none like it.

    Raises:
        ConfigError: torchvision has no weights for this network.
        CheckpointError: The file is missing, damaged or holds no weights; or it cannot be downloaded.
    """
    if source == "torchvision":
        if torchvision_name is None:
            raise ConfigError(
                "torchvision publishes no weights for this network; it does for alexnet and googlenet "
                "(variant: torchvision) and resnet18 to resnet152 (as they are without further options)",
                key="model.weights",
            )
        path = _download(torchvision_name)
    else:
        path = Path(source).expanduser().absolute()
        source = str(path)
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}; it names a checkpoint of cnntrain, a safetensors file, a state "
            f"dict (.pth), or is `torchvision`",
            key="model.weights",
        ) from error
    tensors, header = read_tensors(path)
    preprocessing = {}
    if header is not None:
        preprocessing = dict(json.loads(header)["preprocessing"])
    elif torchvision_name:
        preprocessing = _published_preprocessing(torchvision_name)
    return Weights(source, path, tensors, sha256, preprocessing)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a file by name, and the header if cnntrain wrote it.

    Wrappings that other trainers use are taken off: a dict around the state dict, `module.` before its keys.

    Raises:
        CheckpointError: The file is damaged, or holds something else than weights.
    """
    if _is_safetensors(path):
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, (file.metadata() or {}).get(METADATA_KEY)  # noqa: SIM118 (no dict)
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a checkpoint of cnntrain or another file of weights, or damaged ({error})"
            ) from error
    try:
        with path.open("rb") as opened, warnings.catch_warnings(action="ignore"):
            content = torch.load(opened, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged or foreign files torch.load raises nearly every kind of exception
        # PyTorch's own message is left out: it advises to load without protection.
        raise CheckpointError(
            f"{path}: not a checkpoint of cnntrain or another file of weights, or damaged; a whole pickled network is "
            f"not read, because that could run any code: write torch.save(model.state_dict(), ...)"
        ) from error
    header = content.get("header") if isinstance(content, dict) else None
    wrapper = next((key for key in _WRAPPERS if isinstance(content, dict) and isinstance(content.get(key), dict)), None)
    tensors = content["kept"] if header else content[wrapper] if wrapper else content
    if not isinstance(tensors, dict) or not tensors or not all(isinstance(item, Tensor) for item in tensors.values()):
        raise CheckpointError(f"{path}: holds no state dict, that is tensors by the names of a network's layers")
    return {re.sub(r"^(module\.|_orig_mod\.)+", "", name): tensor for name, tensor in tensors.items()}, header


def load_weights(model: nn.Module, weights: Weights, num_classes: int) -> list[str]:
    """Puts trained weights into a network; a head of another size stays as it is.

    Args:
        model: Changed in place.
        weights: As `read_weights` gives them.
        num_classes: Of `model`.

    Returns:
        What the user should know, one sentence each.

    Raises:
        CheckpointError: The weights are those of another network.
    """
    own, found, notices = model.state_dict(), dict(weights.tensors), []
    if not any(name.startswith(_AUXILIARY) for name in own):
        found = {name: tensor for name, tensor in found.items() if not name.startswith(_AUXILIARY)}
    elif not any(name.startswith(_AUXILIARY) for name in found):
        notices.append("the auxiliary classifiers start at random: the file has none")
        found |= {name: tensor for name, tensor in own.items() if name.startswith(_AUXILIARY)}
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):  # not in old files, and of no effect here
            found.setdefault(name, tensor)
    modules = dict(model.named_modules())
    heads = [name for name in own if name in found and _is_other_head(name, modules, own, found, num_classes)]
    for name in heads:
        if name.endswith("weight"):
            notices.append(
                f"{name.rpartition('.')[0]} starts at random: it tells {num_classes:,} classes apart, "
                f"in the file {len(found[name]):,}"
            )
        found[name] = own[name]
    faults = _mismatches(own, found)
    if faults:
        raise CheckpointError(
            f"{weights.path}: these are the weights of another network; compare model.name, variant and options, "
            f"data.channels and data.image_size\n" + "\n".join(faults)
        )
    model.load_state_dict(found)
    return notices


def _mismatches(own: dict[str, Tensor], found: dict[str, Tensor], limit: int = 5) -> list[str]:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    kinds = {
        "not in the file": [name for name in own if name not in found],
        "not in the network": [name for name in found if name not in own],
        "of another shape": shapes,
    }
    return [
        f"  {len(names)} {kind}: {', '.join(names[:limit])}{', ...' if len(names) > limit else ''}"
        for kind, names in kinds.items()
        if names
    ]


def _is_other_head(
    name: str, modules: dict[str, nn.Module], own: dict[str, Tensor], found: dict[str, Tensor], num_classes: int
) -> bool:
    here, there = own[name].shape, found[name].shape
    linear = isinstance(modules.get(name.rpartition(".")[0]), nn.Linear)
    return linear and here != there and here[0] == num_classes and here[1:] == there[1:] and len(there) > 0


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


def _published(torchvision_name: str) -> Any:
    from torchvision.models import get_model_weights  # slow to import, and needed here alone

    return get_model_weights(torchvision_name).DEFAULT


def _published_preprocessing(torchvision_name: str) -> dict[str, Any]:
    if torchvision_name == "googlenet":
        # Its weights come from another library; torchvision's network turns ImageNet's mean and std into these.
        statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    else:
        statistics = dict(_IMAGENET)
    transform = _published(torchvision_name).transforms()
    sizes = {"image_size": transform.crop_size[0], "stored_size": transform.resize_size[0]}
    return {"channels": 3, "resize": "crop", **sizes, **statistics}


def _download(torchvision_name: str) -> Path:
    url = _published(torchvision_name).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
        except (OSError, RuntimeError) as error:  # no network; a hash that is not the file's
            raise CheckpointError(
                f"torchvision's weights of {torchvision_name} cannot be downloaded ({error}); where there is network, "
                f"fetch {url}, and name the file: model.weights: {path.name} (or put it at {path})"
            ) from error
    return path
