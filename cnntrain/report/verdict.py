"""What a run comes to, in a few sentences."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cnntrain.metrics import is_guessing
from cnntrain.pages import percent
from cnntrain.report.findings import Findings

_WELL_CALIBRATED, _BADLY_CALIBRATED = 0.03, 0.1


class Sentence(NamedTuple):
    """A sentence of the verdict.

    Attributes:
        tone: `good`, `warn` or `bad`, or empty.
        text: The sentence.
    """

    tone: str
    text: str


def verdict(results: Mapping[str, Any], findings: Findings | None) -> list[Sentence]:
    """The sentences that come first on the page.

    Args:
        results: Of results.json.
        findings: Of the images, where they are at hand.
    """
    found = [_beside_guessing(results["test"])]
    found += _reach(results)
    if findings:
        found += _trust(findings)
    if pairs := results["test"]["most_confused"]:
        truth, said, count = (pairs[0][key] for key in ("true", "predicted", "count"))
        times = "once" if count == 1 else f"{count:,} times"
        found.append(Sentence("", f"Most often, {truth} is taken for {said} ({times})."))
    return found


def _beside_guessing(test: Mapping[str, Any]) -> Sentence:
    support = [row["support"] for row in test["per_class"]]
    always = f"naming the most frequent class would be right for {percent(max(support) / sum(support))}"
    if guesses(test):
        return Sentence("bad", f"No better than guessing: {always}.")
    return Sentence("good", f"Better than guessing: {always}.")


def guesses(test: Mapping[str, Any]) -> bool:
    """Whether a network is hardly better than one that always names the most frequent class."""
    return is_guessing(test["accuracy"], [row["support"] for row in test["per_class"]])


def _reach(results: Mapping[str, Any]) -> Iterator[Sentence]:
    val, test = results["val"], results["test"]
    mean = (val["accuracy"] + test["accuracy"]) / 2
    deviation = math.sqrt(mean * (1 - mean) * (1 / val["num_images"] + 1 / test["num_images"]))
    if abs(val["accuracy"] - test["accuracy"]) > 3 * deviation:
        text = (
            f"Validation ({percent(val['accuracy'])}) and test ({percent(test['accuracy'])}) differ by more than chance"
        )
        yield Sentence("warn", f"{text}: they may differ in kind, or validation was looked at too often.")
    identity = results.get("splits", {}).get("test", {})
    copies = identity.get("same_pixels_in_train", identity.get("also_in_train", 0))
    if copies:
        yield Sentence(
            "bad", f"{copies:,} test images are also in the training set, which makes the accuracy too high."
        )
    elif "splits" in results:
        how = "pixel for pixel" if "same_pixels_in_train" in identity else "byte for byte"
        yield Sentence("good", f"No test image is in the training set, {how}.")


def _trust(findings: Findings) -> Iterator[Sentence]:
    found = findings.calibration
    before, after = found.before.expected_calibration_error, found.after.expected_calibration_error
    error = after if found.saved else before
    measured = f"expected calibration error {percent(error)}"
    if error < _WELL_CALIBRATED:
        yield Sentence("good", f"Its confidence can be taken at its word ({measured}).")
    elif error <= found.by_chance:
        text = f"Whether its confidence can be taken at its word, {len(findings.test.targets):,} images cannot tell"
        yield Sentence("", f"{text} ({measured}, of which chance alone explains {percent(found.by_chance)}).")
    else:
        how = "more" if findings.test.confidences.mean() > findings.test.right.mean() else "less"
        mends = not found.saved and after < before
        advice = "; recipe.temperature_scaling mends what it can" if mends else ""
        text = f"It is {how} sure than it is right ({measured}){advice}."
        yield Sentence("bad" if error > _BADLY_CALIBRATED else "warn", text)
    if findings.robustness:
        robust = findings.robustness
        text = f"Of {robust.num_images:,} test images, {percent(robust.clean)} are right as they are"
        left = f"{percent(robust.mean_corrupted)} when corrupted (mean), {percent(robust.attacked['PGD'][3])} when an"
        yield Sentence("", f"{text}, {left} opponent changes pixels by at most 8 of 255 (PGD).")
