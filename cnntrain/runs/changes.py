"""What a configuration may say anew when a run goes on, and what it may not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from cnntrain.config.loading import Config
from cnntrain.models.pretrained import PREPROCESSING

# What may be said anew when a run goes on: none of it changes what is learnt, or it is about how long and how safely.
_FREE = {
    "run.output", "run.name", "run.device", "run.threads", "run.data_root", "run.tensorboard", "run.report",
    "run.log_every_steps",
    "recipe.checkpoint_every_steps", "recipe.checkpoint_every_minutes", "recipe.on_nonfinite",
    "data.root", "data.storage", "data.num_workers", "data.on_error", "data.max_skipped", "expect",
}  # fmt: skip
# What a run pins when it begins, and a configuration may leave open.
_OPEN = {
    "run.data_root", "run.device", "run.threads", "recipe.precision", "recipe.micro_batch",
    "data.channels", "data.image_size", "data.stored_size",
}  # fmt: skip


# What decides which image is in which split. (The folder does not: it may have moved, and its images are compared.)
SPLITTING = tuple(
    f"data.{key}" for key in ("source", "splits", "val_fraction", "test_fraction", "split_seed", "group_copies")
)


def merge(before: Config, given: Config) -> tuple[Config, list[str]]:
    """The configuration to go on with, and what in it is not as it was, such as `recipe.batch_size: 64 -> 32`.

    What `given` leaves open stays as it was resolved when the run began.
    """
    old, new = before.model_dump(mode="json"), given.model_dump(mode="json")
    left_open = [key for key in _OPEN if _value(new, key) in (None, "auto")]
    if before.model.weights is not None:
        if _is_same_file(before.model.weights, given.model.weights):
            left_open.append("model.weights")
        # The preprocessing of trained weights was filled in where the configuration said nothing.
        left_open += [f"data.{key}" for key in PREPROCESSING if key not in given.data.model_fields_set]
    if "group_copies" not in given.data.model_fields_set:  # runs of older versions were carved without
        left_open.append("data.group_copies")
    for key in left_open:
        section, name = key.split(".")
        new[section][name] = old[section][name]
    flat_old, flat_new = _flat(old), _flat(new)
    changes = [
        f"{key}: {_text(flat_old.get(key))} -> {_text(flat_new.get(key))}"
        for key in sorted(flat_old.keys() | flat_new.keys())
        if flat_old.get(key) != flat_new.get(key) and key not in _FREE and not _extends(key, flat_old, flat_new)
    ]
    return Config.model_validate(new), changes


def _is_same_file(before: str, given: str | None) -> bool:
    """Whether `model.weights` means what it meant when the run began, which then recorded the file itself."""
    path = Path(given or "").expanduser().absolute()
    return given == before or (given is not None and Path(before).is_relative_to(path))


def _value(values: Mapping[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return values[section][name]


def _extends(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return key == "recipe.epochs" and bool(new[key] > old[key])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value and prefix + key not in _FREE:
            flat |= _flat(cast(Mapping[str, Any], value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
