"""What the server says of its network: the content of an image file in, plain values out."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from cnntrain.data.images.decode import decode_image, fit_content
from cnntrain.data.images.preprocessing import Pixels, Preprocessing
from cnntrain.insight.activation_maps import ActivationMaps, activation_maps
from cnntrain.runs.pictures import heat_overlay
from cnntrain.runs.runs import BEST
from cnntrain.runtime.device import exact_float32, memory_explained
from cnntrain.serve.uploads import Options
from cnntrain.tasks.intervals import wilson_interval
from cnntrain.trained import Prediction, Trained
from cnntrain.trained.predict import classify

_ADVICE = "close other programs, or use --device cpu"
_SENT = Path("the file sent")  # what messages call it
_SHOWN_PX = 448  # side of the pictures of activation maps, of images that are large enough


def answer(trained: Trained, content: bytes, options: Options) -> dict[str, Any]:
    """What POST /predict answers: the likeliest classes of an image file, as `cnntrain predict` finds them.

    Args:
        trained: Is used by one thread at a time.
        content: Of the image file.
        options: What is wanted of it.

    Raises:
        CheckpointError: The network's outputs are no finite numbers.
        DataError: The content is no image that can be read.
        DeviceError: There is not enough memory.
    """
    pixels = fit_content(content, trained.preprocessing, _SENT)
    with memory_explained(_ADVICE):
        [ranked] = classify(trained, [pixels], options.top)
    prediction = Prediction(str(_SENT), ranked)
    reply: dict[str, Any] = {"predictions": prediction.to_dict()["predictions"]}
    if options.map_class is not None:
        drawn = activation_map(trained, content, options.map_class or prediction.class_name)
        reply["activation_map"] = drawn and as_data_url(drawn[0])
        reply["activation_map_is"] = drawn and drawn[1].described
    return reply


def activation_map(trained: Trained, content: bytes, class_name: str) -> tuple[Image.Image, ActivationMaps] | None:
    """The part of an image that the network sees, under what in it speaks for a class, in RGB; and its map.

    None where no layer of the network keeps the image's plane.

    Raises:
        DataError: The content is no image that can be read.
        DeviceError: There is not enough memory.
    """
    preprocessing, target = trained.preprocessing, trained.task.class_names.index(class_name)
    pixels = fit_content(content, preprocessing, _SENT)
    images = torch.from_numpy(pixels[None].copy()).to(trained.device)
    classes = torch.tensor([target], device=trained.device)
    with memory_explained(_ADVICE), exact_float32():
        try:
            maps = activation_maps(trained.network, preprocessing.network_input(images), classes)
        except ValueError:
            return None
    return heat_overlay(seen(content, preprocessing), maps.heat[0].cpu().numpy(), min_side=256), maps


def seen(content: bytes, preprocessing: Preprocessing) -> Pixels:
    """What the network sees of an image, as fine as the image is, but not finer than a page shows it.

    Returns:
        uint8 (side, side, channels), side at least `image_size`.

    Raises:
        DataError: The content is no image that can be read.
        DeviceError: There is not enough memory.
    """
    image = decode_image(content, preprocessing.channels, _SENT, 2 * _SHOWN_PX)
    scale = max(1.0, min(_SHOWN_PX, *image.size) / preprocessing.image_size)
    side, crop = round(scale * preprocessing.stored_size), round(scale * preprocessing.image_size)
    start = (side - crop) // 2
    return replace(preprocessing, stored_size=side).fit(image)[start : start + crop, start : start + crop]


def about(trained: Trained) -> dict[str, Any]:
    """What there is to know about the network, as plain values; `test_accuracy` only where its run has finished."""
    header = trained.header
    return {
        "run": header.run_name,
        "title": header.title,
        "model": header.network_name,
        "classes": list(trained.task.class_names),
        "preprocessing": trained.preprocessing.to_dict(),
        "checkpoint": {"file": trained.path.name, "sha256": trained.sha256, "epoch": header.epoch},
        "probabilities": header.says_of_confidence,
        **_final_test(trained.path),
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
