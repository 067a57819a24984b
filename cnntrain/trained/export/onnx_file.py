"""ONNX: one file that ONNX Runtime and many other programs run, without Python if need be."""

import warnings
from collections.abc import Mapping

import onnx
import onnxruntime
import torch

from cnntrain.data.images.preprocessing import Pixels
from cnntrain.errors import CheckpointError
from cnntrain.trained.export.agreement import Outputs, Run
from cnntrain.trained.export.deployable import Deployable

OPSET = 18  # what PyTorch writes without converting; ONNX Runtime reads it from 1.14 on (February 2023)
_MOST_BYTES = 2**31 - 2**20  # of weights: a protobuf message holds 2 GiB


def onnx_content(network: Deployable, description: str, metadata: Mapping[str, str]) -> bytes:
    """The content of an ONNX file: opset 18, weights inside, any batch size, checked by `onnx.checker`.

    Args:
        network: What to write.
        description: For people (`doc_string`).
        metadata: For programs (`metadata_props`).

    Raises:
        CheckpointError: The network is too large for one file.
    """
    num_bytes = sum(tensor.nbytes for tensor in network.state_dict().values())
    if num_bytes > _MOST_BYTES:
        raise CheckpointError(
            f"an ONNX file holds at most 2 GiB, and the weights take {num_bytes:,} bytes; use --format torch-export"
        )
    with warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(
            network,
            (network.example(),),
            input_names=["images"],
            output_names=list(network.task.export_notes.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        model = program.model_proto
    for part in (model.graph, *model.graph.node, *model.graph.value_info):
        del part.metadata_props[:]  # which file and line of this machine each part came from: nobody else's business
    model.doc_string = description
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def run_onnx(content: bytes) -> Run:
    """The network in the content of an ONNX file, run by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Pixels) -> Outputs:
        return tuple(session.run(None, {"images": images}))

    return run


def versions() -> dict[str, str]:
    """Of what wrote the file and what ran it."""
    return {"onnx": onnx.__version__, "onnx_opset": str(OPSET), "onnxruntime": onnxruntime.__version__}
