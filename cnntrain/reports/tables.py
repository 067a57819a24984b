"""The tables beside a report, as CSV for other programs."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from cnntrain.reports.findings import Findings, Outcome
from cnntrain.runtime.names import printable


def predictions_csv(test: Outcome, class_names: Sequence[str]) -> str:
    """A row for each test image."""
    rows = zip(test.split.names, test.targets, test.predictions, test.confidences, strict=True)
    return _csv(
        ("image", "label", "predicted", "confidence"),
        ((name, class_names[label], class_names[predicted], _spoken(share)) for name, label, predicted, share in rows),
    )


def suspects_csv(findings: Findings, class_names: Sequence[str]) -> str:
    """A row for each validation and test image whose label the network doubts, the most doubtful of each first."""

    def rows(part: str, outcome: Outcome) -> Iterator[tuple[str, ...]]:
        for position in findings.suspects[part]:
            label, predicted = int(outcome.targets[position]), int(outcome.predictions[position])
            shares = (_spoken(outcome.probabilities[position, known]) for known in (label, predicted))
            yield part, outcome.split.names[position], class_names[label], class_names[predicted], *shares

    header = ("split", "image", "label", "predicted", "probability_of_label", "probability_of_predicted")
    return _csv(header, [*rows("val", findings.val), *rows("test", findings.test)])


def _spoken(share: float) -> str:
    return f"{share:.6f}"


def _csv(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(map(_cell, row) for row in rows)
    return buffer.getvalue()


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that begins like it gets an apostrophe before it."""
    text = printable(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") and not text[1:].replace(".", "", 1).isdecimal() else text
