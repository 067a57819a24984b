"""Two runs on the same test images."""

import csv
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from cnntrain.errors import CheckpointError
from cnntrain.runs.run_records import RunRecords
from cnntrain.tasks.intervals import Interval, difference_interval

Right = npt.NDArray[np.bool_]
_FEWEST_DISCORDANT = 6  # images on which one run alone is right, below which McNemar's test can never tell


@dataclass(frozen=True)
class Difference:
    """How much more accurate the second of two runs is, on the same test images.

    Attributes:
        p_value: Of McNemar's exact test: how likely chance alone parts them so far.
        num_discordant: Images on which one of the two alone is right.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p_value: float
    num_discordant: int

    @property
    def is_clear(self) -> bool:
        """Whether chance hardly explains it."""
        return self.p_value < 0.05

    @property
    def can_tell(self) -> bool:
        """Whether any outcome of the test could have been clear."""
        return self.num_discordant >= _FEWEST_DISCORDANT


def mcnemar(first: str, before: Right, second: str, after: Right) -> Difference:
    """Compares two runs image by image, by McNemar's test in its exact form.

    Args:
        first: What the first is called.
        before: bool (N,), whether it was right.
        second: What the second is called.
        after: bool (N,), likewise, on the same images in the same order.
    """
    lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
    p_value = float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
    interval = difference_interval(gained, lost, len(before))
    return Difference(first, second, (gained - lost) / len(before), interval, p_value, lost + gained)


_ANEW = "remove it, or write it anew: cnntrain report RUN"


def kept_predictions(records: RunRecords) -> Right | None:
    """Whether each test image was right; None where the run kept no predictions, or those of other weights.

    Raises:
        CheckpointError: The table is damaged.
    """
    path, right = records.folder / "predictions.csv", list[bool]()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            for row in rows:
                if row.get("label") is None or row.get("predicted") is None:
                    raise CheckpointError(f"{path}:{rows.line_num}: damaged: no label or no prediction; {_ANEW}")
                right.append(row["label"] == row["predicted"])
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{path}:{len(right) + 2}: damaged or unreadable ({error}); {_ANEW}") from error
    marks = np.array(right, dtype=bool)
    test = records.results["test"]
    support = test["num_images"]
    return marks if len(marks) == support and marks.sum() == round(test["accuracy"] * support) else None
