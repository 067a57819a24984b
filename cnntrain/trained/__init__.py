"""A trained network in use: `load` reads a checkpoint, and what it gives predicts and is evaluated."""

from cnntrain.trained.predict import Prediction
from cnntrain.trained.trained import Trained, load, shared

__all__ = ["Prediction", "Trained", "load", "shared"]
