"""The record of one run: metrics.jsonl, signals.jsonl, TensorBoard, and what the doctor says of them."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import get_num_threads

from cnntrain.data.batches import Batch
from cnntrain.data.split import Split
from cnntrain.data.splits import Splits
from cnntrain.errors import NumericalError
from cnntrain.insight.doctor import Observations, Verdict, examine
from cnntrain.runs.files import json_text, to_json, write_text
from cnntrain.runs.logged_steps import LoggedSteps
from cnntrain.runs.pictures import confusion_picture, image_grid
from cnntrain.runs.tensorboard import TensorBoard, cut_back
from cnntrain.runtime.load import Contention, describe_contention
from cnntrain.tasks.task import Evaluation, Task, kept_metrics
from cnntrain.training.events import EpochDone, Event, StepDone
from cnntrain.training.sums import EpochFigures

NOTHING_LOGGED: dict[str, Any] = {"epochs": [], "lines": [], "event_files": {}}
_NUM_PICTURES = 32


class RunLog:
    """Writes down what happens.

    Attributes:
        epochs: The figures of those that are done.
        contention: Since the beginning.
        facts: What the doctor needs to know of the data, and results.json keeps for it: `chance_loss`, `class_counts`.

    Args:
        folder: The run folder.
        values: The configuration as resolved, as plain values.
        say: Is told what the doctor says, line by line.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any], say: Callable[..., None]) -> None:
        self.folder = folder
        self.say = say
        self.epochs: list[EpochFigures] = []
        self.contention = Contention()
        self.facts: dict[str, Any] = {}
        self._values = values
        self._lines: list[str] = []
        self._logged_steps = LoggedSteps()
        self._told: list[str] = []  # kinds of verdicts
        self._to_draw: Batch | None = None
        self._tensorboard = TensorBoard(folder, enabled=values["run"]["tensorboard"])

    def begin(self, splits: Splits, task: Task[Any], chance_loss: float) -> None:
        """Takes note of images and task, and names those that could not be read, and why, in skipped_images.txt."""
        self._splits, self._task = splits, task
        self.facts = {"chance_loss": chance_loss, **task.facts(splits.train.targets)}
        if lines := [fault for part in splits.skipped.values() for fault in part]:
            write_text(self.folder / "skipped_images.txt", "\n".join(lines) + "\n")

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which the record can go on; what was logged until now is written."""
        self._write("signals.jsonl", self._logged_steps.lines)
        self._draw_first_batch()
        return {
            "epochs": [asdict(figures) for figures in self.epochs],
            "lines": list(self._lines),
            "signals": self._logged_steps.state_dict(),
            "told": list(self._told),
            "event_files": self._tensorboard.flush(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the record back to where `state_dict` was taken."""
        self.close()
        cut_back(self.folder, state["event_files"])
        self._tensorboard = TensorBoard(self.folder, enabled=self._values["run"]["tensorboard"])
        self.epochs = [EpochFigures(**figures) for figures in state["epochs"]]
        self._lines, self._logged_steps, self._told = list(state["lines"]), LoggedSteps(), []
        if "signals" in state:  # else of a version without them
            self._logged_steps.load_state_dict(state["signals"])
            self._told = list(state["told"])
        self._write("metrics.jsonl", self._lines)
        self._write("signals.jsonl", self._logged_steps.lines)

    def see(self, event: Event, dead: Mapping[str, float] | None = None) -> None:
        """Takes in what the loop says of itself.

        Args:
            event: A step or an epoch.
            dead: The share of dead units after each ReLU, where they were looked for.
        """
        match event:
            case StepDone():
                if event.norms:
                    self._see_norms(event, event.norms.by_layer())
                if event.is_first:
                    images, targets = event.batch
                    self._to_draw = Batch(images[:_NUM_PICTURES], targets[:_NUM_PICTURES])
            case EpochDone():
                self._draw_first_batch()
                self._see_epoch(event, dead or {})
                self._see_doctor(event)

    def _see_norms(self, event: StepDone, norms: Mapping[str, Mapping[str, float]]) -> None:
        """Curves and a line of signals.jsonl; norms by kind and layer, as `StepNorms.by_layer` gives them."""
        finite = {  # float16 skips a step now and then
            kind: {layer: norm for layer, norm in layers.items() if math.isfinite(norm)}
            for kind, layers in norms.items()
        }
        scalars = {f"{kind}/{layer}": norm for kind, layers in finite.items() for layer, norm in layers.items()}
        loss, rate = event.loss, event.learning_rate
        self._tensorboard.scalars(event.step, {"train/loss_step": loss, "learning_rate": rate, **scalars})
        rounded = {
            kind: {layer: float(f"{norm:.4g}") for layer, norm in layers.items()} for kind, layers in finite.items()
        }
        self._logged_steps.add(
            {"step": event.step, "epoch": event.epoch, "loss": loss, "learning_rate": rate, **rounded}
        )

    def _draw_first_batch(self) -> None:
        """Once: after the first epoch, or before what is saved in it, for who goes on from there has not seen it."""
        if self._to_draw:
            (images, targets), splits = self._to_draw, self._splits
            captions = [self._task.caption(target) for target in targets.cpu()]
            grid = image_grid(splits.preprocessing.show(images).numpy(), captions)
            self._tensorboard.picture(0, "train/augmented", grid)
            self._to_draw = None

    def _see_epoch(self, event: EpochDone, dead: Mapping[str, float]) -> None:
        """A line in metrics.jsonl, and curves."""
        figures, val = event.train, event.val
        self.epochs.append(figures)
        train = figures.metrics(self._task.score) if figures.num_images else {}
        summary = kept_metrics(self._task, val)
        speed = {"images_per_second": figures.images_per_second, "data_share": figures.data_share}
        line = {"epoch": event.epoch, "step": event.step, "train": train, "val": summary}
        line |= {"learning_rate": event.learning_rate, "seconds": figures.seconds, **speed}
        line |= {"best": event.improved, "time": time.time()}
        line |= {"dead_relus": {layer: round(share, 4) for layer, share in dead.items()}} if dead else {}
        self._lines.append(json_text(line) + "\n")
        scalars = {f"train/{key}": value for key, value in train.items()}
        scalars |= {f"val/{key}": value for key, value in summary.items()}
        scalars |= {f"dead_relus/{layer}": share for layer, share in dead.items()}
        scalars |= {f"speed/{key}": value for key, value in speed.items()}
        self._tensorboard.scalars(event.step, {**scalars, "epoch": event.epoch})
        self._write("metrics.jsonl", self._lines)

    def _see_doctor(self, event: EpochDone) -> None:
        """What the doctor says for the first time."""
        for verdict in self._examine(event.val):
            if verdict.kind not in self._told:
                self._told.append(verdict.kind)
                self.say(f"     doctor: {verdict.finding}", f"             try {verdict.advice}")
                self._tensorboard.text(event.step, f"doctor/{verdict.kind}", f"{verdict.finding} Try {verdict.advice}.")

    def verdicts(self, val: Mapping[str, Any]) -> list[Verdict]:
        """What the doctor says at the end, aloud too.

        Args:
            val: Validation metrics of the best epoch.
        """
        verdicts = self._examine(val, finished=True)
        for verdict in verdicts:
            advice = [] if verdict.kind in self._told else [f"             try {verdict.advice}"]
            self.say(f"     doctor, at the end: {verdict.finding}", *advice)
        return verdicts

    def _examine(self, val: Mapping[str, Any], *, finished: bool = False) -> list[Verdict]:
        return examine(
            Observations(
                epochs=[json.loads(line) for line in self._lines],
                steps=[json.loads(line) for line in self._logged_steps.lines],
                val=val,
                early_stopping=self._values["recipe"]["early_stopping"],
                finished=finished,
                **self.facts,
            )
        )

    def _write(self, name: str, lines: Sequence[str]) -> None:
        if lines or (self.folder / name).exists():
            write_text(self.folder / name, "".join(lines))

    def finish(self, results: Mapping[str, Any], tested: Evaluation | None, test: Split, step: int) -> None:
        """results.json, pictures of the test, and the hyper-parameters with what came of them."""
        if tested:
            if not math.isfinite(results["test"]["loss"]):
                raise NumericalError(f"the test loss is {results['test']['loss']}; try a lower recipe.optimizer.lr")
            self._test(tested, test, step)
        if busy := describe_contention(results["contention_share"], get_num_threads()):
            self.say(f"     note: {busy}")
        measured = [part for part in ("test", "val") if results[part]]
        final = {f"{part}/{key}": results[part][key] for part in measured for key in (self._task.headline, "loss")}
        run = {key: value for key, value in self._values["run"].items() if key not in ("output", "name", "data_root")}
        self._tensorboard.hyperparameters(
            {**self._values, "run": run}, {f"final/{key}": value for key, value in final.items()}, step
        )
        self._tensorboard.flush()
        write_text(self.folder / "results.json", to_json(results) + "\n")  # last: a run that has it is finished

    def _test(self, tested: Evaluation, test: Split, step: int) -> None:
        """What became of the test images, as pictures."""
        if tested.remark:
            self.say(f"     note: {tested.remark}")
        if tested.confusion:
            self._tensorboard.picture(step, "test/confusion", confusion_picture(tested.confusion, tested.class_names))
        worst = tested.worst_mistakes(_NUM_PICTURES).tolist()
        if worst:
            captions = [f"{tested.caption(position)}\n{test.names[position]}" for position in worst]
            self._tensorboard.picture(step, "test/worst_mistakes", image_grid(test.items(worst), captions))

    def close(self) -> None:
        """Closes the event file."""
        self._tensorboard.close()
