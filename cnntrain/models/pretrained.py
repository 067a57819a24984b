"""Starting from trained weights: finding them, and fitting them into a network."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models.general import Convolution
from cnntrain.models.options import Published
from cnntrain.models.stages import stages
from cnntrain.models.weights_file import is_finite, is_plain, read_tensors
from cnntrain.runs.artifacts.header import read_header
from cnntrain.runtime.names import printable

KEY = "model.weights"
PREPROCESSING = ("channels", "image_size", "stored_size", "resize", "mean", "std")
_AUXILIARY = ("aux1.", "aux2.")


@dataclass(frozen=True)
class Weights:
    """Weights read from a file.

    Attributes:
        source: `torchvision`, or the absolute path of the file.
        path: The file.
        tensors: By the names of a network's state dict.
        sha256: Of the file.
        class_names: What the network tells apart, where the file says it.
        preprocessing: What is known of the images that the network was trained on: some of the keys of PREPROCESSING.
        notices: What the user should know, one sentence each.
    """

    source: str
    path: Path
    tensors: dict[str, Tensor]
    sha256: str = ""
    class_names: tuple[str, ...] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()


def read_weights(source: str, published: Published | None) -> Weights:
    """The weights that `model.weights` names.

    Args:
        source: A file, a run folder, or `torchvision`.
        published: The network in torchvision; None where it has none like it.

    Raises:
        ConfigError: torchvision has no weights for this network.
        CheckpointError: The file is missing, damaged or holds no weights; or it cannot be downloaded.
    """
    downloads = source == "torchvision"
    path = _download(published) if downloads else _find(Path(source).expanduser().absolute())
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        tensors, header = read_tensors(path)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be read: {error.strerror}; it names a checkpoint of cnntrain or its run folder, a "
            f"safetensors file, a state dict (.pth), or is `torchvision`",
            KEY,
        ) from error
    except CheckpointError as error:
        raise CheckpointError(str(error), KEY) from error
    _check_values(path, tensors)
    if header is not None:
        class_names, preprocessing = _read_header(path, header)
        return Weights(str(path), path, tensors, sha256, class_names, preprocessing)
    if published is None:
        return Weights(str(path), path, tensors, sha256)
    preprocessing = _preprocessing_of(published)
    if downloads:
        # Its GoogLeNet's auxiliary classifiers were never trained.
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_AUXILIARY)}
        return Weights(source, path, tensors, sha256, preprocessing=preprocessing)
    notice = "the file does not say how its images were prepared; as for torchvision's weights of this network, then"
    return Weights(str(path), path, tensors, sha256, preprocessing=preprocessing, notices=(notice,))


def load_weights(model: nn.Module, weights: Weights, class_names: Sequence[str]) -> list[str]:
    """Puts trained weights into a network; a head for other classes stays as it is.

    Args:
        model: Changed in place.
        weights: As `read_weights` gives them.
        class_names: What `model` is to tell apart.

    Returns:
        What the user should know, one sentence each.

    Raises:
        CheckpointError: The weights are those of another network.
    """
    own, tensors, notices = model.state_dict(), dict(weights.tensors), []
    if not any(name.startswith(_AUXILIARY) for name in own):
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(_AUXILIARY)}
    elif not any(name.startswith(_AUXILIARY) for name in tensors):
        notices.append("the auxiliary classifiers start at random: the file has none that were trained")
        tensors |= {name: tensor for name, tensor in own.items() if name.startswith(_AUXILIARY)}
    for name, tensor in own.items():
        if name.endswith("num_batches_tracked"):  # not in old files, and of no effect here
            tensors.setdefault(name, tensor)
    notices += _renew_heads(model, own, tensors, weights.class_names, class_names)
    faults = _mismatches(own, tensors)
    if faults:
        raise CheckpointError(
            f"{weights.path}: these are the weights of another network; compare model.name, variant and options, "
            f"data.channels and data.image_size",
            KEY,
            more=faults,
        )
    model.load_state_dict(tensors)
    return notices


def _renew_heads(
    model: nn.Module,
    own: dict[str, Tensor],
    tensors: dict[str, Tensor],
    their_classes: tuple[str, ...] | None,
    class_names: Sequence[str],
) -> list[str]:
    """Puts the network's own weights in place of heads for other classes, and says so, one sentence each."""
    notices = []
    other_classes = their_classes is not None and their_classes != tuple(class_names)
    for head in _classifiers(model, len(class_names)):
        there = tensors.get(f"{head}.weight")
        if there is None or there.shape[1:] != own[f"{head}.weight"].shape[1:]:
            continue
        if other_classes or len(there) != len(class_names):
            among = f": {', '.join(their_classes[:6])}" if other_classes and their_classes else ""
            notices.append(f"{head} starts at random: that of the file tells {len(there):,} other classes apart{among}")
            tensors.update({name: own[name] for name in (f"{head}.weight", f"{head}.bias") if name in own})
    return notices


def _classifiers(model: nn.Module, num_classes: int) -> list[str]:
    """The layers that give one value per class: the last one, and those of auxiliary classifiers."""
    names = {id(module): name for name, module in model.named_modules()}
    *_, head = stages(model).values()
    parts = [part for module in head for part in module.modules()]
    layers = [part for part in parts if isinstance(part, nn.Linear | Convolution)]
    return [names[id(layer)] for layer in layers if len(layer.weight) == num_classes]


def _check_values(path: Path, tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not is_plain(tensor) or not tensor.is_floating_point() or tensor.element_size() < 2:  # no float8
            kind = f"{tensor.dtype}, {tensor.layout}"
            raise CheckpointError(f"{path}: {printable(name)} is no tensor of weights ({kind})", KEY)
        if not is_finite(tensor):
            what = "holds values that are not finite; the training went wrong"
            raise CheckpointError(f"{path}: {printable(name)} {what}", KEY)


def _read_header(path: Path, text: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    try:
        header = read_header(text, path, whole=False)
    except CheckpointError as error:
        raise CheckpointError(str(error), KEY) from error
    return tuple(header["class_names"]), {key: header["preprocessing"][key] for key in PREPROCESSING}


def _mismatches(own: dict[str, Tensor], tensors: dict[str, Tensor], limit: int = 5) -> list[str]:
    shapes = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in tensors and tensors[name].shape != own[name].shape
    ]
    kinds = {
        "not in the file": [name for name in own if name not in tensors],
        "not in the network": [name for name in tensors if name not in own],
        "of another shape": shapes,
    }
    return [
        f"  {len(names)} {kind}: {', '.join(names[:limit])}{', ...' if len(names) > limit else ''}"
        for kind, names in kinds.items()
        if names
    ]


def _find(path: Path) -> Path:
    """A file stays as it is; of a run folder, its best weights."""
    inside = [path / "checkpoints/best.safetensors", path / "best.safetensors"]
    return next((file for file in inside if file.is_file()), path)


def _published_weights(published: Published) -> Any:
    from torchvision.models import get_model_weights  # slow to import, and needed here alone

    return get_model_weights(published.name).DEFAULT


def _preprocessing_of(published: Published) -> dict[str, Any]:
    transform = _published_weights(published).transforms()
    sizes = {"image_size": transform.crop_size[0], "stored_size": transform.resize_size[0]}
    return {"channels": 3, "resize": "crop", **sizes, "mean": published.mean, "std": published.std}


def _download(published: Published | None) -> Path:
    if published is None:
        raise ConfigError(
            "torchvision publishes no weights for this network; it does for alexnet and googlenet "
            "(variant: torchvision) and resnet18 to resnet152 (as they are without further options)",
            KEY,
        )
    url = _published_weights(published).url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rpartition("-")[2]
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=sys.stderr.isatty())
        except (OSError, RuntimeError) as error:  # no network; a hash that is not the file's
            raise CheckpointError(
                f"torchvision's weights of {published.name} cannot be downloaded ({error}); where there is network, "
                f"fetch {url}, and name the file: model.weights: {path.name} (or put it at {path})",
                KEY,
            ) from error
    return path
