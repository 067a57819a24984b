"""Where training starts, and how large its steps are."""

import math
from statistics import median

from cnntrain.insight.doctor.gradients import MIN_LINES
from cnntrain.insight.doctor.observations import Line, Observations, Verdict

# The first loss beside that of a network that knows nothing, ln K. Kaiming's initial weights, batch norm and small
# batches give up to 1.3 (measured on the networks that are shipped); `cnntrain check` calls 2 "far off" too.
FAR_FROM_CHANCE = 2.0

# A network has learnt nothing while its training loss is above this share of the loss at chance.
AT_CHANCE = 0.97

# Ratio of an update to the weights, where 1e-3 is healthy (Karpathy, CS231n, "Neural networks 3"). Trainings that go
# well have 0.05 and more at the height of their schedule, and shortly 0.2.
WILD_UPDATE = 0.1
WILD_STEPS = 3
# Of the layer that moves most, in the median. Healthy trainings have 2e-3 to 2e-2, so this is a twentieth.
TINY_UPDATE = 1e-4
HARDLY_FELL = 0.9  # the training loss, beside that of the first epoch

RISEN = 1.5  # a training loss beside the best one before, and
RISEN_BY = 0.1  # by this share of the loss at chance: small losses vary more


def initial_loss(observed: Observations) -> Verdict | None:
    """Whether the first loss is far above that of guessing."""
    if not observed.steps or observed.steps[0]["step"] != 1 or not observed.chance_loss:
        return None
    loss, chance = observed.steps[0]["loss"], observed.chance_loss
    if loss <= FAR_FROM_CHANCE * chance:
        return None
    return Verdict(
        "initial_loss",
        "warning",
        f"The first loss is {loss:.3g}, and guessing gives {chance:.3g}: the network begins by being sure of what is "
        f"wrong.",
        {"initial_loss": loss, "chance_loss": chance},
        "look at model.init (the last layer's weights are too large) and at data.mean and data.std "
        "(`cnntrain check` shows them)",
    )


def learning_rate_too_high(observed: Observations) -> Verdict | None:
    """Whether updates threw the weights so far that the loss rose, or never fell."""
    losses, chance = observed.train_losses, observed.chance_loss
    if len(losses) < 2 or not chance or not observed.steps:
        return None
    best, now = min(losses[:-1]), losses[-1]
    wild = [line for line in observed.steps if _largest_ratio(line) > WILD_UPDATE]
    if now > RISEN * best and now - best > RISEN_BY * chance:
        epoch = observed.epochs[losses.index(best)]["epoch"]
        finding = f"The training loss rose from {best:.3g} in epoch {epoch} to {now:.3g}"
    elif now >= AT_CHANCE * chance and len(wild) >= WILD_STEPS:
        finding = f"The training loss is {now:.3g} after {len(losses)} epochs, no better than guessing"
    else:
        return None
    largest = max(observed.steps, key=_largest_ratio)
    return Verdict(
        "learning_rate_too_high",
        "problem",
        f"{finding}, and updates were as large as {_largest_ratio(largest):.2g} of the weights (1e-3 is healthy): the "
        f"learning rate is too high.",
        {
            "train_losses": losses,
            "chance_loss": chance,
            "largest_update_ratio": _largest_ratio(largest),
            "step": largest["step"],
        },
        "a lower recipe.optimizer.lr (a tenth; `cnntrain lr-find` suggests one), a warm-up "
        "(recipe.schedule.warmup_fraction: 0.1) or recipe.clip_grad_norm: 1.0",
    )


def learning_rate_too_low(observed: Observations) -> Verdict | None:
    """Whether no layer moves, and the loss hardly falls."""
    losses, chance = observed.train_losses, observed.chance_loss
    if len(losses) < 2 or len(observed.steps) < MIN_LINES or not chance or _rate_rises(observed):
        return None
    ratio = median(_largest_ratio(line) for line in observed.recent_steps)
    if ratio >= TINY_UPDATE or losses[-1] < HARDLY_FELL * losses[0] or losses[-1] < 0.5 * chance:
        return None
    return Verdict(
        "learning_rate_too_low",
        "problem",
        f"The training loss went from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} epochs, and updates are "
        f"{ratio:.1e} of the weights (1e-3 is healthy): the learning rate is too low.",
        {"train_losses": losses, "median_update_ratio": ratio},
        "a higher recipe.optimizer.lr: ten times this one, or what `cnntrain lr-find` suggests",
    )


def _largest_ratio(line: Line) -> float:
    """Of any layer."""
    return max(line["update_ratio"].values(), default=0.0)


def _rate_rises(observed: Observations) -> bool:
    """Whether this is still the warm-up."""
    middle = observed.steps[-1]["step"] / 2
    rates = [line["learning_rate"] for line in observed.steps if line["step"] <= max(1, middle)]
    earlier = max(rates, default=math.inf)  # of a run that went on from a version that logged no steps, none are known
    return bool(observed.steps[-1]["learning_rate"] > 1.05 * earlier)
