"""safetensors: the weights alone, by the names of the layers; torchvision's own names where it has the network."""

from collections.abc import Mapping

import safetensors.torch
from torch import nn

from cnntrain.export.agreement import Run, run_network
from cnntrain.models import build_model
from cnntrain.records.checkpoints import Header


def safetensors_content(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, row-major in memory, the metadata in its header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(weights, metadata=dict(metadata))


def run_safetensors(content: bytes, header: Header) -> Run:
    """The network whose weights are in the content of a safetensors file, built anew and run on the CPU."""
    fitting = header.preprocessing
    # The seed is not that with which training began: every weight must come from the file.
    network = build_model(header.config.model, fitting.inputs, len(header.class_names), seed=1)
    network.load_state_dict(safetensors.torch.load(content))
    return run_network(network.eval(), fitting, header.temperature)
