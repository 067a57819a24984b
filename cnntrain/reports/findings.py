"""What there is to say about a run, as numbers: gathered from its records, its weights and its images."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cnntrain.data.batches import eval_batches
from cnntrain.data.reporter import Reporter
from cnntrain.data.split import Split
from cnntrain.errors import CheckpointError, DataError
from cnntrain.insight.calibration import Reliability, calibration_error_by_chance, reliability
from cnntrain.insight.labels import suspected_labels
from cnntrain.insight.robustness import PASSES_PER_IMAGE, Robustness, robustness
from cnntrain.models.summary import summarise
from cnntrain.tasks.evaluation import network_outputs
from cnntrain.tasks.intervals import Interval, wilson_interval
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.tasks.task import NOT_FINITE
from cnntrain.tasks.temperature import fit_temperature, temperature_interval
from cnntrain.trained import Trained
from cnntrain.trained.evaluate import find_split

# What robustness may cost unless more was asked for, in multiply-adds: about half a minute of two cores.
_BUDGET = {"cpu": 1e12, "cuda": 2e13}
_MOST_IMAGES, _FEWEST_IMAGES = 500, 50
_COMPARABLE = 5  # images of a class, to say what is usual for it


@dataclass(frozen=True)
class Outcome:
    """What a network made of a split.

    Attributes:
        split: Its images.
        outputs: float32 (N, K), on the CPU; as the network gives them, whatever the temperature.
        probabilities: float32 (N, K), with the saved temperature.
        targets: int64 (N,).
    """

    split: Split
    outputs: Tensor
    probabilities: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]

    @cached_property
    def predictions(self) -> npt.NDArray[np.int64]:
        """The likeliest class, int64 (N,)."""
        predictions: npt.NDArray[np.int64] = self.probabilities.argmax(1)
        return predictions

    @cached_property
    def confidences(self) -> npt.NDArray[np.float32]:
        """Its probability, float32 (N,)."""
        confidences: npt.NDArray[np.float32] = self.probabilities.max(1)
        return confidences

    @cached_property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether it is the label, bool (N,)."""
        right: npt.NDArray[np.bool_] = self.predictions == self.targets
        return right

    @property
    def confidence_may_be_off_by(self) -> float:
        """How far mean confidence and accuracy may lie apart, as far as so many images can tell (95 %)."""
        interval = wilson_interval(int(self.right.sum()), len(self.right))
        return max(abs(float(self.confidences.mean()) - end) for end in interval)

    @property
    def num_comparable(self) -> int:
        """Images whose label has so many images here that it can be judged what is usual for it."""
        support = np.bincount(self.targets)
        return int(support[support >= _COMPARABLE].sum())


@dataclass(frozen=True)
class Calibration:
    """How sure the network is beside how right it is, on test images.

    Attributes:
        temperature: Fitted on validation images, of outputs as the network gives them.
        temperature_interval: What it may be, as far as these tell.
        saved: Whether the checkpoint carries a temperature.
        before: With temperature 1.
        after: With the fitted one.
        by_chance: The calibration error that so many images show of a network that has none.
    """

    temperature: float
    temperature_interval: Interval
    saved: bool
    before: Reliability
    after: Reliability
    by_chance: float


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows of images; absent where the images are not at hand.

    Attributes:
        suspects: By split, positions of images whose label the network doubts, the most doubtful first.
        robustness: Of some test images; None where it was left out.
        robustness_left_out: Why, in words.
    """

    val: Outcome
    test: Outcome
    calibration: Calibration
    suspects: dict[str, npt.NDArray[np.int64]]
    robustness: Robustness | None = None
    robustness_left_out: str = ""


def find(trained: Trained, *, data_root: str | None, reporter: Reporter, num_robustness: int | None = None) -> Findings:
    """Looks at the validation and test images with a trained network.

    Args:
        trained: The network.
        data_root: Where data sets live, if not where they were in training.
        reporter: Tells the user what takes its time.
        num_robustness: Test images to attack and corrupt; None takes as many as are quickly done, 0 none.

    Raises:
        CheckpointError: The network's outputs are no finite numbers.
        DataError: The images are missing, or not those of the run.
    """
    val, test = (_outcome(trained, name, data_root, reporter) for name in ("val", "test"))
    findings = Findings(
        val=val,
        test=test,
        calibration=_calibration(trained, val, test),
        suspects={
            name: suspected_labels(outcome.probabilities, outcome.targets)
            for name, outcome in (("val", val), ("test", test))
        },
    )
    num_images, why_none = _robustness_images(trained, len(test.targets), num_robustness)
    if not num_images:
        return replace(findings, robustness_left_out=why_none)
    reporter.say(f"     robustness: attacking and corrupting {num_images:,} test images")
    chosen = torch.from_numpy(np.random.default_rng(0).permutation(len(test.targets))[:num_images])
    images, targets = next(test.split.read(chosen, [slice(None)]))
    outcome = robustness(
        trained.network, images.clone(), targets, preprocessing=trained.preprocessing, task=trained.task
    )
    return replace(findings, robustness=outcome)


def _outcome(trained: Trained, name: str, data_root: str | None, reporter: Reporter) -> Outcome:
    split, _, _, is_as_recorded = find_split(trained, name, data_root=data_root, reporter=reporter)
    if not is_as_recorded:
        raise DataError(
            f"these are not the {name} images of the run ({len(split):,} found, "
            f"{trained.header.split(name)['num_images']:,} recorded; their sha256 differs); figures of others would "
            f"not belong to it"
        )
    batches = eval_batches(split, trained.preprocessing, trained.header.eval_batch_size)
    outputs = torch.cat([some.cpu() for some, _ in network_outputs(trained.network, batches)])
    if not torch.isfinite(outputs).all():
        raise CheckpointError(NOT_FINITE)
    return Outcome(split, outputs, trained.task.activation(outputs).numpy(), split.targets.cpu().numpy())


def _calibration(trained: Trained, val: Outcome, test: Outcome) -> Calibration:
    outputs, targets = val.outputs, torch.from_numpy(val.targets)
    temperature = fit_temperature(outputs, targets)
    likely = temperature_interval(outputs, targets, temperature)
    by_chance = calibration_error_by_chance(test.confidences)
    task = trained.task
    before, after = (_reliability(test, replace(task, temperature=divisor)) for divisor in (1.0, temperature))
    return Calibration(temperature, likely, task.temperature != 1, before, after, by_chance)


def _reliability(outcome: Outcome, task: SingleLabel) -> Reliability:
    confidences, predictions = task.activation(outcome.outputs).max(1)
    return reliability(confidences.numpy(), predictions.numpy() == outcome.targets)


def _robustness_images(trained: Trained, num_test: int, asked: int | None) -> tuple[int, str]:
    """How many test images, and if none, why."""
    if asked is not None:
        return min(asked, num_test), "it was not asked for"
    cost = PASSES_PER_IMAGE * summarise(trained.network, trained.preprocessing.inputs).totals.multiply_adds
    affordable = int(_BUDGET["cuda" if trained.device.type == "cuda" else "cpu"] / max(cost, 1))
    if affordable < _FEWEST_IMAGES:
        long = f"{cost / 1e9:,.0f} billion multiply-adds"
        return 0, f"all attacks and corruptions of one image take {long} with this network"
    return min(affordable, num_test, _MOST_IMAGES), ""
