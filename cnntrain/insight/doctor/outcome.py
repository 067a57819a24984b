"""What came of the training: too close to its images, or not close enough."""

from statistics import median

from cnntrain.insight.doctor.observations import Observations, Verdict

# The validation loss now beside its lowest. Prechelt ("Early stopping - but when?", 1998) calls a rise of 5 % a loss of
# generality; a network that grows surer of itself reaches that while it still gets better, so more is asked for here.
RISEN = 1.2
RISEN_BY = 0.05  # and by this share of the loss at chance: on easy data small losses vary more
GAP = 0.6  # the training loss beside the validation loss: a network that remembers its images is far below
MIN_IMAGES = 30  # of validation, to be sure of it
MIN_EPOCHS_SINCE = 3  # since the lowest one; a median of as many is what counts as now

MIN_EPOCHS = 5  # before training is called too weak
POOR = 0.5  # losses above this share of the loss at chance
FLAT = 0.03  # relative fall of the training loss over the last quarter of the epochs, below which it learns no more
CLOSE = 0.8  # training loss beside validation loss, above which memory is not the matter


def overfitting(observed: Observations) -> Verdict | None:
    """Whether the validation loss has risen while the training loss went on falling."""
    if len(observed.epochs) <= MIN_EPOCHS_SINCE or not observed.chance_loss or not observed.is_validated:
        return None
    val, train = observed.val_metric("loss"), observed.train_losses
    best = val.index(min(val))
    now, train_now = median(val[-MIN_EPOCHS_SINCE:]), median(train[-MIN_EPOCHS_SINCE:])
    risen = now > RISEN * val[best] and now - val[best] > RISEN_BY * observed.chance_loss
    remembers = train_now < min(train[best], GAP * now)
    if len(val) - 1 - best < MIN_EPOCHS_SINCE or not risen or not remembers:
        return None
    epoch, num_images = observed.epochs[best]["epoch"], observed.val.get("num_images")
    few = num_images is not None and num_images < MIN_IMAGES
    doubt = f" Of {num_images:,} validation images, one that is very wrong makes as much of a rise." if few else ""
    return Verdict(
        "overfitting",
        "notice" if few else "warning",
        f"{'Perhaps overfitting' if few else 'Overfitting'} since epoch {epoch}: the validation loss rose from "
        f"{val[best]:.3g} to {now:.3g} while the training loss fell from {train[best]:.3g} to {train_now:.3g}.{doubt}",
        {
            "epoch": epoch,
            "num_val_images": num_images,
            "val_loss": [val[best], now],
            "train_loss": [train[best], train_now],
            "val_accuracy": [observed.val_metric("accuracy")[index] for index in (best, -1)],
        },
        "more images, stronger data.augment, more recipe.optimizer.weight_decay, recipe.loss.label_smoothing: 0.1, a "
        "smaller network, or recipe.early_stopping: {metric: loss, patience: 5}",
    )


def underfitting(observed: Observations) -> Verdict | None:
    """Whether a training that has ended learns no more, and does not know its own images."""
    chance, train = observed.chance_loss, observed.train_losses
    if not observed.finished or len(train) < MIN_EPOCHS or not chance or not observed.is_validated:
        return None
    quarter = max(2, len(train) // 4)
    before, now, val = train[-1 - quarter], train[-1], min(observed.val_metric("loss"))
    if min(now, val) < POOR * chance or now < (1 - FLAT) * before or now < CLOSE * val:
        return None
    return Verdict(
        "underfitting",
        "warning",
        f"The network fits its own training images badly: their loss is {now:.3g} (guessing gives {chance:.3g}), and "
        f"fell by {1 - now / max(before, now):.1%} in the last {quarter} epochs.",
        {"train_loss": now, "train_loss_before": before, "val_loss": val, "chance_loss": chance},
        "a larger network, more recipe.epochs, another recipe.optimizer.lr (`cnntrain lr-find`), less data.augment or "
        "recipe.optimizer.weight_decay; or look at the labels",
    )
