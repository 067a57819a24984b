"""What the tests share: an isolated home, the command line in this process, a small trained run, real data."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import nn

from cnntrain.cli import main
from cnntrain.data.split import Split
from cnntrain.data.stores import ResidentStore

# Small enough that two test processes on two cores do not fight over them.
torch.set_num_threads(1)

NO_REPORT = ["--set", "run.report=false"]
SHORT = ["--epochs", "3", "--set", "recipe.schedule.warmup_fraction=0.1", *NO_REPORT]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="session")
def isolated_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's caches."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    patch.delenv("CNNTRAIN_DATA", raising=False)
    patch.setenv("COLUMNS", "120")
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def without_reports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process end without a report, which takes seconds, save in tests that are marked `report`."""
    if not request.node.get_closest_marker("report"):
        monkeypatch.setattr("cnntrain.cli.running.write_report_at_end", lambda *_: None)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command in this process; arguments may be paths and numbers."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Outcome(code, out, err)

    return run


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet-5 trained on the digits for a few epochs."""
    output = tmp_path_factory.mktemp("trained") / "runs"
    assert main(["train", "digits_lenet", "--output", str(output), *SHORT, "--quiet"]) == 0
    return (output / "latest").resolve()


def split_of(images: npt.NDArray[np.uint8], targets: torch.Tensor | None = None) -> Split:
    """A split in memory: images uint8 (N, H, W, C), targets 0 where none are given."""
    num_images = len(images)
    return Split(
        ResidentStore(torch.from_numpy(images), torch.device("cpu")),
        torch.arange(num_images),
        torch.zeros(num_images, dtype=torch.int64) if targets is None else targets,
        str,
        np.zeros((num_images, 32), np.uint8),
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of small pictures: train/{red,green,blue}/*.png, 12 of each, told apart by colour."""
    return write_photos(tmp_path / "photos", {"train": 12})


def write_photos(root: Path, parts: dict[str, int], classes: tuple[str, ...] = ("blue", "green", "red")) -> Path:
    rng = np.random.default_rng(0)
    for part, count in parts.items():
        for index, name in enumerate(classes):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 100, (20, 24, 3), dtype=np.uint8)
                pixels[..., index % 3] += 120
                Image.fromarray(pixels).save(folder / f"{part} {number:02d}.png")
    return root


def without_dropout(model: nn.Module) -> nn.Module:
    """The same network, in which dropout does nothing in training either."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets that CNNTRAIN_TEST_DATA names."""
    said = os.environ.get("CNNTRAIN_TEST_DATA")
    if not said or not Path(said, "MNIST").is_dir():
        pytest.skip("no real data: CNNTRAIN_TEST_DATA does not name a folder with MNIST, cifar10-jpeg, hymenoptera")
    return Path(said)
