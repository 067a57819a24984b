"""The images: whether they come in time, and what their numbers can tell."""

from statistics import median

from cnntrain.insight.doctor.observations import Observations, Verdict
from cnntrain.runtime.names import shortened
from cnntrain.tasks.evidence import num_correct
from cnntrain.tasks.intervals import wilson_interval

WAITING = 0.5  # share of the time of training that is spent on getting batches
MIN_SECONDS = 1.0  # an epoch: below, nobody waits

FEW = 0.25  # images of a class beside the largest class
LOW_RECALL = 0.2  # recall of a class, below the accuracy by this
HIDDEN = 0.05  # accuracy above balanced accuracy by this
MIN_SUPPORT = 3  # validation images of a class, to speak of its recall
LASTING = 3  # epochs, while training goes on: at first a network often knows the large classes alone

TELLING = 20  # validation images, below which the best epoch may be luck even where it stands out
WIDE = 0.1  # from an accuracy to what it may be by chance alone: so far with some 60 images, not with 100


def data_bound(observed: Observations) -> Verdict | None:
    """Whether training waits for its images."""
    epochs = observed.epochs[-3:]
    if not epochs or median(epoch["seconds"] for epoch in epochs) < MIN_SECONDS:
        return None
    share = median(epoch["data_share"] for epoch in epochs)
    if share < WAITING:
        return None
    return Verdict(
        "data_bound",
        "warning",
        f"Training waits for its images: {share:.0%} of the time of an epoch goes into getting batches.",
        {"data_share": share, "seconds": [epoch["seconds"] for epoch in epochs]},
        "data.storage: cache if images are decoded in every epoch, a smaller data.stored_size, more data.num_workers, "
        "fewer or cheaper data.augment (rotation, affine and color_jitter cost most); `cnntrain bench` has the parts",
    )


def class_imbalance(observed: Observations) -> Verdict | None:
    """Whether accuracy looks good because the large classes do."""
    if not observed.class_counts or not observed.val or not observed.epochs:
        return None
    pairs = zip(observed.val_metric("accuracy"), observed.val_metric("balanced_accuracy"), strict=True)
    gaps = [accuracy - balanced for accuracy, balanced in pairs][-LASTING:]
    accuracy, balanced = observed.val["accuracy"], observed.val["balanced_accuracy"]
    lasting = observed.finished or (len(gaps) == LASTING and min(gaps) > HIDDEN)
    largest = max(observed.class_counts.values())
    missed = {
        row["class"]: {
            "recall": row["recall"],
            "val_images": row["support"],
            "train_images": observed.class_counts[row["class"]],
        }
        for row in observed.val["per_class"]
        if row["support"] >= MIN_SUPPORT
        and row["recall"] < accuracy - LOW_RECALL
        and wilson_interval(num_correct(row), row["support"]).high < accuracy
        and observed.class_counts[row["class"]] <= FEW * largest
    }
    if not lasting or not missed or accuracy - balanced < HIDDEN:
        return None
    shown = ", ".join(
        f"{shortened(name)} ({figures['recall']:.0%} of {figures['val_images']:,} found, "
        f"{figures['train_images']:,} training images)"
        for name, figures in list(missed.items())[:3]
    )
    more = f" and {len(missed) - 3} more" if len(missed) > 3 else ""
    return Verdict(
        "class_imbalance",
        "warning",
        f"Accuracy hides small classes: {accuracy:.1%} of the validation images are right, but only {balanced:.1%} of "
        f"a class on average: {shown}{more}; the largest class has {largest:,}.",
        {"accuracy": accuracy, "balanced_accuracy": balanced, "classes": missed, "largest_class": largest},
        "more images of these classes, or recipe.balance: weights (or sampler); judge by "
        "recipe.early_stopping: {metric: balanced_accuracy}",
    )


def small_validation_set(observed: Observations) -> Verdict | None:
    """Whether epochs differ by less than chance alone would make them differ."""
    num_images, stopping = observed.val.get("num_images", 0), observed.early_stopping or {}
    if not num_images or len(observed.epochs) < LASTING:
        return None
    accuracies = observed.val_metric("accuracy")
    best, typical = max(accuracies), median(accuracies[len(accuracies) // 2 :])
    at_least = wilson_interval(round(best * num_images), num_images).low
    min_delta = stopping.get("min_delta", 0.0) if stopping.get("metric") != "loss" else 0.0
    tells_apart = at_least > typical and num_images >= TELLING
    if (at_least > best - WIDE or tells_apart) and not 0 < min_delta < 1 / num_images:
        return None
    return Verdict(
        "small_validation_set",
        "notice",
        f"{num_images:,} validation images cannot tell these epochs apart: one image is {1 / num_images:.1%}, and the "
        f"best epoch's {best:.1%} may be luck: a network that is right {at_least:.0%} of the time gets there.",
        {"num_images": num_images, "best": best, "at_least": at_least, "median": typical, "min_delta": min_delta},
        "a larger data.val_fraction, or compare several seeds (run.seed); recipe.early_stopping.metric: loss changes "
        "more smoothly, and min_delta below one image means nothing",
    )
