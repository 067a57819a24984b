"""Data sets known by name, with scikit-learn and torchvision as oracles."""

import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits

from cnntrain.config.schema import Data
from cnntrain.data.carve import carve
from cnntrain.data.prepare import prepare_data
from cnntrain.errors import DataError


def test_digits_are_scikit_learns_split_by_class() -> None:
    splits = prepare_data(Data(source="digits", image_size=8))
    parts = [splits.train, splits.val, splits.test]
    assert [len(part) for part in parts] == [1295, 143, 359]
    names = [name for part in parts for name in part.names]
    assert len(set(names)) == 1797
    bunch = load_digits()
    for part in parts:
        index = [int(name.split("/")[1]) for name in part.names]
        np.testing.assert_array_equal(part.targets, bunch.target[index])
        np.testing.assert_allclose(part.items().squeeze(-1), bunch.images[index] * 255 / 16, atol=0.5)
        shares = torch.bincount(part.targets) / len(part)
        torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.01, rtol=0)


def test_mean_and_std_are_those_of_the_training_images_alone() -> None:
    splits = prepare_data(Data(source="digits", image_size=8))
    expected = (splits.train.items() / 255).mean()
    assert splits.preprocessing.mean == pytest.approx((float(expected),))


def test_the_hash_of_a_split_can_be_computed_by_hand() -> None:
    split = prepare_data(Data(source="digits", image_size=8)).test
    digest = hashlib.sha256()
    for image, label in zip(split.items(), split.targets.tolist(), strict=True):
        digest.update(hashlib.sha256(image.tobytes()).digest() + struct.pack("<q", label))
    assert split.identity()["sha256"] == digest.hexdigest()


def test_grey_images_can_feed_a_colour_network() -> None:
    splits = prepare_data(Data(source="digits", image_size=8, channels=3))
    assert splits.train.items([0]).shape[1:] == (8, 8, 3)
    assert (splits.train.items()[..., 0] == splits.train.items()[..., 2]).all()
    assert len(splits.preprocessing.mean) == 3


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.9])
def test_carving_takes_a_share_of_every_class_and_loses_nothing(fraction: float) -> None:
    labels = np.repeat(np.arange(4), [2, 10, 100, 1]).astype(np.int64)
    kept, taken = carve(labels, fraction, seed=0, purpose="val")
    assert sorted([*kept, *taken]) == list(range(113))
    counts = np.bincount(labels[taken], minlength=4)
    assert counts[0] == 1
    assert counts[2] == round(100 * fraction)
    assert counts[3] == 0  # the only image of its class stays


def test_test_and_val_are_carved_independently() -> None:
    labels = np.zeros(100, dtype=np.int64)
    first = carve(labels, 0.2, seed=0, purpose="val").taken
    assert first.tolist() != carve(labels, 0.2, seed=0, purpose="test").taken.tolist()
    assert first.tolist() == carve(labels, 0.2, seed=0, purpose="val").taken.tolist()


def write_mnist(root: Path) -> None:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + labels.tobytes())


def test_mnist_validation_comes_from_the_training_images(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    splits = prepare_data(Data(source="mnist", val_fraction=0.2), data_root=str(tmp_path))
    assert [len(splits.train), len(splits.val), len(splits.test)] == [50, 10, 20]
    assert all(name.startswith("train/") for name in [*splits.train.names, *splits.val.names])
    assert all(name.startswith("test/") for name in splits.test.names)
    assert splits.class_names == tuple("0123456789")


def test_data_root_of_the_config_is_below_the_data_root(tmp_path: Path) -> None:
    write_mnist(tmp_path / "sets")
    assert len(prepare_data(Data(source="mnist", root="sets"), data_root=str(tmp_path)).test) == 20


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_missing_data_offline_says_which_files_go_where(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)
    with pytest.raises(DataError) as caught:
        prepare_data(Data(source=source), data_root=str(tmp_path))  # type: ignore[arg-type]
    text = str(caught.value)
    assert f"{source} is not in {tmp_path}" in text
    assert "Without network, put these files there" in text
    assert "--data-root" in text
    with pytest.raises(DataError):
        prepare_data(Data(source=source), data_root=str(tmp_path / "misspelt"))  # type: ignore[arg-type]
    assert not (tmp_path / "misspelt").exists()


def test_damaged_mnist_files_are_a_data_error(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03")
    with pytest.raises(DataError, match="mnist"):
        prepare_data(Data(source="mnist"), data_root=str(tmp_path))


def test_cifar10_in_its_own_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng, kind = np.random.default_rng(0), torchvision.datasets.CIFAR10

    def write(name: str, content: object) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    names = [f"class{index}" for index in range(10)]
    batch = {"data": rng.integers(0, 256, (20, 3072), dtype=np.uint8), "labels": [index % 10 for index in range(20)]}
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", write("data_batch_1", batch)]])
    monkeypatch.setattr(kind, "test_list", [["test_batch", write("test_batch", batch)]])
    md5 = write("batches.meta", {"label_names": names})
    monkeypatch.setattr(kind, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})
    splits = prepare_data(Data(source="cifar10"), data_root=str(tmp_path))
    assert splits.class_names == tuple(names)
    first = batch["data"].reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)[0]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(splits.test.items([0])[0], first)


def test_real_mnist_is_torchvisions(real_data: Path) -> None:
    splits = prepare_data(Data(source="mnist"), data_root=str(real_data))
    assert len(splits.train) + len(splits.val) == 60_000
    assert len(splits.val) == pytest.approx(6_000, abs=5)  # a tenth of each class, rounded
    oracle = torchvision.datasets.MNIST(str(real_data), train=False)
    assert torch.equal(torch.from_numpy(splits.test.items()).squeeze(-1), oracle.data)
    assert torch.equal(splits.test.targets, oracle.targets)
    assert splits.preprocessing.mean[0] == pytest.approx(0.1307, abs=5e-4)
    assert splits.preprocessing.std[0] == pytest.approx(0.3081, abs=5e-4)
    raw = (real_data / "MNIST/raw/t10k-images-idx3-ubyte").read_bytes()
    assert hashlib.md5(raw).hexdigest() == "2646ac647ad5339dbf082846283269ea"
