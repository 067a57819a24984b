"""What one process and several learn, case by case. As a script it forks groups of processes, each of which tries all.

    python tests/several.py OUT      # OUT/1.pt, OUT/2.pt, ...: what came out of each case, as the first process has it

One process that has imported everything is forked again and again, so that a group begins at once.
"""

import copy
import hashlib
import os
import signal
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import torch
import yaml
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cnntrain.config.loading import Config, load_config
from cnntrain.data.batches import Batch
from cnntrain.data.prepare import prepare_data
from cnntrain.data.splits import Splits
from cnntrain.errors import NumericalError
from cnntrain.runtime.joining import joined
from cnntrain.runtime.neighbours import Neighbours
from cnntrain.runtime.processes import Processes
from cnntrain.runtime.together import Together
from cnntrain.training.events import StepDone
from cnntrain.training.loop import begin_epoch, epoch_batches, learn, train_step
from cnntrain.training.nonfinite import NonfiniteStep
from cnntrain.training.overlapping import Overlapped
from cnntrain.training.setup import Built, build_training

GIVE_UP_SECONDS = 240
COUNTS = (1, 2, 3, 4)
RECIPE = "batch_size: 24, epochs: 2, optimizer: {name: sgd, lr: 0.005}, schedule: {name: constant}, precision: float32"


@dataclass(frozen=True)
class Case:
    """A short training.

    Attributes:
        model: As in a configuration; a list is the layers of a sequential network.
        recipe: Beside `RECIPE`.
        data: Beside the digits.
        images: Training images. With batches of 24 the last one has 3 or, of 74, 2: fewer than there are processes.
        compiled: By a compiler that changes nothing.
        spoiled: The step (from 0), the row of its batch and the value that every pixel of it gets.
        doubled: Everything is computed in float64.
        reversed: Each batch is turned around, so that nothing changes but the order in which its sums are added up.
        counts: On how many processes it is tried.
        counted: What each step asks of others and of the device is counted, as on a GPU, and nothing else is looked at.
        averaged: The gradients of the processes are averaged, whatever each has of the batch, as would be wrong.
    """

    model: str
    recipe: str = ""
    data: str = ""
    images: int = 75
    compiled: bool = False
    spoiled: tuple[int, int, float] | None = None
    doubled: bool = False
    reversed: bool = False
    counts: tuple[int, ...] = COUNTS
    counted: bool = False
    averaged: bool = False

    def config(self) -> Config:
        """Its configuration."""
        model = f"{{name: sequential, layers: {self.model}}}" if self.model.startswith("[") else self.model
        sections = {
            "model": yaml.safe_load(model),
            "data": {"source": "digits", "image_size": 8, **yaml.safe_load(f"{{{self.data}}}")},
            "recipe": yaml.safe_load(f"{{{RECIPE}}}") | yaml.safe_load(f"{{{self.recipe}}}"),
            "run": {"device": "cpu", "threads": 1, "log_every_steps": 3, "compile": self.compiled},
        }
        return load_config(sections).config


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        losses: Of each step.
        epochs: Loss and accuracy of each in training, then all of its validation.
        reasons: Why steps were left out, and at last why training ended, if it did.
        weights: By name; those of the average too.
        digest: Of `weights` and of all that the optimizer and the rest of the state remember.
        disagrees: Whether another process has come to something else.
        calls: Of each step that is counted, how often the processes met and the host waited.
    """

    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    weights: dict[str, Tensor] = field(default_factory=dict)
    digest: str = ""
    disagrees: bool = False
    calls: list[dict[str, int]] = field(default_factory=list)


_MESSAGES = {"allreduce_": "sum", "allgather_": "stack"}


class Calls(TorchDispatchMode):
    """Counts messages, and numbers that the host reads, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(function).partition(".")[2].partition(".")[0]
        # (int32: DistributedDataParallel's own list of what is used, which is on the CPU wherever the network is)
        reads = name == "_local_scalar_dense" and args[0].dtype != torch.int32
        if reads or name in ("nonzero", "equal") or str(function).startswith("c10d"):
            self.counts["reads" if reads else _MESSAGES.get(name, name)] += 1
        return function(*args, **(kwargs or {}))


def tried(case: Case, splits: Splits, processes: Processes) -> Outcome:
    """Trains."""
    config = case.config()
    with ExitStack() as stack:
        if case.compiled:
            stack.enter_context(patch("torch.compile", lambda model, **_: _compile(model, backend="eager")))
        if case.doubled:
            stack.enter_context(patch("torch.Tensor.float", torch.Tensor.double))
        built = build_training(config, splits, torch.device("cpu"), processes=processes)
        if case.doubled:
            built.state.network.double()
            built.state.kept.double()
        if case.averaged and isinstance(processes, Together):
            stack.enter_context(
                patch.object(
                    Overlapped,
                    "weight",
                    lambda _, criterion, targets, __: len(torch.cat(targets)) * processes.count or 1,
                )
            )
        outcome = _counted(built, splits) if case.counted else _learnt(case, built, splits)
    average = built.state.average.network.state_dict() if built.state.average else {}
    outcome.weights = {
        **built.state.network.state_dict(),
        **{f"average.{key}": value for key, value in average.items()},
    }
    outcome.digest = _digest([outcome.weights, built.state.state_dict()["optimizer"], outcome.losses, outcome.epochs])
    all_of_them = processes.gather((outcome.digest, *outcome.reasons))
    outcome.disagrees = len(set(all_of_them)) > 1
    return outcome


_compile = torch.compile


def _learnt(case: Case, built: Built, splits: Splits) -> Outcome:
    state, settings, outcome = built.state, built.settings, Outcome()

    def training(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            images = batch.images.double() if case.doubled else batch.images
            targets = batch.targets.double() if case.doubled and batch.targets.is_floating_point() else batch.targets
            if case.spoiled and state.step == case.spoiled[0]:
                rows = [
                    row
                    for some in settings.rows(settings.images_in(state.step))
                    for row in range(some.start, some.stop)
                ]
                images = images.clone()
                images[[row == case.spoiled[1] for row in rows]] = case.spoiled[2]
            yield Batch(images.flip(0), targets.flip(0)) if case.reversed else Batch(images, targets)

    def validating(batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield Batch(batch.images.double(), batch.targets) if case.doubled else batch

    saved = copy.deepcopy(state.state_dict())
    while True:
        try:
            for event in learn(state, splits, settings, training=training, validating=validating):
                if isinstance(event, StepDone):
                    outcome.losses.append(event.loss)
                    outcome.reasons += [event.reason] if event.reason else []
                else:
                    figures = {"loss": event.train.loss, "accuracy": event.train.accuracy, "rate": event.learning_rate}
                    outcome.epochs.append({**figures, "improved": event.improved, **_plain(event.val)})
                    saved = copy.deepcopy(state.state_dict())
            return outcome
        except NonfiniteStep as error:
            outcome.reasons.append(str(error))
            state.go_back(saved, without=error.step)
        except NumericalError as error:
            outcome.reasons.append(str(error))
            return outcome


def _counted(built: Built, splits: Splits) -> Outcome:
    state, settings, outcome = built.state, built.settings, Outcome()
    on_gpu = replace(settings, device=torch.device("cuda"))  # where the loop leaves out what would make the host wait
    begin_epoch(state.network, settings, 1)
    for batch in list(epoch_batches(splits, settings, 1)):
        with Calls() as calls, _counting_neighbours(calls.counts):
            train_step(state, batch, on_gpu, measured=True)
        outcome.calls.append(dict(calls.counts))
    return outcome


@contextmanager
def _counting_neighbours(counts: Counter[str]) -> Iterator[None]:
    add_up, stack = Neighbours.add_up, Neighbours.stack

    def counted(name: str, method: Any) -> Any:
        def call(*arguments: Any) -> Any:
            counts[name] += 1
            return method(*arguments)

        return call

    with (
        patch.object(Neighbours, "add_up", counted("sum", add_up)),
        patch.object(Neighbours, "stack", counted("stack", stack)),
    ):
        yield


def _plain(values: Any) -> dict[str, float]:
    """Numbers by name, however deep they lie."""
    if isinstance(values, dict):
        return {
            f"{key}.{name}".strip("."): number for key, some in values.items() for name, number in _plain(some).items()
        }
    if isinstance(values, list | tuple):
        return _plain(dict(enumerate(values)))
    return {"": float(values)} if isinstance(values, int | float) else {}


def _digest(value: Any) -> str:
    digest = hashlib.sha256()

    def take(value: Any) -> None:
        if isinstance(value, dict):
            take([*value.items()])
        elif isinstance(value, list | tuple):
            for part in value:
                take(part)
        elif isinstance(value, Tensor):
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(repr(value).encode())

    take(value)
    return digest.hexdigest()


def group(count: int, work: Callable[[int], None]) -> None:
    """Calls `work` with its rank in each of so many processes, which are forks of this one, and waits for them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(count):
        if not (child := os.fork()):
            os.environ |= {
                "WORLD_SIZE": str(count), "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            }  # fmt: skip
            signal.alarm(GIVE_UP_SECONDS)
            _end_with(work, rank)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(f"{count} processes ended with {codes}")


def _end_with(work: Callable[[int], None], rank: int) -> NoReturn:
    code = 1
    try:
        work(rank)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def try_all(cases: dict[str, Case], out: Path) -> None:
    """Every case on every number of processes."""
    torch.set_num_threads(1)  # and so no thread but this one, which is all that a fork takes along
    splits = {name: _few(prepare_data(case.config().data), case.images) for name, case in cases.items()}

    def work(count: int) -> Callable[[int], None]:
        def run(rank: int) -> None:
            # Three have a machine each, as it were: they share no memory.
            far = patch("cnntrain.runtime.joining._machine", lambda: str(rank)) if count == 3 else nullcontext()
            with far, joined() as processes:
                assert processes.local_count == (1 if count == 3 else count)
                outcomes = {
                    name: tried(case, splits[name], processes) for name, case in cases.items() if count in case.counts
                }
            if not rank:
                torch.save(outcomes, out / f"{count}.pt")

        return run

    for count in COUNTS:
        group(count, work(count))


def _few(splits: Splits, images: int) -> Splits:
    return replace(splits, train=splits.train.subset(torch.arange(images)), val=splits.val.subset(torch.arange(61)))


if __name__ == "__main__":
    import several  # by this name the outcomes are found again
    from several_cases import CASES

    several.try_all(CASES, Path(sys.argv[1]))
