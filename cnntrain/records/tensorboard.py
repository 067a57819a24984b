"""TensorBoard event files, by TensorBoard's own writer: `torch.utils.tensorboard` takes ten times as long to import."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import summary_v2
from tensorboard.summary.writer.event_file_writer import EventFileWriter

_EVENTS = "events.out.tfevents.*"


class TensorBoard:
    """One run's event file.

    Args:
        folder: Where the file goes.
        enabled: Or nothing is written.
    """

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._folder = folder
        if enabled:
            _let_names_rise(folder)
        self._writer = EventFileWriter(str(folder)) if enabled else None

    def flush(self) -> dict[str, int]:
        """Writes what is still in memory; the size of each event file in the folder, bytes, by name."""
        if self._writer:
            self._writer.flush()
        return {path.name: path.stat().st_size for path in self._folder.glob(_EVENTS)}

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a training step, by tag."""
        self._add(Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]), step)

    def picture(self, step: int, tag: str, image: Image.Image) -> None:
        """A Pillow image at a training step."""
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        encoded = Summary.Image(
            height=image.height, width=image.width, colorspace=3, encoded_image_string=buffer.getvalue()
        )
        self._add(Summary(value=[Summary.Value(tag=tag, image=encoded)]), step)

    def hyperparameters(self, config: Mapping[str, Any], metrics: Mapping[str, float], step: int) -> None:
        """The configuration, flattened to dotted keys, with the final metrics."""
        flat = _flatten(config)
        columns = [summary_v2.HParam(key) for key in flat]
        self._add(summary_v2.hparams_config_pb(columns, [summary_v2.Metric(tag) for tag in metrics]), 0)
        self._add(summary_v2.hparams_pb(flat), 0)
        self.scalars(step, metrics)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._writer:
            self._writer.close()

    def _add(self, summary: Summary, step: int) -> None:
        if self._writer:
            self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


def _let_names_rise(folder: Path) -> None:
    # Files are named after the second they were begun in, and TensorBoard reads them in the order of their names.
    newest = max((path.name for path in folder.glob(_EVENTS)), default="")
    for _ in range(20):
        if newest < f"{_EVENTS[:-1]}{int(time.time()):010d}":
            return
        time.sleep(0.05)


def cut_back(folder: Path, sizes: Mapping[str, int]) -> None:
    """Takes back what was written to a run's event files since `flush` said these sizes."""
    for path in folder.glob(_EVENTS):
        if path.name not in sizes:
            path.unlink()
        elif path.stat().st_size > sizes[path.name]:
            os.truncate(path, sizes[path.name])


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str | float | bool]:
    flat: dict[str, str | float | bool] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
