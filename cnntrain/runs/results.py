"""results.json: what a run found, and what is needed to believe it."""

import platform
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import cnntrain
from cnntrain.runtime.device import MEMORY_FORMAT
from cnntrain.runtime.machine import processor_name
from cnntrain.runtime.names import printable
from cnntrain.training.sums import EpochFigures


def build_results(
    *,
    name: str | None,
    seed: int,
    precision: str,
    test: Mapping[str, Any] | None,
    val: Mapping[str, Any],
    epochs: list[EpochFigures],
    **more: Any,
) -> dict[str, Any]:
    """The content of results.json.

    Args:
        name: Of the run.
        seed: Of weights, order, augmentation and dropout.
        precision: In which it was trained.
        test: Metrics of the best weights on the test split, measured once, after everything was decided; None
            where there are no test images.
        val: Metrics of the same weights on the validation split; empty where there are no validation images.
        epochs: Figures of every epoch that was trained.
        more: Further entries, such as `best_epoch` and `stopped_because`.
    """
    steps_seconds = sum(epoch.seconds for epoch in epochs)
    return {
        "name": name,
        "test": dict(test) if test else None,
        "val": dict(val) if val else None,
        "epochs_run": len(epochs),
        **more,
        "images_per_second": sum(epoch.num_images for epoch in epochs) / steps_seconds,
        "data_share": sum(epoch.data_seconds for epoch in epochs) / steps_seconds,
        "seed": seed,
        "precision": precision,
        "memory_format": MEMORY_FORMAT,
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": version("torchvision"),
            "numpy": version("numpy"),
            "pillow": version("pillow"),
            "cnntrain": cnntrain.__version__,
        },
        "platform": platform.platform(),
        "processor": processor_name(),
        "command": printable(shlex.join(command_line())),
    }


def command_line() -> list[str]:
    """The words that started this process, without the path of the program."""
    program = Path(sys.argv[0]).name
    return ["cnntrain" if program == "__main__.py" else program, *sys.argv[1:]]
