"""What a trained network shows of itself, against independent oracles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from captum.robust import FGSM, PGD
from PIL import Image
from sklearn.calibration import calibration_curve
from torch import nn

from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.insight.attacks import fgsm, pgd
from cnntrain.insight.calibration import calibration_error_by_chance, reliability
from cnntrain.insight.corruptions import CORRUPTIONS, corrupt
from cnntrain.insight.robustness import robustness
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.tasks.temperature import fit_temperature


def overconfident(num_images: int = 4000, factor: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose softmax is the true distribution of the targets, then multiplied by a factor."""
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(num_images, 5, generator=rng) * 1.5
    targets = torch.multinomial(logits.softmax(1), 1, generator=rng).squeeze(1)
    return logits * factor, targets


def test_the_temperature_is_the_factor_by_which_logits_were_too_large() -> None:
    assert fit_temperature(*overconfident(factor=3)) == pytest.approx(3, rel=0.05)
    assert fit_temperature(*overconfident(factor=0.5)) == pytest.approx(0.5, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss() -> None:
    logits, targets = overconfident()
    best = fit_temperature(logits, targets)
    losses = [float(nn.functional.cross_entropy(logits / t, targets)) for t in (best, best * 0.98, best * 1.02)]
    assert losses[0] == min(losses)


def test_images_that_are_all_right_say_nothing_of_a_temperature() -> None:
    assert fit_temperature(10 * torch.eye(3), torch.arange(3)) == 1
    assert fit_temperature(-10 * torch.eye(3), torch.arange(3)) == 1


def test_reliability_is_that_of_scikit_learn() -> None:
    logits, targets = overconfident()
    confidences, predictions = (column.numpy() for column in logits.softmax(1).max(1))
    right = predictions == targets.numpy()
    found = reliability(confidences, right)
    accuracy, confidence = calibration_curve(right, confidences, n_bins=15)
    filled = found.counts > 0
    np.testing.assert_allclose(found.accuracy[filled], accuracy)
    np.testing.assert_allclose(found.confidence[filled], confidence, rtol=1e-6)
    assert found.counts.sum() == len(targets)


def test_calibration_error_falls_when_the_temperature_divides() -> None:
    logits, targets = overconfident()

    def error(temperature: float) -> float:
        confidences, predictions = (logits / temperature).softmax(1).max(1)
        return reliability(confidences.numpy(), (predictions == targets).numpy()).expected_calibration_error

    assert error(1) > 0.15
    assert error(fit_temperature(logits, targets)) < 0.03


def test_a_bin_holds_its_upper_edge_and_certainty_is_counted() -> None:
    found = reliability([0.0, 1.0, 1 / 15], [False, True, True])
    assert found.counts.tolist() == [2] + [0] * 13 + [1]


@pytest.fixture(scope="module")
def digits_network() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A small network that knows two kinds of image: bright on the left or on the right."""
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(64, 3, 8, 8, generator=rng) * 0.4
    targets = torch.arange(64) % 2
    images[targets == 0, :, :, :4] += 0.15
    images[targets == 1, :, :, 4:] += 0.15
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), targets).backward()
        optimizer.step()
    return model.eval(), images, targets


CROSS_ENTROPY = nn.CrossEntropyLoss(reduction="none")


def test_fgsm_is_that_of_captum() -> None:
    # Captum leaves gradients below 1e-6 out; without training, and without ReLUs, there are few.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 2))
    images = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(16) % 2
    attack = FGSM(model, CROSS_ENTROPY, lower_bound=0, upper_bound=1)
    expected = attack.perturb(images.clone().requires_grad_(), 0.05, targets)
    changed = expected != images
    assert float(changed.float().mean()) > 0.99
    torch.testing.assert_close(fgsm(model, images, targets, 0.05)[changed], expected[changed])


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients", "ignore:Converting a tensor")
def test_pgd_stays_within_its_bounds_and_does_what_captums_does(
    digits_network: tuple[nn.Sequential, torch.Tensor, torch.Tensor],
) -> None:
    model, images, targets = digits_network
    changed = pgd(model, images, targets, 0.1)
    assert float((changed - images).abs().max()) <= 0.1 + 1e-6
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
    torch.manual_seed(0)
    attack = PGD(model, CROSS_ENTROPY, lower_bound=0, upper_bound=1)
    theirs = attack.perturb(images.clone().requires_grad_(), 0.1, 0.025, 10, targets, random_start=True)

    def loss(x: torch.Tensor) -> float:
        return float(nn.functional.cross_entropy(model(x), targets).detach())

    assert loss(changed) == pytest.approx(loss(theirs), rel=0.05)
    assert loss(changed) > 2 * loss(images)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (2, 28, 28, 1), (1, 100, 100, 3)])
def test_corruptions_grow_with_their_severity(name: str, shape: tuple[int, ...]) -> None:
    y, x = np.mgrid[0 : shape[1], 0 : shape[2]]
    waves = 127 + 60 * np.sin(x * 0.9) + 60 * np.cos(y * 0.7)
    images = np.broadcast_to(waves[None, :, :, None], shape).astype(np.uint8)
    changes = [np.abs(corrupt(images, name, severity).astype(float) - images).mean() for severity in range(1, 6)]
    assert corrupt(images, name, 1).shape == shape
    assert changes[0] > 0
    assert changes[4] > 1.3 * changes[0]


def test_contrast_keeps_the_mean() -> None:
    images = np.random.default_rng(0).integers(60, 180, (2, 32, 32, 3), dtype=np.uint8)
    changed = corrupt(images, "contrast", 5)
    np.testing.assert_allclose(changed.mean((1, 2)), images.mean((1, 2)), atol=0.5)
    np.testing.assert_allclose(changed.std((1, 2)), 0.15 * images.std((1, 2)), atol=0.3)


def test_robustness_looks_at_the_network_behind_its_normalisation(
    digits_network: tuple[nn.Sequential, torch.Tensor, torch.Tensor],
) -> None:
    model, images, targets = digits_network
    fitting = Preprocessing(3, 8, 8, "squash", (0.25, 0.5, 0.75), (0.5, 0.25, 0.125))
    # The same function of [0, 1] images, as a network that wants them normalised.
    first = model[0]
    assert isinstance(first, nn.Conv2d)
    behind = nn.Conv2d(3, 4, 3)
    std, mean = torch.tensor(fitting.std), torch.tensor(fitting.mean)
    behind.weight.data = first.weight.data * std.view(1, 3, 1, 1)
    assert first.bias is not None
    assert behind.bias is not None
    behind.bias.data = first.bias.data + (first.weight.data * mean.view(1, 3, 1, 1)).sum((1, 2, 3))
    normalised = nn.Sequential(behind, *model[1:]).eval()
    pixels = (images * 255).round().to(torch.uint8)
    found = robustness(
        normalised,
        pixels.permute(0, 2, 3, 1),
        targets,
        preprocessing=fitting,
        task=SingleLabel(tuple(map(str, range(100)))),
        batch_size=24,
    )
    assert found.clean == 1
    assert found.attacked["PGD"][0] >= found.attacked["PGD"][-1] == 0
    for strength, accuracy in zip(found.strengths, found.attacked["FGSM"], strict=True):
        changed = fgsm(model, pixels / 255, targets, strength)
        assert accuracy == float((model(changed).argmax(1) == targets).float().mean())
    assert set(found.corrupted) == set(CORRUPTIONS)
    assert all(len(row) == 5 for row in found.corrupted.values())


def test_jpeg_is_pillows_at_the_stated_quality(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 32, 32, 3), dtype=np.uint8)
    Image.fromarray(image[0]).save(tmp_path / "x.jpg", quality=40)
    np.testing.assert_array_equal(corrupt(image, "JPEG", 5)[0], np.asarray(Image.open(tmp_path / "x.jpg")))


def test_few_images_show_a_calibration_error_by_chance() -> None:
    rng = np.random.default_rng(1)
    confidences = rng.uniform(0.5, 1, 3000)
    few, many = (calibration_error_by_chance(confidences[:number]) for number in (30, 3000))
    assert few > 0.1 > 0.05 > many
    below = [
        reliability(confidences[:30], rng.random(30) < confidences[:30]).expected_calibration_error < few
        for _ in range(300)
    ]
    assert 0.9 < np.mean(below) < 0.99
