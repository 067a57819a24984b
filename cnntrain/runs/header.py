"""The header of a checkpoint: everything that must be known to use its weights."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from cnntrain.config import schema
from cnntrain.config.loading import Config, parse_config
from cnntrain.config.reader import write_yaml
from cnntrain.data.batches import steps_per_epoch
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.errors import CheckpointError, ConfigError
from cnntrain.models import build_model, build_outline
from cnntrain.models.options import NetworkOptions
from cnntrain.runs.artifacts.header import check_agreement, read_header
from cnntrain.runs.titles import run_title
from cnntrain.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class Header:
    """Everything that must be known to use a network's weights.

    Attributes:
        splits: Number of images and sha256 of train, val and test.
        epoch: Of these weights; of a training checkpoint, the one in progress.
        step: Updates so far.
        val: Validation metrics of these weights, numbers alone; of a training checkpoint, of the best so far.
        temperature: See `SingleLabel`; other than 1 only where `recipe.temperature_scaling` asked for it.
    """

    config: Config
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    splits: dict[str, dict[str, Any]]
    epoch: int = 0
    step: int = 0
    val: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0

    @property
    def task(self) -> SingleLabel:
        """What the network's outputs mean."""
        return SingleLabel(self.class_names, self.config.recipe.loss, self.temperature)

    @property
    def run_name(self) -> str | None:
        """What the run is called."""
        return self.config.run.name

    @property
    def title(self) -> str:
        """What the run was, for people: `LeNet-5 on MNIST`."""
        return run_title(self.config.model_dump(mode="json"))

    @property
    def network_options(self) -> NetworkOptions:
        """The network's name and options."""
        return self.config.model

    @property
    def network_name(self) -> str:
        """Such as `lenet5`."""
        return self.config.model.name

    @property
    def data_options(self) -> schema.Data:
        """Which data the network was trained on, and how they were split."""
        return self.config.data

    @property
    def data_root(self) -> str | None:
        """Where these data lived in training."""
        return self.config.run.data_root

    @property
    def steps_per_epoch(self) -> int:
        """Of its training."""
        return steps_per_epoch(self.split("train")["num_images"], self.config.recipe.batch_size)

    @property
    def eval_batch_size(self) -> int:
        """Images at once where nothing is learnt."""
        return self.config.recipe.images_at_once

    @property
    def num_threads(self) -> int | None:
        """That computed in training on the CPU; None where a GPU did."""
        return self.config.run.threads if self.config.run.device == "cpu" else None

    def build_network(self, seed: int = 0) -> nn.Module:
        """The network with initial weights, drawn from `seed`, in the place of those that were learnt."""
        return build_model(self.network_options, self.preprocessing.inputs, self.task.num_outputs, seed=seed)

    def build_outline(self) -> nn.Module:
        """The network with shapes but no values.

        Raises:
            ConfigError: There is no such network.
        """
        return build_outline(self.network_options, self.preprocessing.inputs, self.task.num_outputs)

    @property
    def says_of_confidence(self) -> str:
        """What the probabilities are worth, in words."""
        num_images = self.split("val")["num_images"]
        if self.temperature != 1:
            few = ", which are few" if num_images < 100 else ""
            return f"calibrated on {num_images:,} validation images{few}"
        asked = self.config.recipe.temperature_scaling
        return "not calibrated" + (f" ({num_images:,} validation images gave no temperature)" if asked else "")

    def split(self, name: str) -> dict[str, Any]:
        """Which images a split had; of one that the header does not know, none."""
        return self.splits.get(name, {"num_images": 0, "sha256": ""})

    def at(self, epoch: int, step: int, val: dict[str, float]) -> "Header":
        """The same at a moment of training."""
        return replace(self, epoch=epoch, step=step, val=val)

    def to_json(self) -> str:
        """As text, for a checkpoint."""
        values = {key: getattr(self, key) for key in ("class_names", "splits", "epoch", "step", "val", "temperature")}
        values |= {"config": self.config.model_dump(mode="json"), "preprocessing": self.preprocessing.to_dict()}
        return json.dumps(values, allow_nan=False)  # in ASCII: names of folders may be no UTF-8

    @classmethod
    def from_json(cls, text: str, path: Path) -> "Header":
        """The inverse of `to_json`, every value checked.

        Raises:
            CheckpointError: The text is not what this version of cnntrain writes.
        """
        values = read_header(text, path)
        try:
            if isinstance(values["config"].get("data"), dict):  # of a version that carved so
                values["config"]["data"].setdefault("group_copies", "none")
            config = parse_config(write_yaml(values["config"]), str(path))
        except (ConfigError, ValueError, RecursionError) as error:
            what = "; ".join(error.lines) if isinstance(error, ConfigError) else str(error)
            raise CheckpointError(
                f"{path}: its header does not fit this version of cnntrain: config: {what}"
            ) from error
        check_agreement(config.data.model_dump(), values["preprocessing"], path)
        values |= {"config": config, "class_names": tuple(values["class_names"])}
        return cls(**{**values, "preprocessing": Preprocessing.from_dict(values["preprocessing"])})
