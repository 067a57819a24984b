"""What to call a run on a page: its network and its data set, and what sets it apart from others."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_DATA = {
    "digits": "digits (scikit-learn)",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
_FAMILIES = {
    "lenet": "LeNet-",
    "alexnet": "AlexNet",
    "googlenet": "GoogLeNet",
    "resnet": "ResNet-",
    "sequential": "Layers in YAML",
}
# Keys that say where and how a run was made, and nothing of what it learns.
_CIRCUMSTANCES = (
    "run.",
    "expect",
    "data.root",
    "data.storage",
    "data.num_workers",
    "recipe.checkpoint_every_steps",
    "recipe.checkpoint_every_minutes",
)
_MOST_KEYS, _MOST_LETTERS = 3, 30


def run_title(config: Mapping[str, Any]) -> str:
    """`LeNet-5 on CIFAR-10`.

    Args:
        config: A resolved configuration as plain values.
    """
    return f"{network_title(config.get('model') or {})} on {data_title(config)}"


def network_title(model: Mapping[str, Any]) -> str:
    """`lenet5` -> `LeNet-5`, `alexnet` in its small variant -> `AlexNet small`."""
    name = str(model.get("name", "network"))
    family, number = re.fullmatch(r"(.*?)(\d*)", name, re.DOTALL).groups()  # type: ignore[union-attr]
    variant = model.get("variant")
    return f"{_FAMILIES.get(family, family)}{number}" + (f" {variant}" if variant not in (None, "modern") else "")


def data_title(config: Mapping[str, Any]) -> str:
    """A data set's own name, or that of its folder."""
    data, run = config.get("data") or {}, config.get("run") or {}
    folder = Path(str(run.get("data_root") or ""), str(data.get("root") or "")).name
    return _DATA.get(data.get("source", "")) or folder or str(data.get("source", "images"))


def folder_title(folder: Path) -> str:
    """`my/20261124-120000`: the folder of a run, and the one that it lies in."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}"


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what a run learns, but for its seed and the images: dotted keys with their values."""
    return {key: value for key, value in flatten(config).items() if not key.startswith(_CIRCUMSTANCES)}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def as_yaml(value: Any) -> str:
    """A value on one line, as a configuration has it."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()


def labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What sets each configuration apart from the others: `lr 0.1`, `ResNet-20 on MNIST`; empty where nothing does.

    Args:
        configs: Resolved, as plain values.
    """
    titles = [[network_title(config.get("model") or {}), data_title(config)] for config in configs]
    same = [len(set(column)) == 1 for column in zip(*titles, strict=True)]
    heads = [" on ".join(part for part, alike in zip(title, same, strict=True) if not alike) for title in titles]
    flat = [settings_of(config) for config in configs]
    keys = [key for key in dict.fromkeys(key for settings in flat for key in settings) if not _is_in_title(key, same)]
    differing = [key for key in keys if len({as_yaml(settings.get(key)) for settings in flat}) > 1]
    if len(differing) > _MOST_KEYS:
        names = [str((config.get("run") or {}).get("name")) for config in configs]
        if len(set(names)) == len(names):
            return [", ".join(filter(None, (head, name))) for head, name in zip(heads, names, strict=True)]
    shown = differing[:_MOST_KEYS]
    return [
        ", ".join(filter(None, (head, *(f"{_short(key, shown)} {_cut(as_yaml(settings.get(key)))}" for key in shown))))
        for head, settings in zip(heads, flat, strict=True)
    ]


def _is_in_title(key: str, same: Sequence[bool]) -> bool:
    """Whether the network's or the data set's name stands for a key: other networks have other options."""
    same_network, same_data = same
    return (key.startswith("model.") and not same_network) or (key.startswith("data.") and not same_data)


def _short(key: str, among: Sequence[str]) -> str:
    last = key.rsplit(".", 1)[-1]
    return last if sum(other.rsplit(".", 1)[-1] == last for other in among) == 1 else key


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"
