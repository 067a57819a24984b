"""The parts of a training, each of which can be measured alone."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from cnntrain.data.batches import Batch, eval_batches
from cnntrain.runs.run_log import RunLog
from cnntrain.runtime.device import autocast, exact_float32
from cnntrain.tasks.evaluation import evaluate
from cnntrain.training.cutting import cut_up
from cnntrain.training.loop import begin_epoch, epoch_batches, train_epoch
from cnntrain.training.nonfinite import check_event
from cnntrain.training.setup import Built, SetUp
from cnntrain.training.state import TrainingState

SECONDS = 0.6  # that the bare steps of a round take, about: short, so that what else goes on meets all parts alike


class Parts:
    """What is measured, each a function that handles `steps` batches and returns how many images those are.

    All is as in the last epoch, when the whole network is trained on images of full size.

    Args:
        ready: A training that is set up; its state is put back to its start before each part.
        log: Of the epochs of training.
        alone: The same network in a training of one process, where `ready` is one of several.

    Attributes:
        by_name: The parts.
        batch_size: The configuration's, or all training images where they are fewer.
        steps: Of a part.
        data_shares: Of the time of each `train`, spent waiting for data.
    """

    def __init__(self, ready: SetUp, log: RunLog, alone: Built | None = None) -> None:
        self.state, self.log, self._splits = ready.state, log, ready.splits
        train, self._epoch = ready.splits.train, ready.settings.epochs
        self._compiled = ready.config.run.compile
        self._alone = alone.state if alone else self.state
        begin = [(self.state, ready.settings), *([(alone.state, alone.settings)] if alone else [])]
        self._starts = [(state, settings, copy.deepcopy(state.state_dict())) for state, settings in begin]
        self.batch_size = min(ready.settings.batch_size, len(train))
        self.settings = replace(ready.settings, batch_size=self.batch_size)
        self._batch = next(self._batches())
        self._eval_batch = next(eval_batches(train, ready.splits.preprocessing, self.settings.eval_batch_size))
        self.by_name: dict[str, Callable[[], int]] = {
            "bare_step": self.bare_step,
            "train": self.train,
            "data": self.data,
            "forward": self.forward,
            "evaluate": self.evaluate,
            "training_forward": self.training_forward,
            "update": self.update,
            **({"silent_step": self.silent_step} if alone else {}),
        }
        self.data_shares: list[float] = []
        whole_batches = len(train) // self.batch_size
        self.steps = min(3, whole_batches)
        seconds_per_step = self.batch_size / max(self.rate(self.bare_step) for _ in range(2))
        steps = min(whole_batches, max(3, round(SECONDS / seconds_per_step)))
        self.steps = self.settings.processes.first(lambda: steps)
        chosen = torch.arange(self.steps * self.batch_size)
        self._splits = replace(ready.splits, train=train.subset(chosen))
        self.settings = replace(self.settings, num_images=len(chosen))
        for part in self.by_name.values():  # compiles, allocates and draws what only the first time needs
            self.rate(part)

    def rate(self, part: Callable[[], int]) -> float:
        """Images per second of a part, of all processes together."""
        for state, settings, start in self._starts:
            state.load_state_dict(copy.deepcopy(start))
            begin_epoch(state.network, settings, self._epoch)
        self._wait()
        started = time.perf_counter()
        num_images = part()
        self._wait()
        return num_images / (time.perf_counter() - started)

    def bare_step(self) -> int:
        """Steps 3 to 6 on one batch, as one would write them down."""
        for _ in range(self.steps):
            self._forward_backward()
            self.state.optimizer.step()
            self.state.optimizer.zero_grad(set_to_none=True)
        return self.steps * self.batch_size

    def silent_step(self) -> int:
        """The same of this process's images, which tells the other processes nothing."""
        for _ in range(self.steps):
            for loss in self._losses_alone():
                loss.backward()  # type: ignore[no-untyped-call]
            self._alone.optimizer.step()
            self._alone.optimizer.zero_grad(set_to_none=True)
        return self.steps * self.batch_size

    def train(self) -> int:
        """What `cnntrain train` does in an epoch."""
        self.state.go_to_epoch(self._epoch, self.steps)
        for event in train_epoch(self.state, self._splits, self.settings):
            check_event(event, self.state.network)
            self.log.see(event)
        figures = self.state.sums.figures()
        self.data_shares.append(figures.data_share)
        return figures.num_images

    def data(self) -> int:
        """Batches and augmentation."""
        for _ in self._batches():
            pass
        return self.steps * self.batch_size

    @torch.inference_mode()
    def forward(self) -> int:
        """The network in evaluation mode and float32."""
        self.state.network.eval()
        for _ in range(self.steps):
            with exact_float32():
                self.state.network(self._eval_batch.images)
        return self.steps * len(self._eval_batch.targets) * self.settings.processes.count

    def evaluate(self) -> int:
        """What validation does, on as many images as are trained on."""
        split, settings = self._splits.train, self.settings
        batches = eval_batches(split, self._splits.preprocessing, settings.eval_batch_size, settings.processes)
        evaluate(self.state.network, batches, settings.task, settings.processes)
        return len(split)

    def training_forward(self) -> int:
        """Steps 3 and 4 alone."""
        for _ in range(self.steps):
            if self._compiled:  # or a recorded pass would wait for its backward pass
                torch.compiler.cudagraph_mark_step_begin()
            for _ in self._losses_alone():
                pass
        return self.steps * self.batch_size

    def update(self) -> int:
        """Step 6 alone, always with the same gradients."""
        self._forward_backward()
        for _ in range(self.steps):
            self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)
        return self.steps * self.batch_size

    def _forward_backward(self) -> None:
        exchange, portions = self.state.exchange, self.settings.portions(self.batch_size)
        for portion, batch in zip(portions, cut_up(self._batch, portions), strict=True):
            with exchange.around(portion, is_last=portion is portions[-1], keys=(self.settings.seed, 0)):
                self._loss(self.state, batch).backward()  # type: ignore[no-untyped-call]
        exchange.finish()

    def _losses_alone(self) -> Iterator[torch.Tensor]:
        for batch in cut_up(self._batch, self.settings.portions(self.batch_size)):
            if len(batch.targets):
                yield self._loss(self._alone, batch)

    def _loss(self, state: TrainingState, batch: Batch) -> torch.Tensor:
        settings = self.settings
        with autocast(settings.precision, settings.device):
            outputs = state.forward(batch.images)
        loss, _, _ = settings.task.training_loss(settings.criterion, outputs, batch.targets)
        return loss / self.batch_size

    def _batches(self) -> Iterator[Batch]:
        return epoch_batches(self._splits, self.settings, self._epoch)

    def _wait(self) -> None:
        if self.state.device.type != "cpu":
            torch.accelerator.synchronize()
        self.settings.processes.any(False)
