"""The doctor: what the signals of a training say about it, in plain words, with what to try.

A healthy training hears nothing. Numbers come in, verdicts go out: nothing here is measured, drawn or trained.
"""

from cnntrain.doctor.examine import examine
from cnntrain.doctor.signals import Signals
from cnntrain.doctor.verdict import Verdict

__all__ = ["Signals", "Verdict", "examine"]
