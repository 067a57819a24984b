"""What a deployer must know of an exported network, as plain values: inside the file, and beside it."""

from collections.abc import Mapping
from typing import Any

from cnntrain import __version__
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.runs.files import json_text
from cnntrain.trained import Trained

# How `Preprocessing.fit` does it, for those who have Pillow.
FIT = {
    "crop": "ImageOps.fit(image, ({side}, {side}), Image.Resampling.BILINEAR)",
    "letterbox": "ImageOps.pad(image, ({side}, {side}), Image.Resampling.BILINEAR, color=0)",
    "squash": "image.resize(({side}, {side}), Image.Resampling.BILINEAR)",
}

_FIT_IN_WORDS = {
    "crop": "cut out the largest central square and resize it to {side} x {side} px",
    "letterbox": "resize it, keeping its shape, until its longer side has {side} px, and centre it on a black square",
    "squash": "resize it to {side} x {side} px, whatever its shape",
}


def facts(trained: Trained, kind: str) -> dict[str, Any]:
    """Everything about an exported network but how it was checked.

    Args:
        trained: The network.
        kind: `onnx`, `torch-export` or `safetensors`.
    """
    preprocessing, header, notes = trained.preprocessing, trained.header, trained.task.export_notes
    options = header.network_options.model_dump(mode="json", exclude_defaults=True)
    return {
        "description": _description(trained, kind),
        **notes.labels,
        **(_interface_of_weights(trained) if kind == "safetensors" else _interface(trained)),
        "preprocessing": {**preprocessing.to_dict(), "before_the_network": preparing(preprocessing)},
        **notes.fitted,
        "network": {"name": header.network_name, **options},
        "validation": header.val,
        "checkpoint_sha256": trained.sha256,
        "cnntrain_version": __version__,
    }


def _interface(trained: Trained) -> dict[str, Any]:
    """Of a network with its preprocessing."""
    preprocessing, side = trained.preprocessing, trained.preprocessing.stored_size
    return {
        "input": {
            "name": "images",
            "dtype": "uint8",
            "shape": ["batch", side, side, preprocessing.channels],
            "meaning": f"{_colours(preprocessing)}, channels last, any batch size; crop, mean and std are inside the "
            "network",
        },
        "outputs": dict(trained.task.export_notes.outputs),
    }


def _interface_of_weights(trained: Trained) -> dict[str, Any]:
    """Of a network that someone builds to take the weights."""
    inputs = trained.preprocessing.inputs
    return {
        "input": {
            "dtype": "float32",
            "shape": ["batch", *inputs.shape],
            "meaning": "pixels as preprocessing says, their central crop, divided by 255, minus mean, divided by std",
        },
        "outputs": dict(trained.task.export_notes.bare_outputs),
    }


def preparing(preprocessing: Preprocessing) -> list[str]:
    """From an image file to pixels, step by step, in words."""
    side = preprocessing.stored_size
    fit = _FIT_IN_WORDS[preprocessing.resize].format(side=side)
    call = FIT[preprocessing.resize].format(side=side)
    return [
        f"decode the file; a JPEG at a half, a quarter or an eighth of its size where both sides keep {2 * side} px or "
        f"more (Pillow: image.draft(None, ({2 * side}, {2 * side})))",
        "turn it upright as its EXIF orientation says",
        "scale 16-bit values to 8 bits (times 255 / 65535), and show what is transparent on white",
        f"convert it to 8-bit {_colours(preprocessing)}",
        f"{fit}, with a bilinear filter as wide as the shrinking asks for (Pillow: {call})",
    ]


def as_text(values: Mapping[str, Any]) -> dict[str, str]:
    """The same for files whose metadata are texts: what is no text becomes JSON."""
    return {
        key: value if isinstance(value, str) else json_text(value, ensure_ascii=False) for key, value in values.items()
    }


def _description(trained: Trained, kind: str) -> str:
    preprocessing, side, notes = trained.preprocessing, trained.preprocessing.stored_size, trained.task.export_notes
    what = f"an {notes.kind}: {trained.header.network_name}, {notes.size}."
    if kind == "safetensors":
        return f"Weights of {what}"
    return (
        f"{what[0].upper()}{what[1:]} It takes images as uint8 (batch, {side}, {side}, {preprocessing.channels}), "
        f"{_colours(preprocessing)}, and gives {notes.gives}."
    )


def _colours(preprocessing: Preprocessing) -> str:
    return "grey (mode L)" if preprocessing.channels == 1 else "RGB"
