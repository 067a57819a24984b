"""Data preparation: from options to three splits, one preprocessing and one class list.

What others ask for most stands here, and is imported when it is asked for: who only wants to know a fact of a data set
need not wait for PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnntrain.data.expected import expect_data as expect_data
    from cnntrain.data.images.preprocessing import Preprocessing as Preprocessing
    from cnntrain.data.places import resolve_data_root as resolve_data_root
    from cnntrain.data.prepare import prepare_data as prepare_data
    from cnntrain.data.prepare import prepare_split as prepare_split
    from cnntrain.data.reporter import SILENT as SILENT
    from cnntrain.data.reporter import Reporter as Reporter
    from cnntrain.data.split import Split as Split
    from cnntrain.data.splits import Splits as Splits

_HOMES = {
    "expect_data": "expected",
    "Preprocessing": "images.preprocessing",
    "resolve_data_root": "places",
    "prepare_data": "prepare",
    "prepare_split": "prepare",
    "SILENT": "reporter",
    "Reporter": "reporter",
    "Split": "split",
    "Splits": "splits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
