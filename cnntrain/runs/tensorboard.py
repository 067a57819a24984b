"""TensorBoard event files, by TensorBoard's own writer: `torch.utils.tensorboard` takes ten times as long to import."""

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import summary_v2
from tensorboard.plugins.text.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from cnntrain.runtime.names import printable, printable_lines

_EVENTS = "events.out.tfevents.*"


class TensorBoard:
    """One run's event file.

    Args:
        folder: Where the file goes.
        enabled: Or nothing is written.
    """

    def __init__(self, folder: Path, *, enabled: bool) -> None:
        self._folder = folder
        self._file = (folder / _next_name(folder)).open("wb") if enabled else None
        if self._file:
            self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def flush(self) -> dict[str, int]:
        """Writes what is still in memory; the size of each event file in the folder, bytes, by name."""
        if self._file:
            self._file.flush()
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

    def text(self, step: int, tag: str, text: str) -> None:
        """Markdown at a training step."""
        tensor = TensorProto(dtype=DT_STRING, string_val=[printable_lines(text).encode()])
        self._add(
            Summary(value=[Summary.Value(tag=tag, metadata=create_summary_metadata(tag, ""), tensor=tensor)]), step
        )

    def hyperparameters(self, config: Mapping[str, Any], metrics: Mapping[str, float], step: int) -> None:
        """The configuration, flattened to dotted keys, with the final metrics."""
        flat = _flatten(config)
        columns = [summary_v2.HParam(key) for key in flat]
        self._add(summary_v2.hparams_config_pb(columns, [summary_v2.Metric(tag) for tag in metrics]), 0)
        self._add(summary_v2.hparams_pb(flat), 0)
        self.scalars(step, metrics)

    def close(self) -> None:
        """Writes what is still in memory."""
        if self._file:
            self._file.close()

    def _add(self, summary: Summary, step: int) -> None:
        if self._file:
            self._write(Event(wall_time=time.time(), step=step, summary=summary))

    def _write(self, event: Event) -> None:
        # In this thread: TensorBoard's own writer leaves a full disk to another one, which dies of it.
        RecordWriter(self._file).write(event.SerializeToString())


def _next_name(folder: Path) -> str:
    """TensorBoard reads files in the order of their names, so this one comes after those that are there."""
    newest = max((path.name.split(".")[3] for path in folder.glob(_EVENTS)), default="")
    moment = max(time.time_ns(), int(newest) + 1 if newest.isdecimal() else 0)
    return f"{_EVENTS[:-1]}{moment}.{socket.gethostname()}.{os.getpid()}"


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
            flat[prefix + key] = value if isinstance(value, bool | int | float) else printable(value)
    return flat
