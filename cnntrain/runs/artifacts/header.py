"""The header of a checkpoint: everything that must be known to use its weights."""

from collections import Counter
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter

from cnntrain.data.options import MIN_STD, Side
from cnntrain.errors import CheckpointError
from cnntrain.runs.artifacts.checking import CLOSED, Text, Values, check, fault, read_json
from cnntrain.runtime.names import shortened


def plain_number(value: object) -> object:
    """Raises ValueError where a value is no number of Python's own."""
    if type(value) not in (int, float):  # pydantic takes a tensor or an array of one number for a float
        raise ValueError(f"must be a number (got {shortened(value, 60)})")
    if isinstance(value, int) and abs(value) > 2**53:
        raise ValueError("must be a number that a float can hold")
    return value


Float = Annotated[float, BeforeValidator(plain_number)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Share = Annotated[Float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _different(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        twice, _ = Counter(names).most_common(1)[0]
        raise ValueError(f"must be different names (got {twice!r} more than once)")
    return names


def _one_or_three(value: int) -> int:
    if value not in (1, 3):
        raise ValueError(f"must be one of 1 or 3 (got {value})")
    return value


def _named(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


Name = Annotated[Text, AfterValidator(_named)]
ClassNames = Annotated[list[Name], Field(min_length=2, max_length=10**6), AfterValidator(_different)]


class PreprocessingValues(Values):
    """Of `Preprocessing`."""

    channels: Annotated[int, AfterValidator(_one_or_three)]  # of a Literal, true would be 1
    image_size: Side
    stored_size: Side
    resize: Literal["crop", "letterbox", "squash"]
    mean: list[Share]
    std: list[Annotated[Float, Field(ge=MIN_STD, le=1)]]


class SplitIdentity(Values):
    """Which images a split had."""

    num_images: Count
    sha256: Sha256
    also_in_train: NotRequired[Count]
    same_pixels_in_train: NotRequired[Count]


class SplitIdentities(Values, total=False):
    """Of the three splits."""

    train: SplitIdentity
    val: SplitIdentity
    test: SplitIdentity


class Described(Values):
    """What weights to start from bring with them."""

    class_names: ClassNames
    preprocessing: PreprocessingValues


class ValFigures(Values, total=False):
    """Validation metrics of the weights; none before there are any."""

    loss: Float
    accuracy: Share
    top5_accuracy: Share
    balanced_accuracy: Share
    macro_f1: Share


class HeaderValues(Described):
    """The whole header."""

    __pydantic_config__ = CLOSED  # type: ignore[misc]

    config: dict[str, Any]
    splits: SplitIdentities
    epoch: Count
    step: Count
    val: ValFigures
    temperature: Annotated[Float, Field(ge=1e-3, le=1e3)]


_DESCRIBED, _HEADER = TypeAdapter(Described), TypeAdapter(HeaderValues)


def read_header(text: str, path: object, *, whole: bool = True) -> dict[str, Any]:
    """A checkpoint's header as plain values.

    Args:
        text: JSON.
        path: The checkpoint.
        whole: Or class names and preprocessing alone are looked at.

    Raises:
        CheckpointError: It is not what this version of cnntrain writes.
    """
    place = f"{path}: its header does not fit this version of cnntrain"
    values: dict[str, Any] = read_json(text, place)
    check(_HEADER if whole else _DESCRIBED, values, place)
    preprocessing = values["preprocessing"]
    if whole and (unknown := preprocessing.keys() - PreprocessingValues.__annotations__):
        raise fault(place, ("preprocessing", min(unknown)), "unknown key")
    for key in ("mean", "std"):
        if len(preprocessing[key]) != preprocessing["channels"]:
            what = f"must have a value for each of {preprocessing['channels']} channels (got {preprocessing[key]})"
            raise fault(place, ("preprocessing", key), what)
    if preprocessing["stored_size"] < preprocessing["image_size"]:
        what = f"must be at least image_size, {preprocessing['image_size']} (got {preprocessing['stored_size']})"
        raise fault(place, ("preprocessing", "stored_size"), what)
    return values


def check_agreement(data: dict[str, Any], preprocessing: dict[str, Any], path: object) -> None:
    """Compares the sizes of a header's preprocessing with those that its configuration was pinned to.

    Raises:
        CheckpointError: They differ.
    """
    for key in ("channels", "image_size", "stored_size"):
        if data.get(key) not in (None, preprocessing[key]):
            difference = f"preprocessing.{key} is {preprocessing[key]}, config.data.{key} is {data[key]}"
            raise CheckpointError(f"{path}: its header contradicts itself: {difference}")
