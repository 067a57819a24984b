"""What a run comes to, in a few sentences; none says more than the images can tell."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from scipy.stats import fisher_exact

from cnntrain.reports.findings import Findings
from cnntrain.reports.pages import percent
from cnntrain.tasks.evidence import counted, doubtful_classes
from cnntrain.tasks.intervals import spoken, widest_spread, wilson_interval
from cnntrain.tasks.metrics import confidence_intervals, is_guessing

_WELL_CALIBRATED, _BADLY_CALIBRATED = 0.03, 0.1
_KNOWN_WELL = 0.05  # how far mean confidence and accuracy may lie apart, where the former is to be trusted
_BEYOND_CHANCE = 0.003  # three standard deviations


class Sentence(NamedTuple):
    """A sentence of the conclusions.

    Attributes:
        tone: `good`, `warn` or `bad`, or empty.
        text: The sentence.
    """

    tone: str
    text: str


def conclusions(results: Mapping[str, Any], findings: Findings | None) -> list[Sentence]:
    """The sentences that come first on the page.

    Args:
        results: Of results.json.
        findings: Of the images, where they are at hand.
    """
    sentences = [_beside_guessing(results["test"])]
    if doubt := doubtful_classes(results["test"]):
        sentences.append(Sentence("warn", f"In test, {doubt}."))
    sentences += _reach(results)
    if findings:
        sentences += _trust(findings)
    sentences += _confused(results["test"])
    return sentences


def _beside_guessing(test: Mapping[str, Any]) -> Sentence:
    support, num_images = [row["support"] for row in test["per_class"]], test["num_images"]
    share = max(support) / sum(support)
    always = f"naming the most frequent class would be right for {percent(share)}"
    interval = confidence_intervals(test)["accuracy"]
    if share == 1:
        return Sentence("warn", "All test images are of one class: they cannot tell what the network knows of others.")
    if interval.low > share:
        return Sentence("good", f"Better than guessing: {always}.")
    if is_guessing(interval.high, support):
        return Sentence("bad", f"No better than guessing: {always}.")
    told = f"{counted(num_images, 'test image')} cannot tell it from guessing: {always}"
    return Sentence("bad" if guesses(test) else "warn", f"{told}, and the 95 % interval is {spoken(interval)}.")


def guesses(test: Mapping[str, Any]) -> bool:
    """Whether a network is hardly better than one that always names the most frequent class."""
    return is_guessing(test["accuracy"], [row["support"] for row in test["per_class"]])


def _reach(results: Mapping[str, Any]) -> Iterator[Sentence]:
    val, test = results["val"], results["test"]
    right = [round(part["accuracy"] * part["num_images"]) for part in (val, test)]
    wrong = [part["num_images"] - hits for part, hits in zip((val, test), right, strict=True)]
    if fisher_exact([right, wrong]).pvalue < _BEYOND_CHANCE:
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
    calibration, num_images = findings.calibration, len(findings.test.targets)
    before, after = calibration.before.expected_calibration_error, calibration.after.expected_calibration_error
    error = after if calibration.saved else before
    measured = f"expected calibration error {percent(error)}"
    off_by = findings.test.confidence_may_be_off_by
    cannot_tell = f"Whether its confidence can be taken at its word, {counted(num_images, 'image')} cannot tell"
    if error < _WELL_CALIBRATED and off_by < _KNOWN_WELL:
        tone = "good" if findings.test.right.mean() > 0.5 else ""  # to be unsure is no merit where most is wrong
        on = counted(num_images, "image")
        yield Sentence(tone, f"Its confidence can be taken at its word ({measured}, on {on}).")
    elif error < _WELL_CALIBRATED:
        yield Sentence("", f"{cannot_tell}: it and the accuracy may still lie {percent(off_by)} apart ({measured}).")
    elif error <= calibration.by_chance:
        yield Sentence(
            "", f"{cannot_tell} ({measured}, of which chance alone explains {percent(calibration.by_chance)})."
        )
    else:
        how = "more" if findings.test.confidences.mean() > findings.test.right.mean() else "less"
        mends = not calibration.saved and after < before and not _contains_one(findings)
        advice = "; recipe.temperature_scaling mends what it can" if mends else ""
        text = f"It is {how} sure than it is right ({measured}, on {counted(num_images, 'image')}){advice}."
        yield Sentence("bad" if error > _BADLY_CALIBRATED else "warn", text)
    if findings.robustness:
        robust = findings.robustness
        clean = wilson_interval(round(robust.clean * robust.num_images), robust.num_images)
        text = f"Of {counted(robust.num_images, 'test image')}, {percent(robust.clean)} are right as they are"
        left = f"{percent(robust.mean_corrupted)} when corrupted (mean), {percent(robust.attacked['PGD'][3])} when an"
        chance = f"chance moves each figure by up to {percent(widest_spread(robust.num_images))}"
        yield Sentence(
            "", f"{text} ({spoken(clean)}), {left} opponent changes pixels by at most 8 of 255 (PGD); {chance}."
        )


def _contains_one(findings: Findings) -> bool:
    low, high = findings.calibration.temperature_interval
    return low <= 1 <= high


def _confused(test: Mapping[str, Any]) -> Iterator[Sentence]:
    """The pair that is mistaken most often, if one is."""
    pairs = test["most_confused"]
    if not pairs:
        return
    truth, predicted, count = (pairs[0][key] for key in ("true", "predicted", "count"))
    support = sum(row["support"] for row in test["per_class"] if row["class"] == truth)
    others = sum(pair["count"] == count for pair in pairs[1:])
    if count == 1:
        yield Sentence("", "No class is taken for the same other one more than once.")
    elif others:
        yield Sentence(
            "", f"{truth} is taken for {predicted} ({count:,} of {support:,}), and other pairs are as often."
        )
    else:
        yield Sentence("", f"Most often, {truth} is taken for {predicted} ({count:,} of {support:,} times).")
