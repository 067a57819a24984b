"""PyTorch's MNIST example, timed until its test accuracy reaches a target: scripts/time_to_accuracy runs it.

    mnist_example.py DATA SEED TARGET

The network and the recipe of https://github.com/pytorch/examples/tree/main/mnist with its defaults on a CPU, in our
words: Adadelta, rate 1.0 times 0.7 after each epoch, batches of 64, at most 14 epochs, a test after each, images read
by the training process itself. Images are shuffled, which the example does on a GPU alone. Prints one line of JSON:
`accuracy`, that of the last test; `epochs`; `train_seconds`, of training and tests.
"""

import json
import sys
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

Batches = Iterable[tuple[Tensor, Tensor]]
MAX_EPOCHS = 14


def network() -> nn.Module:
    """1,199,882 parameters; images float32 (N, 1, 28, 28) -> log-probabilities float32 (N, 10)."""
    convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
    head = [nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(1)]
    return nn.Sequential(*convolutions, *head)


def train(model: nn.Module, batches: Batches, optimizer: torch.optim.Optimizer) -> None:
    """An epoch."""
    model.train()
    for images, targets in batches:
        optimizer.zero_grad()
        nn.functional.nll_loss(model(images), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@torch.no_grad()
def test(model: nn.Module, batches: Batches) -> float:
    """The accuracy."""
    model.eval()
    right = [model(images).argmax(1) == targets for images, targets in batches]
    return torch.cat(right).float().mean().item()


def main() -> None:
    """Trains until the target is reached."""
    data, seed, target = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    torch.manual_seed(seed)
    transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    train_images, test_images = (MNIST(data, train=part, transform=transform, download=True) for part in (True, False))
    train_batches = DataLoader(train_images, batch_size=64, shuffle=True)
    test_batches = DataLoader(test_images, batch_size=1000)
    model = network()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = StepLR(optimizer, step_size=1, gamma=0.7)
    started = time.perf_counter()
    accuracy, epochs = 0.0, 0
    while accuracy < target and epochs < MAX_EPOCHS:
        train(model, train_batches, optimizer)
        accuracy = test(model, test_batches)
        schedule.step()
        epochs += 1
    seconds = time.perf_counter() - started
    print(json.dumps({"accuracy": round(accuracy, 6), "epochs": epochs, "train_seconds": seconds}))


if __name__ == "__main__":
    main()
