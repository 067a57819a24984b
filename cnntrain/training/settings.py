"""How a network is trained: what stays the same throughout."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from cnntrain.data.batches import Batch, steps_per_epoch
from cnntrain.data.pipeline import AugmentationPipeline
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.seeds import torch_seeded
from cnntrain.tasks.task import Criterion, Task
from cnntrain.training.cutting import Portion, cut
from cnntrain.training.freezing import Freezing
from cnntrain.training.resizing import ProgressiveResizing


@dataclass(frozen=True)
class Settings:
    """A recipe, resolved: plain values, and the parts that never change.

    Attributes:
        task: What targets and outputs mean.
        criterion: The loss that is minimised.
        pipeline: Augments and normalises the images of a batch.
        freezing: Which part of the network stays as it is, by epoch.
        device: Where everything is computed.
        precision: Of forward and backward passes: `float32`, `bfloat16` or `float16`.
        num_images: Training images.
        batch_size: Images per step.
        micro_batch: Images per backward pass; None takes the whole batch.
        epochs: The most that are trained.
        seed: Of order, augmentation and dropout.
        balanced: Whether rare classes are drawn as often as the others.
        resizing: Makes the images of early epochs smaller; None keeps them at `image_size`.
        image_size: Side of the images in validation and in the last epoch, px.
        has_dropout: Whether the network draws random numbers in training.
        clip_grad_norm: The largest norm of all gradients together; None leaves them as they are.
        on_nonfinite: What is done about a loss or gradient that is not finite: `stop`, `skip` or `rollback`.
        log_every_steps: How often the norms of gradients and updates are measured, at the least.
        shards: Into how many parts each batch is cut, whose gradients are added up in order; None leaves it whole.
        processes: That work on each batch together.
    """

    task: Task[Any]
    criterion: Criterion
    pipeline: AugmentationPipeline
    freezing: Freezing
    device: torch.device
    precision: str
    num_images: int
    batch_size: int
    micro_batch: int | None
    epochs: int
    seed: int
    balanced: bool
    resizing: ProgressiveResizing | None
    image_size: int
    has_dropout: bool
    clip_grad_norm: float | None
    on_nonfinite: str
    log_every_steps: int
    shards: int | None = None
    processes: Processes = ALONE

    @property
    def eval_batch_size(self) -> int:
        """Images at once in validation: as many as the network takes in training, for so many fit into memory."""
        return self.micro_batch or self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return steps_per_epoch(self.num_images, self.batch_size)

    def images_in(self, step: int) -> int:
        """Images of the batch of a step (from 0)."""
        start = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, self.num_images - start)

    def num_images_of(self, batch: Batch, step: int) -> int:
        """Images of the whole batch of a step (from 0), of which this process has the ones in `batch`."""
        return len(batch.targets) if self.processes.count == 1 else self.images_in(step)

    def portions(self, num_images: int) -> list[Portion]:
        """How a batch of so many images is cut, and what of it falls to this process."""
        return cut(num_images, micro_batch=self.micro_batch, shards=self.shards, processes=self.processes)

    def rows(self, num_images: int) -> list[slice]:
        """Which images of a batch of so many fall to this process."""
        return [portion.rows for portion in self.portions(num_images)]

    def training_size(self, epoch: int) -> int:
        """The side of the training images in an epoch (from 1), px."""
        return self.resizing.size(epoch, self.epochs, self.image_size) if self.resizing else self.image_size

    def is_measured(self, step: int) -> bool:
        """Whether a step (from 0) has its norms measured: more often at the beginning, when most happens.

        At first each one, from step 40 on every second, from 60 on every third, until it is every `log_every_steps`-th.
        """
        return step % min(self.log_every_steps, max(1, step // 20)) == 0

    def seeded_dropout(self, step: int) -> AbstractContextManager[None]:
        """While a step (from 0) is computed: dropout draws by seed and step, whatever was drawn before."""
        return torch_seeded("dropout", self.seed, step, device=self.device) if self.has_dropout else nullcontext()
