"""torch.export: one file (.pt2) that PyTorch runs without the code of the network."""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from cnntrain.data.images.preprocessing import Pixels
from cnntrain.runs.files import to_json
from cnntrain.trained.export.agreement import Outputs, Run
from cnntrain.trained.export.deployable import Deployable

EXTRA_FILE = "cnntrain.json"  # inside the .pt2, which is a zip archive


def torch_content(network: Deployable, metadata: Mapping[str, Any]) -> bytes:
    """The content of a .pt2 file, for any batch size; the metadata are in it as `EXTRA_FILE`."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(
            network, (network.example(),), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # names files of this machine
        torch.export.save(program, buffer, extra_files={EXTRA_FILE: to_json(metadata)})
    return buffer.getvalue()


def run_torch(content: bytes) -> Run:
    """The network in the content of a .pt2 file, loaded by torch.export and run on the CPU."""
    with warnings.catch_warnings(action="ignore"):
        network = torch.export.load(io.BytesIO(content)).module()

    @torch.inference_mode()
    def run(images: Pixels) -> Outputs:
        return tuple(outputs.numpy() for outputs in network(torch.from_numpy(images)))

    return run
