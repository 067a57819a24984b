"""The doctor: what is observed of a training says about it, in plain words, with what to try.

A healthy training hears nothing. Numbers come in, verdicts go out: nothing here is measured, drawn or trained.
"""

from cnntrain.doctor.examine import examine
from cnntrain.doctor.observations import Observations
from cnntrain.doctor.verdict import Verdict

__all__ = ["Observations", "Verdict", "examine"]
