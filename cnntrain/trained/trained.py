"""A trained network with all that is needed to use it."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from PIL import Image
from torch import Tensor, nn

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.reporter import SILENT, Reporter
from cnntrain.errors import CheckpointError
from cnntrain.models.weights_file import read_tensors
from cnntrain.runs.checkpoints import check_weights
from cnntrain.runs.header import Header
from cnntrain.runtime.device import laid_out, memory_explained
from cnntrain.runtime.joining import joined
from cnntrain.runtime.names import printable
from cnntrain.runtime.processes import Processes
from cnntrain.runtime.torch_settings import usual_arithmetic
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.trained.evaluate import evaluate_split
from cnntrain.trained.predict import GivenImage, Prediction, predict_all


@dataclass(frozen=True, repr=False)
class Trained:
    """A trained network with its preprocessing and its task: everything that is needed to use it.

    Attributes:
        network: In evaluation mode, on its device, channels last in memory.
        header: What its checkpoint says of it.
        path: The checkpoint.
    """

    network: nn.Module
    header: Header
    path: Path

    @property
    def preprocessing(self) -> Preprocessing:
        """From an image of any size to the network's input."""
        return self.header.preprocessing

    @property
    def task(self) -> SingleLabel:
        """What the outputs mean; `task.class_names` are in their order."""
        return self.header.task

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @property
    def sha256(self) -> str:
        """Of the checkpoint file, in hexadecimal digits."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @overload  # a text is one path, though it could be taken for many of one letter
    def predict(self, images: GivenImage, *, top: int = 5) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, images: Iterable[GivenImage], *, top: int = 5) -> list[Prediction]: ...

    def predict(self, images: GivenImage | Iterable[GivenImage], *, top: int = 5) -> Prediction | list[Prediction]:
        """Says what images show, as `cnntrain predict` does.

        Args:
            images: One image or several, each the path of a file, the content of one, or a Pillow image. Of a JPEG
                that Pillow has decoded already, probabilities may differ from those of its file in the last digits:
                large ones are decoded at a part of their size.
            top: How many classes, at most.

        Returns:
            Of one image its `Prediction`, of several a list, in their order.

        Raises:
            CheckpointError: The network's outputs are no finite numbers.
            DataError: An image cannot be read.
            DeviceError: There is not enough memory.
        """
        with usual_arithmetic():
            if isinstance(images, str | os.PathLike | bytes | Image.Image):
                return predict_all(self, [images], top)[0]
            return predict_all(self, list(images), top)

    def evaluate(
        self, split: str = "test", *, data_root: str | os.PathLike[str] | None = None, reporter: Reporter = SILENT
    ) -> dict[str, Any]:
        """Measures the network on a split of the data that it was trained on, as `cnntrain evaluate` does.

        Several processes that torchrun has started measure the first one's network together; all must call it.

        Args:
            split: `train`, `val` or `test`.
            data_root: Where data sets live, if not where they were in training.
            reporter: Tells the user what takes its time.

        Returns:
            What `cnntrain evaluate --json` prints.

        Raises:
            CheckpointError: The network's outputs are no finite numbers.
            ConfigError: There is no such split.
            DataError: The data are missing, or have other classes than the network.
        """
        root = os.fspath(data_root) if data_root else None
        with joined() as processes:
            is_first = processes.rank == 0
            trained = shared(self if is_first else None, processes, self.device)
            reporter = reporter if is_first else SILENT
            return evaluate_split(trained, split, data_root=root, reporter=reporter, processes=processes)

    def __repr__(self) -> str:
        inputs, names = self.preprocessing.inputs, self.task.class_names
        shape = "x".join(map(str, (*inputs.size, inputs.channels)))
        return (
            f"Trained({self.header.network_name} of epoch {self.header.epoch}, {inputs.kind}s of {shape}, "
            f"{len(names)} classes, on {self.device}, from {printable(str(self.path))})"
        )


@usual_arithmetic()
def load(path: Path, device: torch.device) -> Trained:
    """Reads either kind of checkpoint and rebuilds its network.

    Args:
        path: The checkpoint file, `best.safetensors` or `step-NNNNNNNN.pt`.
        device: Where the network is to compute.

    Raises:
        CheckpointError: The file is missing, damaged or no checkpoint of cnntrain.
        DeviceError: There is not enough memory.
    """
    try:
        weights, text = read_tensors(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if text is None:
        raise CheckpointError(f"{path}: a file of weights, but not one that cnntrain wrote; model.weights takes it")
    header = Header.from_json(text, path)
    check_weights(path, header, weights)
    return _built(header, weights, path, device)


def shared(trained: Trained | None, processes: Processes, device: torch.device) -> Trained:
    """The network that the first process has, for all of them.

    Args:
        trained: The first one's; None of the others.
        processes: Which.
        device: Where this process computes.
    """

    def parcel() -> tuple[Header, dict[str, Tensor], Path]:
        assert trained is not None
        weights = {name: value.cpu() for name, value in trained.network.state_dict().items()}
        return trained.header, weights, trained.path

    if processes.count == 1:
        assert trained is not None
        return trained
    header, weights, path = processes.first(parcel)
    return trained or _built(header, weights, path, device)


def _built(header: Header, weights: Mapping[str, Tensor], path: Path, device: torch.device) -> Trained:
    with memory_explained("close other programs, or use a machine with more memory"):
        network = header.build_network()
        network.load_state_dict(weights)
    return Trained(laid_out(network.to(device)).eval(), header, path)
