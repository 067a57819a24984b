"""What arrives at a network is said once, and is what the preprocessing gives."""

import torch

from cnntrain.data.inputs import Inputs, image_inputs
from cnntrain.data.preprocessing import Preprocessing


def test_a_preprocessing_gives_the_inputs_that_it_names() -> None:
    preprocessing = Preprocessing(3, 8, 10, "crop", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    batch = preprocessing.network_input(torch.zeros(2, 3, 10, 10, dtype=torch.uint8))
    assert (batch.shape[1:], batch.dtype) == (preprocessing.inputs.shape, preprocessing.inputs.dtype)


def test_the_size_of_inputs_may_have_any_number_of_sides() -> None:
    assert (image_inputs(1, 28).channels, image_inputs(1, 28).size) == (1, (28, 28))
    assert (Inputs("series", (12, 5000)).channels, Inputs("series", (12, 5000)).size) == (12, (5000,))
    assert Inputs("volume", (1, 64, 64, 32)).size == (64, 64, 32)
