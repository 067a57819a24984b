"""What a training checkpoint holds besides its header: all that training needs to go on."""

import math
from pathlib import Path
from typing import Annotated, Any, NotRequired

import torch
from pydantic import BeforeValidator, Field, PlainValidator, TypeAdapter
from torch import Tensor

from cnntrain.runs.artifacts.checking import Text, Values, check, fault
from cnntrain.runs.artifacts.header import Count, Float, plain_number
from cnntrain.runs.artifacts.records import NotNegative, Positive, Weights, check_metrics, read_line

_LARGEST = torch.finfo(torch.float32).max  # the summed loss of an epoch that goes wrong may come near


def _number(value: object) -> object:
    """A number that goes on as a float32 sum, or a tensor that holds one."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.device.type == "cpu" and not value.is_complex():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError("must be a number that float32 can hold, or a tensor of one")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # it would be added to a tensor
        raise ValueError("must be a number that 64 bits hold")
    return value


def _bytes(value: object) -> object:
    if not (isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 1 and value.is_contiguous()):
        raise ValueError("must be a uint8 tensor of one dimension")
    return value


Number = Annotated[Any, PlainValidator(_number)]
_Plain = BeforeValidator(plain_number)
MaybeNan = Annotated[float, Field(allow_inf_nan=True), _Plain]
NotNan = Annotated[float, Field(allow_inf_nan=True, ge=-math.inf), _Plain]  # infinite before there is a first value


class SumValues(Values):
    """Of `EpochSums`."""

    loss: Number
    weight: Number
    correct: Number
    num_images: Count
    seconds: NotNegative
    data_seconds: NotNegative


class ProgressValues(Values):
    """Of `Progress`."""

    epoch: Positive
    sums: SumValues
    val: dict[Text, Any]
    best: Annotated[Any, PlainValidator(_bytes)]
    seconds: NotNegative
    total_seconds: NotRequired[NotNegative]
    rollback_steps: NotRequired[list[Count]]
    nonfinite_in_a_row: Count
    nonfinite_steps: Count
    left_out: list[Count]
    rollbacks: Count
    changes: list[Text]


class FigureValues(Values):
    """Of `EpochFigures`; an epoch whose steps were all left out has no loss."""

    loss: MaybeNan
    accuracy: MaybeNan
    num_images: Count
    seconds: Annotated[Float, Field(gt=0)]
    data_seconds: NotNegative


class LoggedStepsValues(Values):
    """Of `LoggedSteps`."""

    lines: list[Text]
    spacing: Positive
    num_logged: Count


class LogValues(Values):
    """Of `RunLog`."""

    epochs: list[FigureValues]
    lines: list[Text]
    event_files: dict[Text, Count]
    signals: NotRequired[LoggedStepsValues]
    told: NotRequired[list[Text]]


class StoppingValues(Values):
    """Of `EarlyStopping`."""

    metric: Text
    best_epoch: Count
    best: Annotated[list[NotNan], Field(min_length=2, max_length=2)]
    reference: NotNan
    num_waited: Count


class SchedulerValues(Values):
    """Of `Scheduler`."""

    next_step: Count
    reduction: Annotated[Float, Field(gt=0, le=1)]
    plateau: StoppingValues | None


class GroupValues(Values):
    """Parameters with the same options."""

    params: list[Count]


class OptimizerValues(Values):
    """Of an optimizer of PyTorch's; `Learner` compares it with its own."""

    state: dict[Count, dict[Text, Any]]
    param_groups: Annotated[list[GroupValues], Field(min_length=1)]


class EnvironmentValues(Values):
    """What the last bit depends on."""

    torch: Text
    processor: Text
    threads: Annotated[int, Field(ge=1, le=1024)]


class TrainingValues(Values):
    """The whole checkpoint."""

    header: Text
    step: Count
    model: dict[Text, Tensor]
    kept: dict[Text, Tensor]
    optimizer: OptimizerValues
    optimizer_name: Text
    scheduler: SchedulerValues
    stopping: StoppingValues
    scaler: dict[Text, Number]
    scaler_skips: Count
    last_learning_rate: NotNegative
    weights: Weights | None
    progress: ProgressValues
    log: LogValues
    environment: EnvironmentValues


_TRAINING = TypeAdapter(TrainingValues)


def check_training(state: object, path: str) -> None:
    """Checks all of a training checkpoint but its header and weights.

    Raises:
        CheckpointError: It is not what this version of cnntrain writes.
    """
    place = f"{path}: no training checkpoint of this version of cnntrain"
    check(_TRAINING, state, place)
    assert isinstance(state, dict)
    if state["scheduler"]["next_step"] != state["step"]:
        raise fault(place, ("scheduler", "next_step"), f"must be step, {state['step']}")
    if state["scaler"].get("scale", 1) <= 0:
        raise fault(place, ("scaler", "scale"), "must be above 0")
    if state["progress"]["val"]:
        check_metrics(state["progress"]["val"], f"{place}: progress.val")
    log = state["log"]
    for name, lines in (("metrics.jsonl", log["lines"]), ("signals.jsonl", log.get("signals", {}).get("lines", []))):
        for number, line in enumerate(lines, 1):
            read_line(line.encode(errors="replace"), Path(f"{place}: log") / name, number)
    if len(log["epochs"]) != len(log["lines"]):
        raise fault(place, ("log", "epochs"), f"must be as many as lines, {len(log['lines'])}")
