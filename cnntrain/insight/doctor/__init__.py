"""The doctor: what is observed of a training says about it, in plain words, with what to try.

A healthy training hears nothing. Numbers come in, verdicts go out: nothing here is measured, drawn or trained.
"""

from cnntrain.insight.doctor.examine import examine
from cnntrain.insight.doctor.observations import Observations, Verdict

__all__ = ["Observations", "Verdict", "examine"]
