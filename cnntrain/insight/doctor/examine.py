"""All that the doctor looks for."""

from dataclasses import replace

from cnntrain.insight.doctor.data import class_imbalance, data_bound, small_validation_set
from cnntrain.insight.doctor.gradients import dead_relus, exploding_gradients, vanishing_gradients
from cnntrain.insight.doctor.learning import initial_loss, learning_rate_too_high, learning_rate_too_low
from cnntrain.insight.doctor.observations import Observations, Verdict
from cnntrain.insight.doctor.outcome import overfitting, underfitting

_CAUSES = (
    vanishing_gradients,
    exploding_gradients,
    dead_relus,
    initial_loss,
    learning_rate_too_high,
    learning_rate_too_low,
)
_OTHERS = (overfitting, data_bound, class_imbalance, small_validation_set)
_SEVERITIES = ("problem", "warning", "notice")


def examine(observed: Observations) -> list[Verdict]:
    """What the observations say, the worst first; nothing about a healthy training.

    Args:
        observed: Of a training that goes on or has ended.
    """
    trained = [epoch for epoch in observed.epochs if "loss" in epoch["train"]]  # else all its steps were left out
    observed = replace(observed, epochs=trained)
    verdicts = [verdict for look in _CAUSES if (verdict := look(observed))]
    if not verdicts and (verdict := underfitting(observed)):  # where a cause is known, that is said instead
        verdicts.append(verdict)
    verdicts += [verdict for look in _OTHERS if (verdict := look(observed))]
    return sorted(verdicts, key=lambda verdict: _SEVERITIES.index(verdict.severity))
