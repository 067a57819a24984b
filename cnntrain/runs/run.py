"""A run: its folder, and all that it holds, for who has it in a notebook or a script.

What draws and explains is imported when it is asked for: a training begins without it.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape
from PIL import Image

from cnntrain.config.loading import Config, load_config
from cnntrain.data.reporter import SILENT, Reporter
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.reports.explanations import LAYERS, METHODS, Question
from cnntrain.runs.pictures import confusion_picture
from cnntrain.runs.run_records import RunRecords, read_records
from cnntrain.runs.runs import BEST, is_run, newest_for_dangling, which_is_meant
from cnntrain.runtime.device import resolve_device, use_threads
from cnntrain.runtime.extras import need
from cnntrain.runtime.names import printable
from cnntrain.runtime.torch_settings import settings_kept, usual_arithmetic
from cnntrain.tasks.metrics import Confusion
from cnntrain.trained import Trained, load


class Run:
    """A run folder. What it holds is read when it is asked for, once.

    Attributes:
        folder: Of `latest`, the one that it means now.
        already_finished: Why `cnntrain.train(resume=...)` had nothing left to do; empty otherwise.

    Args:
        folder: Such as `runs/latest`.
        trained: Its network, where that is at hand.

    Raises:
        CheckpointError: It is no run folder.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, trained: Trained | None = None, already_finished: str = ""
    ) -> None:
        path = newest_for_dangling(Path(folder))
        if not is_run(path) and trained is None:  # else it may be on the disk of another machine
            what = f"{folder}: no run folder, that is, one with config.yaml in it"
            raise CheckpointError(f"{what}; {which_is_meant(str(folder), path.parent)}")
        self.folder = path.resolve() if path.is_symlink() else path  # `latest` will mean another one
        self._place = self.folder.absolute()  # the caller may change the working folder
        self.already_finished = already_finished
        self._trained = trained

    @property
    def name(self) -> str:
        """Of the run: its folder is `runs/<name>/<time>`."""
        return self.folder.resolve().parent.name

    @cached_property
    def config(self) -> Config:
        """What was trained, with everything resolved.

        Raises:
            ConfigError: config.yaml is damaged.
        """
        return load_config(self._place / "config.yaml").config

    @property
    def results(self) -> dict[str, Any]:
        """The content of results.json: `results["test"]["accuracy"]` and more; empty before the run has finished.

        Raises:
            CheckpointError: It is damaged.
        """
        return self._records.results

    @property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl: for each epoch `train` and `val` metrics, learning rate, seconds.

        Raises:
            CheckpointError: It is damaged.
        """
        return self._records.epochs

    @property
    def trained(self) -> Trained:
        """The network with the best weights, on the device that the run's configuration asks for.

        Raises:
            CheckpointError: There are none yet, or the file is damaged.
            DeviceError: The device is not there.
        """
        path = self._place / BEST
        if self._trained is None and not path.is_file():
            raise CheckpointError(f"{self.folder} holds no trained network yet: there is no {path}")
        self._trained = self._trained or load(path, resolve_device(self.config.run.device))
        return self._trained

    @property
    def curves(self) -> "Charts":
        """Loss, accuracy, speed and learning rate by caption, which a notebook shows; they need the extra `report`."""
        from cnntrain.reports.figures import curves

        need("report", "the curves of a run")
        return Charts(curves(self._records))

    @property
    def confusion(self) -> Image.Image:
        """The confusion matrix of the test images, as a picture.

        Raises:
            CheckpointError: Nothing was tested.
        """
        test = self.results.get("test")
        if not test:
            raise CheckpointError(f"{self.folder} has no test results, so there is no confusion matrix")
        return confusion_picture(Confusion.from_values(test), [row["class"] for row in test["per_class"]])

    def explain(
        self, image: str | os.PathLike[str], *, method: str = METHODS[0], class_name: str | None = None, top: int = 5
    ) -> Image.Image:
        """What in an image speaks for its class, as `cnntrain explain` draws it.

        Args:
            image: A file.
            method: `grad-cam`, `integrated-gradients`, `occlusion`; or `layers`: what each stage makes of the image.
            class_name: Instead of the likeliest class.
            top: How many classes to show.

        Raises:
            ConfigError: There is no such method or class, it has nothing to show, or needs the extra `explain`.
            DataError: The image cannot be read.
            ValueError: `top` is no number of classes.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1 (got {top})")
        if method not in (*METHODS, LAYERS):
            raise ConfigError(f"{method!r} is no method (allowed: {', '.join((*METHODS, LAYERS))})")
        if method in METHODS[1:]:
            need("explain", method)
        from cnntrain.reports.explanations.explaining import explain_file

        with usual_arithmetic():
            return explain_file(self.trained, Path(image), Question(method, class_name, top)).picture

    def write_report(self, reporter: Reporter = SILENT) -> Path:
        """Writes report.html into the folder, as `cnntrain report` does; its path.

        Args:
            reporter: Told what takes its time.

        Raises:
            CheckpointError: The weights or records are damaged.
            DataError: The images are not at hand.
            StorageError: It cannot be written.
        """
        from cnntrain.reports.page import write_report

        device = resolve_device(self.config.run.device)
        folder = self.folder if self.folder.is_dir() else self._place
        with settings_kept():
            use_threads(self.config.run.threads)
            return write_report(folder, device=device, reporter=reporter).path

    @cached_property
    def _records(self) -> RunRecords:
        return read_records(self._place)

    def __repr__(self) -> str:
        results, where = self.results, printable(str(self.folder))
        if not results:
            return f"Run({where}, not finished)"
        tested = results["test"]
        told = f"test accuracy {tested['accuracy']:.2%}" if tested else "not tested"
        return f"Run({where}, {told}, best epoch {results['best_epoch']} of {results['epochs_run']})"


class Charts(dict[str, Markup]):
    """Charts as SVG by their captions; a notebook shows them one below the other."""

    def _repr_html_(self) -> str:
        captions = {f"<figcaption>{escape(caption)}</figcaption>": chart for caption, chart in self.items()}
        return "".join(f"<figure>{chart}{caption}</figure>" for caption, chart in captions.items())
