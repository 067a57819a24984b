"""Labels that a network doubts."""

import numpy as np
import numpy.typing as npt

Probabilities = npt.NDArray[np.float32]


def suspected_labels(probabilities: Probabilities, targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Positions of images whose label is probably wrong, the most doubtful first.

    An image is suspected where the network is as sure of another class as it is, on average, of images that carry that
    class's label, and surer than of the image's own; they are ranked by how much likelier it finds that class than the
    label. Northcutt, Jiang and Chuang: "Confident learning: Estimating uncertainty in dataset labels", JAIR 2021,
    section 3.1.

    Args:
        probabilities: float32 (N, K), of images that were not trained on: of others a network knows the label by heart.
        targets: int64 (N,), the labels.
    """
    rows = np.arange(len(targets))
    of_label = probabilities[rows, targets]
    support = np.bincount(targets, minlength=probabilities.shape[1])
    usual = np.bincount(targets, weights=of_label, minlength=len(support)) / np.maximum(support, 1)
    usual[support == 0] = 1.1  # nothing is known of a class without images
    sure = np.where(probabilities >= usual, probabilities, 0)
    sure[rows, targets] = 0
    doubt = np.where(sure.max(1) > of_label, sure.max(1) - of_label, 0)
    order = np.argsort(-doubt, kind="stable")
    return order[doubt[order] > 0]
