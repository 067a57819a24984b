"""How an exported network is used, in Python that needs no cnntrain."""

import json
from pathlib import Path

from cnntrain.trained import Trained
from cnntrain.trained.export.card import FIT
from cnntrain.trained.export.torch_file import EXTRA_FILE

_ONNX = """\
session = onnxruntime.InferenceSession({file!r})
{labels}
{outputs} = session.run({names}, {{"images": images}})
"""

_TORCH = """\
extra = {{{extra!r}: ""}}
network = torch.export.load({file!r}, extra_files=extra).module()
{labels}
{outputs} = network(torch.from_numpy(images))
"""

_SAFETENSORS = """\
with safe_open({file!r}, "pt") as file:
    weights = {{name: file.get_tensor(name) for name in file.keys()}}
    {labels}
network = {network}
network.load_state_dict(weights)
crop = torch.from_numpy(images).permute(0, 3, 1, 2)[:, :, {start}:{stop}, {start}:{stop}] / 255
mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in ({mean}, {std}))
{last} = {activated}
"""


_SCRIPT = """\
import json
import numpy as np
{imports}
from PIL import Image, ImageOps

image = Image.open("photo.jpg")
image.draft(None, ({enough}, {enough}))
image = ImageOps.exif_transpose(image)
if image.mode.startswith("I"):  # 16 bits
    image = Image.fromarray((np.array(image) / 257).round().astype(np.uint8))
image = image.convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("{mode}")
image = {fit}
images = np.array(image).reshape(1, {side}, {side}, {channels})
{asking}
{answer}
"""


def usage(kind: str, file: str | Path, trained: Trained) -> str:
    """Lines of Python that classify photo.jpg.

    Args:
        kind: `onnx`, `torch-export` or `safetensors`.
        file: The exported network, by a name with which the lines find it.
        trained: The network.
    """
    preprocessing = trained.preprocessing
    side, size = preprocessing.stored_size, preprocessing.image_size
    start, network = (side - size) // 2, _network(trained)
    match kind:
        case "onnx":
            imports, template = "import onnxruntime", _ONNX
            label = "json.loads(session.get_modelmeta().custom_metadata_map[{key}])"
        case "torch-export":
            imports, template, label = "import torch", _TORCH, f"json.loads(extra[{EXTRA_FILE!r}])[{{key}}]"
        case _:
            imports = "import torch, torchvision" if network.startswith("torchvision.") else "import torch"
            imports, template = f"{imports}\nfrom safetensors import safe_open", _SAFETENSORS
            label = "json.loads(file.metadata()[{key}])"
    notes = trained.task.export_notes
    names = list(notes.outputs)
    activated = notes.activation.format(outputs="network.eval()((crop - mean) / std).detach()")
    asking = template.format(
        file=str(file), extra=EXTRA_FILE, network=network, start=start, stop=start + size,
        mean=preprocessing.mean, std=preprocessing.std, names=json.dumps(names), last=names[-1], activated=activated,
        outputs=", ".join(names) if len(names) > 1 else f"({names[0]},)",
        labels="\n".join(f"{key} = {label.format(key=json.dumps(key))}" for key in notes.labels),
    )  # fmt: skip
    return _SCRIPT.format(
        imports=imports, asking=asking, enough=2 * side, mode="L" if preprocessing.channels == 1 else "RGB",
        fit=FIT[preprocessing.resize].format(side=side), side=side, channels=preprocessing.channels,
        answer=notes.answer,
    )  # fmt: skip


def _network(trained: Trained) -> str:
    """Torchvision's network where it has this one; else whoever takes the weights must have a network for them."""
    options = trained.header.network_options
    published = options.published if trained.preprocessing.channels == 3 else None
    if published is None:
        return f"...  # yours: {options.name}, with layers of the names in `weights`; --format torch-export needs none"
    arguments = ", ".join((f"num_classes={trained.task.num_outputs}", *published.arguments))
    return f"torchvision.models.{published.name}({arguments})"
