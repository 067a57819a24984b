"""Augmentation against torchvision's as an oracle, and its independence of the batch."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from conftest import split_of
from pydantic import TypeAdapter
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as oracle

from cnntrain.data.batches import epoch_order, eval_batches, steps_per_epoch, train_batches
from cnntrain.data.images.augmentations import Augmentation
from cnntrain.data.images.augmentations.affine import AffineMap
from cnntrain.data.images.augmentations.color_jitter import Jitter
from cnntrain.data.images.augmentations.crops import ResizedCrop, ShiftedCrop
from cnntrain.data.images.augmentations.flips import Flip
from cnntrain.data.images.augmentations.mixing import Mixer, Mixing
from cnntrain.data.images.augmentations.random_erasing import Eraser
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.pipeline import AugmentationPipeline
from cnntrain.data.split import Split

SIZE = 16
RNG = np.random.default_rng(0)
# Smooth, so that two ways to interpolate agree.
PLANES = torch.from_numpy(RNG.random((6, 3, 4, 4))).float()
IMAGES = torch.nn.functional.interpolate(PLANES, size=SIZE, mode="bicubic").clamp(0, 1)
BYTES = (IMAGES * 255).round().to(torch.uint8)

EVERYTHING = [
    {"random_crop": {"padding": 2}}, "horizontal_flip", "vertical_flip", {"rotation": {"degrees": 20}}, "affine",
    "color_jitter", {"random_erasing": {"probability": 0.5}}, "mixup", "cutmix",
]  # fmt: skip


def rows(*values: float) -> torch.Tensor:
    return torch.tensor([values] * len(IMAGES), dtype=torch.float32)


def pipeline(items: Sequence[object], stored: int = SIZE, size: int = SIZE, channels: int = 3) -> AugmentationPipeline:
    config = TypeAdapter(tuple[Augmentation, ...]).validate_python(tuple(items))
    fitting = Preprocessing(channels, size, stored, "crop", (0.5,) * channels, (0.25,) * channels)
    return fitting.augmentation(config, 4)


def split(num_images: int = 23, size: int = SIZE) -> Split:
    images = RNG.integers(0, 256, (num_images, size, size, 3), dtype=np.uint8)
    targets = torch.from_numpy(np.arange(num_images) % 4)
    return split_of(images, targets)


def test_random_crop_is_pad_and_crop() -> None:
    crop = ShiftedCrop(SIZE, padding=2, input_size=SIZE)
    draws = torch.from_numpy(crop.draw(np.random.default_rng(1), len(BYTES)))
    for ours, image, (start,) in zip(crop(BYTES, draws), BYTES, draws.tolist(), strict=True):
        top, left = divmod(start, SIZE + 4)
        expected = oracle.crop(oracle.pad(image, [2, 2, 2, 2]), top, left, SIZE, SIZE)
        assert torch.equal(ours, expected)


def test_random_crop_reaches_every_place_equally() -> None:
    crop = ShiftedCrop(4, padding=0, input_size=6)
    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(9000, 1, 6, 6)
    draws = torch.from_numpy(crop.draw(np.random.default_rng(1), 9000))
    counts = torch.bincount(crop(image, draws)[:, 0, 0, 0].long(), minlength=36)
    assert counts.nonzero().flatten().tolist() == [0, 1, 2, 6, 7, 8, 12, 13, 14]
    assert counts[counts > 0].min() > 850


@pytest.mark.parametrize(("dimension", "theirs"), [(3, oracle.hflip), (2, oracle.vflip)])
def test_flips_are_torchvisions(dimension: int, theirs: object) -> None:
    assert callable(theirs)
    flip = Flip(dimension, probability=0.5)
    draws = torch.tensor([[1], [0], [1], [0], [1], [0]])
    for ours, image, (flipped,) in zip(flip(BYTES, draws), BYTES, draws.tolist(), strict=True):
        assert torch.equal(ours, theirs(image) if flipped else image)


def test_flips_are_as_likely_as_asked_for() -> None:
    shares = [Flip(3, p).draw(np.random.default_rng(0), 10_000).mean() for p in (0.0, 0.3, 1.0)]
    assert shares == pytest.approx([0, 0.3, 1], abs=0.02)


@pytest.mark.parametrize(
    ("angle", "shear", "shift_x", "shift_y", "scale"),
    [(30, 0, 0, 0, 1), (0, 20, 0, 0, 1), (0, 0, 0.25, -0.125, 1), (0, 0, 0, 0, 1.3), (-15, 10, 0.125, 0.0625, 0.8)],
)
def test_affine_is_torchvisions(angle: float, shear: float, shift_x: float, shift_y: float, scale: float) -> None:
    ours = AffineMap(180, 1, (0.5, 2), 45)(IMAGES, rows(angle, shear, shift_x, shift_y, scale))
    theirs = oracle.affine(
        IMAGES,
        angle=angle,
        translate=[round(shift_x * SIZE), round(shift_y * SIZE)],
        scale=scale,
        shear=[-shear, 0.0],  # torchvision counts shear the other way
        interpolation=InterpolationMode.BILINEAR,
    )
    inside = slice(4, -4)  # at the borders torchvision blends with black in its own way
    torch.testing.assert_close(ours[..., inside, inside], theirs[..., inside, inside], atol=2e-3, rtol=0)


def test_affine_without_change_changes_nothing() -> None:
    torch.testing.assert_close(AffineMap()(IMAGES, rows(0, 0, 0, 0, 1)), IMAGES, atol=1e-5, rtol=0)


def test_random_resized_crop_is_torchvisions() -> None:
    crop = ResizedCrop(SIZE, (0.1, 1), (0.75, 1.33))
    draws = rows(0.5, 0.75, 0.25, 1.0)  # 8 wide, 12 high, at left 2, top 4
    theirs = oracle.resized_crop(IMAGES, 4, 2, 12, 8, [SIZE, SIZE], antialias=False)
    inside = slice(1, -1)  # at its edge our crop sees the pixels around it, torchvision's does not
    torch.testing.assert_close(crop(IMAGES, draws)[..., inside, inside], theirs[..., inside, inside], atol=1e-4, rtol=0)


def test_random_resized_crop_of_the_whole_image_has_no_dark_edges() -> None:
    crop = ResizedCrop(2 * SIZE, (1, 1), (1, 1))
    theirs = oracle.resize(IMAGES, [2 * SIZE, 2 * SIZE], antialias=False)
    torch.testing.assert_close(crop(IMAGES, rows(1, 1, 0.5, 0.5)), theirs, atol=1e-4, rtol=0)
    white = ResizedCrop(SIZE, (0.1, 1), (0.5, 2))(torch.ones_like(IMAGES), rows(0.3, 0.6, 0.0, 1.0))
    torch.testing.assert_close(white, torch.ones_like(IMAGES))


def test_random_boxes_have_the_area_and_ratio_asked_for() -> None:
    crop = ResizedCrop(SIZE, (0.2, 0.6), (0.5, 2.0))
    width, height = crop.draw(np.random.default_rng(0), 5000)[:, :2].T
    area, ratio = width * height, width / height
    whole = (width < 1) & (height < 1)
    assert area[whole].min() >= 0.2
    assert area.max() <= 0.6 + 1e-9
    assert ratio.min() >= 0.5 - 1e-9
    assert ratio.max() <= 2 + 1e-9
    assert abs(np.log(ratio[whole]).mean()) < 0.03


def test_color_jitter_is_torchvisions() -> None:
    expected = oracle.adjust_brightness(IMAGES, 1.2)
    expected = oracle.adjust_contrast(expected, 0.7)
    expected = oracle.adjust_saturation(expected, 1.4)
    ours = Jitter(0.5, 0.5, 0.5)(IMAGES, rows(1.2, 0.7, 1.4))
    torch.testing.assert_close(ours, expected, atol=2e-3, rtol=0)  # torchvision's weights of grey have a digit more


def test_erasing_paints_a_box_with_the_mean_colour() -> None:
    erase = Eraser(0.5, (0.1, 0.3), (0.5, 2), colour=(0.1, 0.2, 0.3))
    draws = rows(0.4, 0.5, 0.25, 0.0, 1.0)  # chosen, 8 wide, 4 high, left, bottom
    draws[1, 0] = 0.6  # not chosen
    ours = erase(IMAGES, draws)
    assert torch.equal(ours[1], IMAGES[1])
    torch.testing.assert_close(ours[0, :, 12:, :8], torch.tensor([0.1, 0.2, 0.3])[:, None, None].expand(3, 4, 8))
    assert torch.equal(ours[0, :, :12], IMAGES[0, :, :12])
    assert torch.equal(ours[0, :, 12:, 8:], IMAGES[0, :, 12:, 8:])


TARGETS = torch.eye(6)


def test_mixup_blends_partners_and_labels_alike() -> None:
    mixing = Mixing((Mixer("mixup", 0.2, 1.0),))
    images, targets = mixing(IMAGES, TARGETS, rows(0.7, 0.0, 0.0, 0.0))
    torch.testing.assert_close(images[2], 0.7 * IMAGES[2] + 0.3 * IMAGES[3])
    torch.testing.assert_close(images[3], 0.7 * IMAGES[3] + 0.3 * IMAGES[2])
    torch.testing.assert_close(targets[2], 0.7 * TARGETS[2] + 0.3 * TARGETS[3])


def test_cutmix_pastes_a_box_and_labels_mix_by_its_area() -> None:
    mixing = Mixing((Mixer("cutmix", 1.0, 1.0),))
    images, targets = mixing(IMAGES, TARGETS, rows(0.75, 1.0, 0.0, 1.0))  # a quarter: 8 x 8, left, bottom
    assert torch.equal(images[0, :, 8:, :8], IMAGES[1, :, 8:, :8])
    assert torch.equal(images[0, :, :8], IMAGES[0, :, :8])
    torch.testing.assert_close(targets[0], 0.75 * TARGETS[0] + 0.25 * TARGETS[1])


def test_mixing_draws_follow_the_mixers() -> None:
    mixers = (Mixer("mixup", 0.4, 1.0), Mixer("cutmix", 1.0, 0.5))
    draws = Mixing(mixers).draw(np.random.default_rng(0), 8001)
    assert np.array_equal(draws[0:8000:2], draws[1:8000:2])  # partners share a row
    assert draws[-1].tolist() == [1, 0, 0, 0]  # the odd one out stays as it is
    pairs = draws[0:8000:2]
    is_box = pairs[:, 1] == 1
    assert 0.46 < is_box.mean() < 0.54
    assert 0.45 < (pairs[is_box, 0] == 1).mean() < 0.55  # half of cutmix is skipped
    shares = pairs[~is_box, 0]
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 1 / (4 * (2 * 0.4 + 1))) < 0.01  # of the beta distribution


@pytest.mark.parametrize("batch_size", [1, 2, 5, 7, 22, 100])
def test_images_are_the_same_whatever_the_batch_size(batch_size: int) -> None:
    data, augmented = split(22), pipeline(EVERYTHING)
    whole = list(train_batches(data, augmented, 22, seed=3, epoch=2))
    parts = list(train_batches(data, augmented, batch_size, seed=3, epoch=2))
    num = sum(len(batch.targets) for batch in parts)
    torch.testing.assert_close(torch.cat([batch.images for batch in parts]), whole[0].images[:num])
    torch.testing.assert_close(torch.cat([batch.targets for batch in parts]), whole[0].targets[:num])


def test_epochs_and_seeds_differ_and_repeat() -> None:
    data, augmented = split(), pipeline(EVERYTHING)

    def images(seed: int, epoch: int) -> torch.Tensor:
        return torch.cat([batch.images for batch in train_batches(data, augmented, 8, seed=seed, epoch=epoch)])

    assert torch.equal(images(0, 1), images(0, 1))
    assert not torch.equal(images(0, 1), images(0, 2))
    assert not torch.equal(images(0, 1), images(1, 1))


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    data, plain = split(size=20), pipeline([], stored=20, size=SIZE)
    order = epoch_order(data.targets, seed=0, epoch=1)
    trained = torch.cat([batch.images for batch in train_batches(data, plain, 8, seed=0, epoch=1)])
    evaluated = torch.cat([batch.images for batch in eval_batches(data, plain.preprocessing, 10)])
    assert torch.equal(trained, evaluated[order])


def test_batches_are_channels_last_float32_of_the_networks_size() -> None:
    for items in ([], EVERYTHING, ["random_resized_crop"], ["random_crop"]):
        batch = next(train_batches(split(size=20), pipeline(items, stored=20, size=SIZE), 8, seed=0, epoch=1))
        assert batch.images.shape == (8, 3, SIZE, SIZE)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("num_images", "batch_size", "steps"), [(10, 5, 2), (11, 5, 2), (12, 5, 3), (1, 5, 1), (3, 5, 1)]
)
def test_a_last_batch_of_one_is_left_out(num_images: int, batch_size: int, steps: int) -> None:
    assert steps_per_epoch(num_images, batch_size) == steps
    data = split(num_images)
    assert len(list(train_batches(data, pipeline([]), batch_size, seed=0, epoch=1))) == steps


def test_an_epoch_sees_every_image_once() -> None:
    assert sorted(epoch_order(torch.zeros(50, dtype=torch.int64), seed=0, epoch=1).tolist()) == list(range(50))


def test_the_balanced_order_draws_classes_equally() -> None:
    targets = torch.tensor([0] * 900 + [1] * 90 + [2] * 10)
    order = epoch_order(targets, seed=0, epoch=1, balanced=True)
    counts = torch.bincount(targets[order], minlength=3)
    assert len(order) == 1000
    assert all(abs(count - 1000 / 3) < 4 * math.sqrt(1000 * 2 / 9) for count in counts.tolist())
