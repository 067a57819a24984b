"""The network that is served: the content of an image file in, plain values out."""

import base64
import hashlib
import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from cnntrain.analysis.activation_maps import ActivationMaps, activation_maps
from cnntrain.data.decode import decode_image, fit_content
from cnntrain.data.preprocessing import Pixels
from cnntrain.predict import classify
from cnntrain.records.checkpoints import Header, load_network
from cnntrain.records.pictures import heat_overlay
from cnntrain.records.runs import BEST
from cnntrain.runtime.device import exact_float32, memory_explained
from cnntrain.tasks.intervals import wilson_interval
from cnntrain.tasks.task import Decoded
from cnntrain.titles import run_title

_ADVICE = "close other programs, or use --device cpu"
_SENT = Path("the file sent")  # what messages call it
_SHOWN_PX = 448  # side of the pictures of activation maps, of images that are large enough


@dataclass(frozen=True)
class Classifier:
    """A trained network, to be used by one thread at a time.

    Attributes:
        path: The checkpoint.
        model: In evaluation mode, on `device`.
        device: Where to compute, in float32.
    """

    path: Path
    model: nn.Module
    header: Header
    device: torch.device

    @classmethod
    def load(cls, path: Path, device: torch.device) -> "Classifier":
        """Reads either kind of checkpoint.

        Raises:
            CheckpointError: As `load_network`.
        """
        return cls(path, *load_network(path, device), device)

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the network's outputs."""
        return self.header.class_names

    def predict(self, content: bytes, top: int) -> Decoded:
        """The likeliest classes of an image file, as `cnntrain predict` finds them.

        Raises:
            DataError: The content is no image that can be read.
            DeviceError: There is not enough memory.
        """
        fitting, task = self.header.preprocessing, self.header.task
        pixels = [fit_content(content, fitting, _SENT)]
        with memory_explained(_ADVICE):
            return classify(self.model, pixels, preprocessing=fitting, task=task, device=self.device, top=top)[0]

    def activation_map(self, content: bytes, class_name: str) -> tuple[Image.Image, ActivationMaps] | None:
        """The part of an image that the network sees, under what in it speaks for a class, in RGB; and its map.

        None where no layer of the network keeps the image's plane.

        Raises:
            DataError: As `predict`.
            DeviceError: Likewise.
        """
        fitting, target = self.header.preprocessing, self.class_names.index(class_name)
        pixels = fit_content(content, fitting, _SENT)
        images = torch.from_numpy(pixels[None].copy()).to(self.device).permute(0, 3, 1, 2)
        classes = torch.tensor([target], device=self.device)
        with memory_explained(_ADVICE), exact_float32():
            try:
                found = activation_maps(self.model, fitting.network_input(images), classes)
            except ValueError:
                return None
        return heat_overlay(self.seen(content), found.heat[0].cpu().numpy(), min_side=256), found

    def seen(self, content: bytes) -> Pixels:
        """What the network sees of an image, as fine as the image is, but not finer than a page shows it.

        Returns:
            uint8 (side, side, channels), side at least `image_size`.

        Raises:
            DataError: As `predict`.
        """
        fitting = self.header.preprocessing
        image = decode_image(content, fitting.channels, _SENT, 2 * _SHOWN_PX)
        scale = max(1.0, min(_SHOWN_PX, *image.size) / fitting.image_size)
        side, crop = round(scale * fitting.stored_size), round(scale * fitting.image_size)
        start = (side - crop) // 2
        return replace(fitting, stored_size=side).fit(image)[start : start + crop, start : start + crop]

    def about(self) -> dict[str, Any]:
        """What there is to know about the network, as plain values; `test_accuracy` only where its run has finished."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        test = _final_test(self.path)
        return {
            "run": self.header.config.run.name,
            "title": run_title(self.header.config.model_dump(mode="json")),
            "model": self.header.config.model.name,
            "classes": list(self.class_names),
            "preprocessing": self.header.preprocessing.to_dict(),
            "checkpoint": {"file": self.path.name, "sha256": digest, "epoch": self.header.epoch},
            "probabilities": self.header.says_of_confidence,
            **test,
        }


def as_data_url(picture: Image.Image) -> str:
    """A picture as a PNG that a page can show without fetching it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _final_test(checkpoint: Path) -> dict[str, Any]:
    """From the results.json of the checkpoint's run, whose final test is of the best weights alone."""
    if checkpoint.parts[-2:] != BEST.parts:
        return {}
    try:
        test = json.loads((checkpoint.parents[1] / "results.json").read_bytes())["test"]
        accuracy, num_images = float(test["accuracy"]), int(test["num_images"])
        interval = wilson_interval(round(accuracy * num_images), num_images)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {"test_accuracy": accuracy, "test_accuracy_interval": list(interval), "test_images": num_images}
