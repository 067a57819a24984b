import numpy as np
import pytest
import torch
from conftest import split_of
from PIL import Image

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.images.statistics import channel_statistics, count_levels
from cnntrain.data.images.tensors import centre_crop
from cnntrain.data.inputs import Inputs, image_inputs

WIDE = Image.fromarray(np.tile(np.repeat(np.array([0, 128, 255], dtype=np.uint8), 20), (30, 1)))  # 60 x 30, 3 bands


def make(resize: str, stored: int = 30, size: int = 30, channels: int = 1) -> Preprocessing:
    return Preprocessing(channels, size, stored, resize, (0.5,) * channels, (0.25,) * channels)


def test_crop_keeps_the_central_square() -> None:
    pixels = make("crop").fit(WIDE)
    assert pixels.shape == (30, 30, 1)
    assert pixels[0, [0, 15, 29], 0].tolist() == [0, 128, 255]
    assert (pixels == 128).sum() == 30 * 20


def test_squash_keeps_everything() -> None:
    pixels = make("squash").fit(WIDE)
    assert pixels[0, [0, 8, 15, 21, 29], 0].tolist() == [0, 0, 128, 255, 255]


def test_letterbox_adds_black_bars() -> None:
    pixels = make("letterbox").fit(WIDE)
    assert pixels[:7].max() == 0
    assert pixels[-7:].max() == 0
    assert pixels[15, 29, 0] == 255


def test_an_image_of_the_right_size_is_left_alone() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for resize in ("crop", "squash", "letterbox"):
        np.testing.assert_array_equal(make(resize, 16, 16, channels=3).fit(Image.fromarray(pixels)), pixels)


def test_statistics_are_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 8, 8, 3), dtype=np.uint8)
    mean, std = channel_statistics(count_levels(split_of(images)))
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)))
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)))


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    _, std = channel_statistics(count_levels(split_of(np.full((4, 8, 8, 1), 7, dtype=np.uint8))))
    assert std == (1 / 255,)


def test_normalise_is_torchvisions() -> None:
    from torchvision.transforms import functional as oracle

    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    fitting = Preprocessing(3, 8, 8, "crop", (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    expected = oracle.normalize(images.float() / 255, list(fitting.mean), list(fitting.std))
    torch.testing.assert_close(fitting.normalise(images), expected)
    torch.testing.assert_close(fitting.normalise(images.float() / 255), expected)


def test_show_undoes_normalise() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    fitting = make("crop", 8, 8, channels=3)
    assert torch.equal(fitting.show(fitting.normalise(images)), images.permute(0, 2, 3, 1))


@pytest.mark.parametrize(("stored", "size"), [(10, 10), (10, 8), (11, 8)])
def test_centre_crop_is_torchvisions(stored: int, size: int) -> None:
    from torchvision.transforms import functional as oracle

    images = torch.rand(2, 3, stored, stored)
    ours = centre_crop(images, size)
    assert ours.shape == (2, 3, size, size)
    if (stored - size) % 2 == 0:  # else torchvision rounds half to even
        assert torch.equal(ours, oracle.center_crop(images, [size, size]))


def test_it_survives_a_checkpoint() -> None:
    fitting = make("letterbox", 12, 10, channels=3)
    assert Preprocessing.from_dict(fitting.to_dict()) == fitting


def test_a_preprocessing_gives_the_inputs_that_it_names() -> None:
    preprocessing = Preprocessing(3, 8, 10, "crop", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    batch = preprocessing.network_input(torch.zeros(2, 10, 10, 3, dtype=torch.uint8))
    assert (batch.shape[1:], batch.dtype) == (preprocessing.inputs.shape, preprocessing.inputs.dtype)


def test_the_size_of_inputs_may_have_any_number_of_sides() -> None:
    assert (image_inputs(1, 28).channels, image_inputs(1, 28).size) == (1, (28, 28))
    assert (Inputs("series", (12, 5000)).channels, Inputs("series", (12, 5000)).size) == (12, (5000,))
    assert Inputs("volume", (1, 64, 64, 32)).size == (64, 64, 32)
