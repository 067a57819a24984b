"""What scripts/compare_checkouts trains: each shipped configuration, cut short, and some with everything on."""

from __future__ import annotations

import gzip
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from comparing import Case, Side, Texts, folder_contents, within

SHORT = ["recipe.epochs=2", "run.log_every_steps=4"]
PHOTOS = [*SHORT, "data.splits={test: val}", "data.image_size=64", "data.stored_size=72", "recipe.batch_size=8"]

# By data set, what makes a shipped configuration short; and the configurations that need something else.
BY_SOURCE = {
    "digits": [*SHORT, "recipe.batch_size=128"],
    "mnist": [*SHORT, "recipe.batch_size=64"],
    "fashion_mnist": [*SHORT, "recipe.batch_size=64"],
    "cifar10": [*SHORT, "data.source=image_folder", "data.root=cifar10-jpeg", "recipe.batch_size=16"],
    "image_folder": [*PHOTOS, "data.root=photos"],
}
BY_CONFIG = {
    "cifar10_speedrun": ["run.compile=false", "model.width=16"],
    "image_folder_transfer": ["model.weights=../../data/resnet18.pth", "recipe.unfreeze={epoch: 2, every_epochs: 1}"],
    "cifar10_fast": ["recipe.epochs=5"],
}

LAYERS = """
model:
  name: sequential
  freeze: "4"
  layers:
    - conv2d: {out_channels: 8, kernel_size: 3, padding: same, bias: false}
    - batch_norm
    - relu
    - max_pool2d: 2
    - conv2d: {out_channels: 16, kernel_size: 3, padding: same}
    - batch_norm
    - relu
    - dropout: 0.2
    - conv2d: {out_channels: 16, kernel_size: 3, padding: same}
    - relu
    - global_avg_pool2d
    - linear
"""

# Between them, everything that training knows.
EVERYTHING = {
    "everything (skip)": LAYERS
    + """
data:
  source: image_folder
  root: cifar10-jpeg
  image_size: 28
  stored_size: 32
  augment: [{random_crop: {padding: 2}}, horizontal_flip, color_jitter, rotation, random_erasing, mixup, cutmix]
recipe:
  epochs: 5
  batch_size: 16
  micro_batch: 6
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 1e-3, decay_norms_and_biases: false}
  schedule: {name: reduce_on_plateau, metric: macro_f1, patience: 1, factor: 0.5, warmup_fraction: 0.1}
  loss: {name: cross_entropy, label_smoothing: 0.1}
  balance: sampler
  backbone_lr_factor: 0.5
  layer_decay: 0.9
  unfreeze: {epoch: 2, every_epochs: 2}
  progressive_resizing: {initial_size: 16, until: 0.5}
  clip_grad_norm: 1.0
  averaging: {name: ema, decay: 0.9}
  early_stopping: {metric: balanced_accuracy, patience: 3, min_delta: 0.001}
  checkpoint_every_steps: 5
  on_nonfinite: skip
  temperature_scaling: true
  precision: float32
run: {seed: 3, log_every_steps: 3}
""",
    "everything (rollback)": """
model: {name: lenet5, init: kaiming, activation: tanh, pooling: average}
data:
  source: digits
  val_fraction: 0.2
  test_fraction: 0.3
  split_seed: 5
  group_copies: near
  augment: [{affine: {shear: 4}}, vertical_flip, random_erasing, {cutmix: {probability: 0.5}}]
recipe:
  epochs: 3
  batch_size: 64
  micro_batch: 20
  optimizer: {name: adamw, lr: 0.002}
  schedule: {name: cosine, warmup_fraction: 0.2, final_fraction: 0.1}
  loss: {name: squared_error, label_smoothing: 0.05}
  balance: weights
  averaging: {name: ema, decay: 0.95}
  early_stopping: {metric: loss, patience: 2}
  checkpoint_every_steps: 4
  on_nonfinite: rollback
  temperature_scaling: true
run: {seed: 11, log_every_steps: 3}
""",
    "no validation": """
model: {name: resnet20, shortcut: projection, zero_init: true, init: orthogonal}
data:
  source: image_folder
  root: photos
  splits: {test: val}
  val_fraction: 0
  channels: 1
  image_size: 32
  storage: stream
  num_workers: 2
  resize: letterbox
  augment: [{random_resized_crop: {scale: [0.5, 1.0]}}, {mixup: {alpha: 0.4}}]
recipe:
  epochs: 3
  batch_size: 8
  optimizer: {name: adam, lr: 0.003, weight_decay: 1e-4}
  schedule: {name: multi_step, milestones: [1, 2], factor: 0.3}
  precision: bfloat16
run: {tensorboard: false}
""",
    "no test, broken images": """
model: {name: alexnet, variant: small, dropout: 0.3}
data:
  source: image_folder
  root: broken
  test_fraction: 0
  image_size: 32
  storage: cache
  on_error: skip
  max_skipped: 0.3
  mean: [0.5, 0.5, 0.5]
  std: [0.25, 0.25, 0.25]
recipe:
  epochs: 4
  batch_size: 12
  optimizer: {name: sgd, lr: 0.001, momentum: 0, nesterov: false}
  schedule: {name: step, every_epochs: 1, factor: 0.5}
  on_nonfinite: skip
""",
}
POISON = {"everything (skip)": (4, 30, 31, 60), "everything (rollback)": (3, 50, 120)}


class Training(NamedTuple):
    """A training, and after how many updates it is stopped the second time; `text` is that of my.yaml."""

    config: str  # my.yaml, or a shipped name
    settings: list[str]
    stop_after: int
    text: str = ""
    poison: tuple[int, ...] = ()

    def arguments(self, *more: str) -> list[str]:
        """Of the command line."""
        settings = [argument for setting in (*self.settings, *more) for argument in ("--set", setting)]
        return ["train", self.config, *settings, "--data-root", "../../data"]


def trainings(other: Path) -> dict[str, Training]:
    """Those of the other checkout's configurations whose data can be had, and those with everything on."""
    import yaml

    found = {}
    for path in sorted((other / "configs").glob("*.yaml")):
        source = yaml.safe_load(path.read_text())["data"]["source"]
        settings = [*BY_SOURCE[source], *BY_CONFIG.get(path.stem, [])]
        found[path.stem] = Training(path.stem, settings, 7 if source == "image_folder" else 17)
    for name in EVERYTHING:
        found[name] = Training("my.yaml", [], 14, EVERYTHING[name], POISON.get(name, ()))
    return found


def training_cases(maker: Side, _: Path) -> Iterator[Case]:
    """Each straight through, stopped by a signal in the middle and gone on with; the last ones killed as well."""
    for name, training in trainings(maker.checkout).items():
        ways: list[tuple[str, int | None]] = [("straight", None), ("stopped", signal.SIGTERM)]
        if name in EVERYTHING:
            ways.append(("killed", signal.SIGKILL))
        for way, number in ways:
            yield Case(f"{name}, {way}", train, (name, training, number and int(number)))


def train(side: Side, name: str, training: Training, number: int | None) -> Texts:
    """What is said, and what is left in the folder, by a training that is perhaps stopped and gone on with."""
    folder = side.emptied(name)
    (folder / "my.yaml").write_text(training.text)
    arguments = training.arguments(*(["run.report=false"] if number else []))
    texts = {}
    if number:
        stop = (training.stop_after, number)
        texts = within("until the signal", side.run(*arguments, folder=folder, stop=stop, poison=training.poison))
        arguments = [*arguments, "--resume"]
    texts |= within("to the end", side.run(*arguments, folder=folder, poison=training.poison))
    return texts | folder_contents(folder / "runs")


def make_data(real: Path, data: Path) -> None:
    """Small parts of the real data sets, the same for both checkouts; nothing is made anew where they are."""
    if (data / "made").exists():
        return
    shutil.rmtree(data, ignore_errors=True)
    _cut_idx(real / "MNIST/raw", data / "MNIST/raw", {"train": 700, "t10k": 150}, skip=0)
    _cut_idx(real / "MNIST/raw", data / "FashionMNIST/raw", {"train": 700, "t10k": 150}, skip=5000)  # stands in
    _cut_folder(real / "cifar10-jpeg", data / "cifar10-jpeg", {"train": 20, "test": 4})
    _cut_folder(real / "hymenoptera", data / "photos", {"train": 20, "val": 8})
    _cut_folder(real / "hymenoptera", data / "broken", {"train": 24})
    for number, path in enumerate(sorted((data / "broken").rglob("*.jpg"))[::9]):
        path.write_bytes(path.read_bytes()[: 200 * number] if number % 2 else b"no image")
    _write_weights(data / "resnet18.pth")
    (data / "made").touch()


def _cut_idx(source: Path, target: Path, counts: dict[str, int], skip: int) -> None:
    """The first images of files in the format of MNIST."""
    target.mkdir(parents=True)
    for part, count in counts.items():
        for kind, size, header in (("images-idx3", 784, 16), ("labels-idx1", 1, 8)):
            path = source / f"{part}-{kind}-ubyte"
            content = path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())
            start = header + skip * size
            head = content[:4] + count.to_bytes(4, "big") + content[8:header]
            (target / path.name).write_bytes(head + content[start : start + count * size])


def _cut_folder(source: Path, target: Path, counts: dict[str, int]) -> None:
    """The first images of each class."""
    for part, count in counts.items():
        for folder in sorted(path for path in (source / part).iterdir() if path.is_dir()):
            (target / part / folder.name).mkdir(parents=True)
            for path in sorted(folder.iterdir())[:count]:
                shutil.copy2(path, target / part / folder.name)


def _write_weights(path: Path) -> None:
    """Random weights in the place of published ones."""
    import torch
    from torchvision.models import resnet18

    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), path)
