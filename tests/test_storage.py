"""Where images are held: the same images come out everywhere, and no more is read than asked for."""

import contextlib
import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli, write_photos

from cnntrain.config.schema import Data
from cnntrain.data import cache, storage
from cnntrain.data.batches import train_batches
from cnntrain.data.images.decode import decode_image
from cnntrain.data.images.preprocessing import Pixels
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.data.storage import choose_storage, describe_size
from cnntrain.data.stores import MappedStore, StreamedStore
from cnntrain.errors import ConfigError, DataError, StorageError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30


def prepare(root: Path, kind: str) -> Splits:
    augment = [{"random_crop": {"padding": 2}}, "horizontal_flip", "mixup"]
    return prepare_data(
        Data.model_validate(
            {"source": "image_folder", "root": str(root), "image_size": 16, "storage": kind, "augment": augment}
        )
    )


def batches(splits: Splits) -> list[torch.Tensor]:
    config = Data.model_validate({"source": "digits", "augment": [{"random_crop": {"padding": 2}}, "mixup"]})
    pipeline = splits.preprocessing.augmentation(config.augment, splits.num_classes)
    return [part for batch in train_batches(splits.train, pipeline, 5, seed=1, epoch=2) for part in batch]


@pytest.mark.parametrize("kind", ["cache", "stream"])
def test_what_is_trained_on_does_not_depend_on_where_images_are_held(photos: Path, kind: str) -> None:
    memory, other = prepare(photos, "memory"), prepare(photos, kind)
    assert other.preprocessing == memory.preprocessing
    assert other.identity() == memory.identity()
    for ours, theirs in zip(batches(other), batches(memory), strict=True):
        assert torch.equal(ours, theirs)
    for name in ("val", "test"):
        np.testing.assert_array_equal(getattr(other, name).items(), getattr(memory, name).items())


def counting(shape: tuple[int, int, int] = (2, 2, 1)) -> tuple[Callable[[int], Pixels], list[int]]:
    decoded: list[int] = []

    def decode(index: int) -> Pixels:
        decoded.append(index)
        return np.full(shape, index, dtype=np.uint8)

    return decode, decoded


def test_streamed_images_come_in_the_order_asked_for() -> None:
    decode, _ = counting()
    order = torch.randperm(200)
    spans = [slice(start, start + 30) for start in range(0, 200, 30)]
    found = torch.cat(list(StreamedStore(decode, (2, 2, 1), 3, CPU).read(order, spans)))
    assert torch.equal(found[:, 0, 0, 0], order.to(torch.uint8))


def test_streaming_reads_ahead_a_little_and_stops_when_nobody_asks() -> None:
    decode, decoded = counting()
    store = StreamedStore(decode, (2, 2, 1), 2, CPU)
    reader = store.read(torch.arange(10_000) % 200, [slice(start, start + 50) for start in range(0, 10_000, 50)])
    next(reader)
    del reader
    store._pool.shutdown()
    assert 50 <= len(decoded) <= 200


def test_the_threads_that_decode_live_on_from_epoch_to_epoch() -> None:
    names = set()

    def decode(index: int) -> Pixels:
        names.add(threading.current_thread().name)
        return np.zeros((2, 2, 1), dtype=np.uint8)

    store = StreamedStore(decode, (2, 2, 1), 2, CPU)
    for _ in range(20):
        list(store.read(torch.arange(64), [slice(0, 32), slice(32, 64)]))
    assert len(names) <= 2


def test_an_image_that_breaks_while_streaming_is_named(photos: Path) -> None:
    splits = prepare(photos, "stream")
    broken = photos / splits.train.names[0]
    broken.write_bytes(b"no image any more")
    with pytest.raises(DataError, match=f"{broken.name}: not an image"):
        batches(splits)


def test_a_broken_image_of_any_split_is_named_before_training_however_images_are_held(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", {"train": 4, "test": 4})
    broken = sorted((photos / "test" / "red").iterdir())[0]
    broken.write_bytes(b"no image any more")
    for kind in ("memory", "cache", "stream"):
        with pytest.raises(DataError, match=rf"1 of .* images in {photos}/test cannot be used(.|\n)*{broken.name}"):
            prepare(photos, kind)


def test_files_that_are_streamed_are_checked_only_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(photos, "stream")
    monkeypatch.setattr("cnntrain.data.images.folder_part.fit_content", lambda *_: pytest.fail("decoded again"))
    prepare(photos, "stream")


def test_mapped_images_come_in_order_and_are_read_ahead_a_little() -> None:
    asked = list[int]()

    class Watched:
        def index_select(self, _: int, positions: torch.Tensor) -> torch.Tensor:
            asked.extend(positions.tolist())
            return positions.to(torch.uint8).view(-1, 1, 1, 1)

    store, order = MappedStore(Watched(), CPU), torch.randperm(200)  # type: ignore[arg-type]
    spans = [slice(start, start + 30) for start in range(0, 200, 30)]
    assert torch.equal(torch.cat(list(store.read(order, spans))).flatten(), order.to(torch.uint8))
    asked.clear()
    next(store.read(order, spans))
    store._pool.shutdown()
    assert asked == order[:90].tolist()


def test_changed_files_are_noticed_by_a_stream(photos: Path) -> None:
    before = prepare(photos, "stream").identity()
    victim, donor = sorted((photos / "train" / "red").iterdir())[:2]
    victim.write_bytes(donor.read_bytes())
    assert prepare(photos, "stream").identity() != before


def test_an_interrupted_cache_leaves_nothing_behind(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def entries() -> set[Path]:  # but for what is known of the files themselves, which is whole
        everything = cache.folder().rglob("*")
        return {path for path in everything if path.name != "array.npy" and not (path / "array.npy").exists()}

    before = entries()
    with monkeypatch.context() as patch:
        patch.setattr("cnntrain.data.images.folder_part.fit_content", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prepare(photos, "cache")
    assert entries() - before == set()
    assert len(prepare(photos, "cache").train) == 27


def test_a_damaged_cache_is_made_anew(photos: Path) -> None:
    before, known = prepare(photos, "cache").identity(), set(cache.folder().iterdir())
    for entry in known:
        for file in entry.glob("images.npy"):
            file.write_bytes(file.read_bytes()[:100])
    assert prepare(photos, "cache").identity() == before
    assert set(cache.folder().iterdir()) == known


def test_a_cache_that_cannot_be_mapped_says_why(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    prepare(photos, "cache")
    monkeypatch.setattr(np, "memmap", refuse)
    with pytest.raises(StorageError, match=r"cannot be mapped: Cannot allocate memory; set data\.storage: stream"):
        prepare(photos, "cache")


def test_without_a_cache_folder_images_are_decoded_into_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for kind in ("memory", "stream", "auto"):
        assert len(prepare(photos, kind).train) == 27


def test_a_cache_that_cannot_be_written_says_why(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "save_images", refuse)
    with pytest.raises(StorageError, match=r"decoded images: No space left on device; set data\.storage: stream"):
        prepare(photos, "cache")
    assert len(prepare(photos, "memory").train) == 27


def test_what_a_killed_process_left_is_removed_after_an_hour(photos: Path) -> None:
    old, new = (cache.folder() / f".partial-{name}" / "finished" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "images.npy").write_bytes(b"half")
    for path in (old / "images.npy", old, old.parent):
        os.utime(path, (time.time() - 4000,) * 2)
    os.utime(new.parent, (time.time() - 4000,) * 2)  # whose file is still being written
    prepare(photos, "cache")
    assert not old.parent.exists()
    assert new.exists()
    shutil.rmtree(new.parent)


def test_what_is_cached_is_used_even_where_it_has_filled_the_disk(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(photos, "cache")
    monkeypatch.setattr(storage, "available_memory", lambda: 1000)
    monkeypatch.setattr(cache, "free_space", lambda: 1000)
    assert "mapped from the cache" in prepare(photos, "auto").where_held
    (photos / "train" / "red" / "new.png").write_bytes(next((photos / "train" / "red").iterdir()).read_bytes())
    assert "decoded anew" in prepare(photos, "auto").where_held


def test_a_damaged_cache_does_not_count_as_room(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(photos, "cache")
    for file in cache.folder().glob("*/images.npy"):
        file.write_bytes(file.read_bytes()[:100])
    monkeypatch.setattr(storage, "available_memory", lambda: 1000)
    monkeypatch.setattr(cache, "free_space", lambda: 1000)
    assert "decoded anew" in prepare(photos, "auto").where_held


@pytest.mark.parametrize("start", ["first", "second"])
def test_on_its_way_to_a_gpu_a_cached_data_set_is_never_in_memory_at_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    if start == "second":
        prepare(photos, "cache")
    sources, load = list[Pixels](), cache.load_images

    def watched(*arguments: Any, **how: Any) -> cache.CachedImages | None:
        found = load(*arguments, **how)
        sources.extend([found.images] if found else [])
        return found

    monkeypatch.setattr(cache, "load_images", watched)
    kind = {"source": "image_folder", "root": str(photos), "image_size": 16, "storage": "device"}
    with contextlib.suppress(NotImplementedError):  # what stands in for a GPU holds shapes alone
        prepare_data(Data.model_validate(kind), device=torch.device("meta"))
    assert sources
    assert all(isinstance(source, np.memmap) for source in sources)


def test_a_cache_without_room_says_what_to_do(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "free_space", lambda: 1000)
    with pytest.raises(StorageError, match=r"twice 27 KiB are needed and 1000 B are free; set data\.storage: stream"):
        prepare(photos, "cache")


def test_a_large_jpeg_is_decoded_small_and_looks_the_same(real_data: Path) -> None:
    photo = next((real_data / "hymenoptera").rglob("*.jpg"))
    whole, small = (decode_image(photo.read_bytes(), 3, photo, enough_px) for enough_px in (None, 100))
    assert min(small.size) >= 100
    assert small.width < whole.width
    thumbnails = [np.asarray(image.resize((50, 50))).astype(float) for image in (whole, small)]
    assert np.abs(thumbnails[0] - thumbnails[1]).mean() < 1.5


@pytest.mark.parametrize(
    ("size", "device", "from_files", "expected"),
    [
        (1 * GIB, CPU, True, "memory"),
        (10 * GIB, CPU, True, "cache"),
        (100 * GIB, CPU, True, "stream"),
        (1 * GIB, CUDA, True, "device"),
        (6 * GIB, CUDA, False, "memory"),
        (100 * GIB, CUDA, True, "stream"),
    ],
)
def test_auto_takes_the_first_place_that_has_room(
    size: int, device: torch.device, from_files: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "available_memory", lambda: 16 * GIB)
    monkeypatch.setattr(storage, "free_memory", lambda _: 8 * GIB)
    monkeypatch.setattr(cache, "free_space", lambda: 200 * GIB)
    assert choose_storage("auto", size, device, from_files=from_files).kind == expected


def test_arrays_that_do_not_fit_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "available_memory", lambda: 1 * GIB)
    with pytest.raises(DataError, match=r"need 2 GiB of memory and this machine has 1 GiB; lower data\.stored_size"):
        choose_storage("auto", 2 * GIB, CPU, from_files=False)
    with pytest.raises(ConfigError, match="stream is for image_folder"):
        choose_storage("stream", 2 * GIB, CPU, from_files=False)


def test_the_choice_can_be_set_and_is_printed(tmp_path: Path, cli: Cli) -> None:
    root = write_photos(tmp_path / "p", {"train": 6})
    options = ("--set", f"data.root={root}", "--set", "data.image_size=32", "--set", "model=resnet20")
    done = cli(
        "check", "image_folder_resnet18", *options, "--set", "data.storage=stream", "--set", "data.stored_size=40"
    )
    assert done.code == 0, done.err
    assert "images are decoded anew in every epoch" in done.err
    assert "ready to train" in done.out


def test_sizes_for_people() -> None:
    assert [describe_size(size) for size in (0, 1536, 5 * 2**20, 2**41)] == ["0 B", "1.5 KiB", "5 MiB", "2 TiB"]
