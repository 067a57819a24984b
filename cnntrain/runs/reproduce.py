"""Reproduction: does a trained network reach what its configuration promises?"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cnntrain.config.loading import Config
from cnntrain.config.schema import Expect
from cnntrain.data.sources import is_folder

# Where the same images lie differs from machine to machine; a source may also be read as a folder of its images.
_PLACES = ("data.root", "data.splits")


class Comparison(NamedTuple):
    """Whether every stated metric lies in its band, and that in words."""

    reproduced: bool
    text: str


def compare(test: Mapping[str, Any], expect: Expect) -> Comparison:
    """Compares the metrics of a test with the bands of a configuration; a band's ends belong to it.

    Args:
        test: `accuracy` as a fraction and, of more than five classes, `top5_accuracy`.
        expect: The bands.
    """
    places = [_place("test accuracy", test["accuracy"], expect.accuracy)]
    if expect.top5_accuracy:
        places.append(_place("top-5 accuracy", test.get("top5_accuracy"), expect.top5_accuracy))
    reproduced = all(place.reproduced for place in places)
    outcome = "reproduced" if reproduced else "not reproduced"
    return Comparison(reproduced, f"{outcome}: {'; '.join(place.text for place in places)} ({expect.basis})")


def changed_keys(stated: Config, used: Config) -> list[str]:
    """The keys of model, data and recipe in which two configurations differ; where the images lie does not count."""
    differing = []
    for section in ("model", "data", "recipe"):
        before, after = getattr(stated, section).model_dump(), getattr(used, section).model_dump()
        keys = dict.fromkeys([*before, *after])
        differing += [f"{section}.{key}" for key in keys if before.get(key) != after.get(key)]
    as_folder = is_folder(stated.data.source) or is_folder(used.data.source)
    return [key for key in differing if key not in _PLACES and not (key == "data.source" and as_folder)]


def _place(name: str, value: float | None, band: tuple[float, float]) -> Comparison:
    low, high = band
    spoken = f"{100 * low:.2f} to {100 * high:.2f} %"
    if value is None:
        return Comparison(False, f"no {name}, which needs more than 5 classes; expected {spoken}")
    where = "below" if value < low else "above" if value > high else "within"
    return Comparison(where == "within", f"{name} {100 * value:.2f} %, {where} {spoken}")
