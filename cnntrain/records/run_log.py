"""The record of one run: console, metrics.jsonl, signals.jsonl and TensorBoard."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, get_num_threads

from cnntrain.config.loading import Config, dump_config
from cnntrain.data import Split, Splits
from cnntrain.data.batches import Batch
from cnntrain.doctor import Signals, Verdict, examine
from cnntrain.errors import NumericalError
from cnntrain.names import printable
from cnntrain.progress import EpochFigures, EpochSums
from cnntrain.records.console import Console, percent
from cnntrain.records.files import json_text, to_json, write_text
from cnntrain.records.pictures import confusion_picture, image_grid
from cnntrain.records.signal_lines import SignalLines
from cnntrain.records.tensorboard import TensorBoard, cut_back
from cnntrain.runtime.load import Contention, describe_contention
from cnntrain.tasks.metrics import SingleLabelEvaluation, is_guessing

SUMMARY_METRICS = ("loss", "accuracy", "top5_accuracy", "balanced_accuracy", "macro_f1")
NOTHING_LOGGED: dict[str, Any] = {"epochs": [], "lines": [], "event_files": {}}
_NUM_PICTURES = 32


class RunLog:
    """Writes down what happens, for people and for TensorBoard.

    Attributes:
        epochs: The figures of those that are done.
        contention: Since the beginning.
        facts: What the doctor needs to know of the data, and results.json keeps for it: `chance_loss`, `class_counts`.

    Args:
        folder: The run folder.
        config: As resolved; it is written to config.yaml.
        console: Where lines and bars go.
    """

    def __init__(self, folder: Path, config: Config, console: Console) -> None:
        self.folder = folder
        self.config = config
        self.console = console
        self.epochs: list[EpochFigures] = []
        self.contention = Contention()
        self.facts: dict[str, Any] = {}
        self._lines: list[str] = []
        self._signals = SignalLines()
        self._told: list[str] = []  # kinds of verdicts
        self._last_step = (math.nan, math.nan, math.nan)
        self._to_draw: tuple[Batch, Splits] | None = None
        write_text(folder / "config.yaml", dump_config(config))
        self._tensorboard = TensorBoard(folder, enabled=config.run.tensorboard)

    def state_dict(self) -> dict[str, Any]:
        """Plain values from which the record can go on; what was logged until now is written."""
        self._write("signals.jsonl", self._signals.lines)
        self._draw_first_batch()
        return {
            "epochs": [asdict(figures) for figures in self.epochs],
            "lines": list(self._lines),
            "signals": self._signals.state_dict(),
            "told": list(self._told),
            "event_files": self._tensorboard.flush(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes the record back to where `state_dict` was taken."""
        self.close()
        cut_back(self.folder, state["event_files"])
        self._tensorboard = TensorBoard(self.folder, enabled=self.config.run.tensorboard)
        self.epochs = [EpochFigures(**figures) for figures in state["epochs"]]
        self._lines, self._signals, self._told = list(state["lines"]), SignalLines(), []
        if "signals" in state:  # else of a version without them
            self._signals.load_state_dict(state["signals"])
            self._told = list(state["told"])
        self._write("metrics.jsonl", self._lines)
        self._write("signals.jsonl", self._signals.lines)

    def data(self, splits: Splits, chance_loss: float) -> None:
        """Takes note of the images, and names those that could not be read, and why, in skipped_images.txt."""
        counts = splits.train.targets.bincount(minlength=splits.num_classes).tolist()
        self.facts = {"chance_loss": chance_loss, "class_counts": dict(zip(splits.class_names, counts, strict=True))}
        if lines := [fault for part in splits.skipped.values() for fault in part]:
            write_text(self.folder / "skipped_images.txt", "\n".join(lines) + "\n")

    def bar(self, steps: range, epoch: int, sums: EpochSums) -> Iterable[int]:
        """The steps of an epoch, with a bar where there is a terminal, else with a line now and then."""

        def detail() -> str:  # the host waits for the device here
            if not sums.num_images:
                return "no loss yet"
            return f"loss {float(sums.loss / sums.weight):.4f}, {sums.num_images / sums.seconds:,.0f} images/s"

        epochs = self.config.recipe.epochs
        what, after = f"epoch {epoch}/{epochs}, step", (epochs - epoch) * steps.stop
        return self.console.progress(steps, steps.stop, what, first=steps.start, after=after, detail=detail)

    def begin_epoch(self, *news: str) -> None:
        """Lines on the console; empty ones say nothing."""
        for line in filter(None, news):
            self.console.say(f"     {line}")

    def step(
        self, step: int, epoch: int, loss: float, learning_rate: float, norms: Mapping[str, Mapping[str, float]]
    ) -> None:
        """What a logged training step shows; norms by kind and layer, as `StepNorms.by_layer` gives them."""
        self._last_step = (loss, learning_rate, math.hypot(*norms["gradient_norm"].values()))
        finite = {  # float16 skips a step now and then
            kind: {layer: norm for layer, norm in layers.items() if math.isfinite(norm)}
            for kind, layers in norms.items()
        }
        scalars = {f"{kind}/{layer}": norm for kind, layers in finite.items() for layer, norm in layers.items()}
        self._tensorboard.scalars(step, {"train/loss_step": loss, "learning_rate": learning_rate, **scalars})
        rounded = {
            kind: {layer: float(f"{norm:.4g}") for layer, norm in layers.items()} for kind, layers in finite.items()
        }
        self._signals.add({"step": step, "epoch": epoch, "loss": loss, "learning_rate": learning_rate, **rounded})

    def first_step(self, batch: Batch, splits: Splits, loss_at_chance: float, num_steps: int) -> None:
        """Names steps 3 to 7 with the figures of the first batch, and keeps it to be drawn."""
        recipe, (loss, learning_rate, norm) = self.config.recipe, self._last_step
        say = self.console.step
        say(3, "forward", f"images {tuple(batch.images.shape)} -> logits {(len(batch.images), splits.num_classes)}")
        say(4, "loss", f"{recipe.loss.name} {loss:.4f} ({loss_at_chance:.4f} at chance)")
        say(5, "backward", f"gradient norm {norm:.4g}")
        say(6, "update", f"{recipe.optimizer.name}, learning rate {learning_rate:.3g} of {recipe.optimizer.lr:g}")
        say(7, "iteration", f"{num_steps:,} steps an epoch, {recipe.epochs} epochs at most, {recipe.schedule.name}")
        self._to_draw = Batch(batch.images[:_NUM_PICTURES], batch.targets[:_NUM_PICTURES]), splits

    def first_epoch(self, splits: Splits) -> None:
        """Names step 8, and draws the first images as the network saw them."""
        on = f"on {len(splits.val):,} validation images after each epoch" if len(splits.val) else "left out"
        self.console.step(8, "evaluation", on)
        self._draw_first_batch()

    def _draw_first_batch(self) -> None:
        """Once: after the first epoch, or before what is saved in it, for who goes on from there has not seen it."""
        if self._to_draw:
            (images, targets), splits = self._to_draw
            captions = [_caption(target, splits.class_names) for target in targets.cpu()]
            grid = image_grid(splits.preprocessing.show(images).numpy(), captions)
            self._tensorboard.picture(0, "train/augmented", grid)
            self._to_draw = None

    def epoch(
        self,
        epoch: int,
        figures: EpochFigures,
        val: Mapping[str, Any],
        *,
        step: int,
        learning_rate: float,
        best: bool,
        dead: Mapping[str, float],
    ) -> None:
        """A line on the console, a line in metrics.jsonl, and curves.

        Args:
            epoch: From 1.
            figures: Of its training.
            val: Metrics of its validation.
            step: Updates so far.
            learning_rate: Of the last one.
            best: Whether it is the best so far.
            dead: The share of dead units after each ReLU, where they were looked for.
        """
        self.epochs.append(figures)
        train = {"loss": figures.loss, "accuracy": figures.accuracy} if figures.num_images else {}
        summary = {key: val[key] for key in SUMMARY_METRICS if key in val}
        speed = {"images_per_second": figures.images_per_second, "data_share": figures.data_share}
        epochs = self.config.recipe.epochs
        spoken = f"  val loss {val['loss']:.4f} acc {percent(val['accuracy']):>8}" if val else ""
        self.console.say(
            f"epoch {epoch:{len(str(epochs))}d}/{epochs}"
            f"  train loss {figures.loss:.4f} acc {percent(figures.accuracy):>8}"
            f"{spoken}"
            f"  lr {learning_rate:<7.3g} {figures.images_per_second:>7,.0f} images/s"
            f"  data {figures.data_share:3.0%}{'  best' if best and val else ''}"
        )
        line = {"epoch": epoch, "step": step, "train": train, "val": summary, "learning_rate": learning_rate}
        line |= {"seconds": figures.seconds, **speed, "best": best, "time": time.time()}
        line |= {"dead_relus": {layer: round(share, 4) for layer, share in dead.items()}} if dead else {}
        self._lines.append(json_text(line) + "\n")
        scalars = {f"train/{key}": value for key, value in train.items()}
        scalars |= {f"val/{key}": value for key, value in summary.items()}
        scalars |= {f"dead_relus/{layer}": share for layer, share in dead.items()}
        scalars |= {f"speed/{key}": value for key, value in speed.items()}
        self._tensorboard.scalars(step, {**scalars, "epoch": epoch})
        self._write("metrics.jsonl", self._lines)
        for verdict in self._examine(val):
            if verdict.kind not in self._told:
                self._told.append(verdict.kind)
                self.console.say(f"     doctor: {verdict.finding}", f"             try {verdict.advice}")
                self._tensorboard.text(step, f"doctor/{verdict.kind}", f"{verdict.finding} Try {verdict.advice}.")

    def verdicts(self, val: Mapping[str, Any]) -> list[Verdict]:
        """What the doctor says at the end, on the console too.

        Args:
            val: Validation metrics of the best epoch.
        """
        found = self._examine(val, finished=True)
        for verdict in found:
            advice = [] if verdict.kind in self._told else [f"             try {verdict.advice}"]
            self.console.say(f"     doctor, at the end: {verdict.finding}", *advice)
        return found

    def _examine(self, val: Mapping[str, Any], *, finished: bool = False) -> list[Verdict]:
        stopping = self.config.recipe.early_stopping
        return examine(
            Signals(
                epochs=[json.loads(line) for line in self._lines],
                steps=[json.loads(line) for line in self._signals.lines],
                val=val,
                early_stopping=stopping.model_dump() if stopping else None,
                finished=finished,
                **self.facts,
            )
        )

    def _write(self, name: str, lines: Sequence[str]) -> None:
        if lines or (self.folder / name).exists():
            write_text(self.folder / name, "".join(lines))

    def finish(self, results: Mapping[str, Any], tested: SingleLabelEvaluation | None, test: Split, step: int) -> None:
        """results.json, the confusion matrix, the worst mistakes, and the hyper-parameters with what came of them."""
        if tested:
            if not math.isfinite(results["test"]["loss"]):
                raise NumericalError(f"the test loss is {results['test']['loss']}; try a lower recipe.optimizer.lr")
            self._test(tested, test, step)
        if busy := describe_contention(results["contention_share"], get_num_threads()):
            self.console.say(f"     note: {busy}")
        measured = [part for part in ("test", "val") if results[part]]
        final = {f"{part}/{key}": results[part][key] for part in measured for key in ("accuracy", "loss")}
        settings = self.config.model_dump(mode="json", exclude={"run": {"output", "name", "data_root"}})
        self._tensorboard.hyperparameters(settings, {f"final/{key}": value for key, value in final.items()}, step)
        self._tensorboard.flush()
        write_text(self.folder / "results.json", to_json(results) + "\n")  # last: a run that has it is finished

    def _test(self, tested: SingleLabelEvaluation, test: Split, step: int) -> None:
        """What became of the test images, as pictures."""
        if is_guessing(float((tested.predictions == tested.targets).mean()), tested.confusion.support.tolist()):
            told = f"as far as {len(tested.targets):,} test images tell, no better than naming the most frequent class"
            self.console.say(f"     note: {told}; try another learning rate or more epochs")
        self._tensorboard.picture(step, "test/confusion", confusion_picture(tested.confusion, tested.class_names))
        worst = tested.worst_mistakes(_NUM_PICTURES)
        if len(worst):
            captions = [
                f"said {printable(tested.class_names[tested.predictions[index]])} ({tested.confidences[index]:.0%})\n"
                f"is {printable(tested.class_names[tested.targets[index]])}\n{test.names[index]}"
                for index in worst
            ]
            images = test.items(worst.tolist())
            self._tensorboard.picture(step, "test/worst_mistakes", image_grid(images, captions))

    def close(self) -> None:
        """Closes the event file."""
        self._tensorboard.close()


def _caption(target: Tensor, class_names: Sequence[str]) -> str:
    if not target.is_floating_point():
        return printable(class_names[int(target)])
    shares = sorted(((share, name) for share, name in zip(target.tolist(), class_names, strict=True)), reverse=True)
    return "\n".join(f"{printable(name)}: {share:.0%}" for share, name in shares[:2] if share >= 0.005)
