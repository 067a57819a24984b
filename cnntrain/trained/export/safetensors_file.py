"""safetensors: the weights alone, by the names of the layers; torchvision's own names where it has the network."""

from collections.abc import Mapping
from dataclasses import replace

import safetensors.torch
from torch import nn

from cnntrain.trained import Trained
from cnntrain.trained.export.agreement import Run, run_trained


def safetensors_content(network: nn.Module, metadata: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, row-major in memory, the metadata in its header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    return safetensors.torch.save(weights, metadata=dict(metadata))


def run_safetensors(content: bytes, trained: Trained) -> Run:
    """The network whose weights are in the content of a safetensors file, built anew and run on the CPU."""
    network = trained.header.build_network(seed=1)  # other than training's: every weight must come from the file
    network.load_state_dict(safetensors.torch.load(content))
    return run_trained(replace(trained, network=network.eval()))
