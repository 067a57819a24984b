"""What a finding is, and those about single images and about what lies between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cnntrain.insight.data_check.look import Look
from cnntrain.insight.data_check.samples import Inventory

Severity = Literal["problem", "warning", "notice"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "notice")  # worst first

MIN_SIDE_PX = 32  # of an image, where no configuration says what a network needs
MAX_ASPECT = 3.0
MANY_PIXELS = 20_000_000
MIN_CONTRAST = 8  # levels


class Item(NamedTuple):
    """An image, a group of copies, a file, a folder or a class that a finding is about.

    Attributes:
        names: Of one, or of the images of a group.
        detail: What there is to say of it.
        indices: Of samples, one for each name; none where the names are not those of images.
    """

    names: tuple[str, ...]
    detail: str = ""
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something about the data that the user should know.

    Attributes:
        name: A few words.
        severity: `problem`: training would refuse the data, or its result could not be trusted. `warning`: somebody
            should look. `notice`: good to know.
        advice: What to do.
        items: What it is about.
        unit: What one item is.
    """

    name: str
    severity: Severity
    advice: str
    items: tuple[Item, ...]
    unit: str = "image"

    @property
    def how_many(self) -> str:
        """Such as `1 image`, `12 groups`, `3 classes`."""
        return counted(len(self.items), self.unit)


def counted(number: int, unit: str) -> str:
    """Such as `1 image`, `1,200 classes`."""
    plural = "" if number == 1 else "es" if unit.endswith("s") else "s"
    return f"{number:,} {unit}{plural}"


class Check(NamedTuple):
    """Something that may be odd about a single image.

    Attributes:
        name: As in `Finding`.
        severity: Likewise.
        advice: Likewise.
        detail: What there is to say of an image; empty where it is not odd.
    """

    name: str
    severity: Severity
    advice: str
    detail: Callable[[Look], str]


def look_findings(
    inventory: Inventory, looks: Sequence[Look], *, min_side: int | None, channels: int, skips: bool
) -> list[Finding]:
    """What is odd about single images.

    Args:
        inventory: Whose images.
        looks: What was seen of them.
        min_side: The network's image size, px; None where it is not known.
        channels: What the network takes.
        skips: Whether training would leave out what it cannot read.
    """
    checks = [*_reading_checks(skips), *_size_checks(min_side), *_colour_checks(looks, channels), *_NOTICES]
    findings = []
    for check in checks:
        details = [check.detail(look) for look in looks]
        items = tuple(Item((inventory.samples[i].name,), text, (i,)) for i, text in enumerate(details) if text)
        if items:
            findings.append(Finding(check.name, check.severity, check.advice, items))
    return findings


def _reading_checks(skips: bool) -> list[Check]:
    worst: Severity = "warning" if skips else "problem"
    left_out = "training leaves them out (data.on_error: skip)" if skips else "repair or remove them; training stops"
    unread_out = left_out if skips else "install what they need, or convert them; training stops"
    return [
        Check("no image, though named like one", worst, left_out, lambda look: "" if look.is_image else look.fault),
        Check(
            "of a format that is not read here", worst, unread_out, lambda look: look.fault if look.is_unread else ""
        ),
        Check(
            "damaged, cut off or not there",
            worst,
            left_out,
            lambda look: look.fault if look.is_image and not look.is_unread else "",
        ),
    ]


def _size_checks(min_side: int | None) -> list[Check]:
    side = min_side or MIN_SIDE_PX
    return [
        Check(
            f"smaller than the network's image_size ({side} px)" if min_side else f"very small (below {side} px)",
            "warning" if min_side else "notice",
            "they are enlarged and will look soft; use larger ones, or a smaller data.image_size",
            lambda look: _size(look) if _is_picture(look) and min(look.width, look.height) < side else "",
        ),
        Check(
            f"long and narrow (over {MAX_ASPECT:g} : 1)",
            "warning",
            "only their middle is seen with data.resize: crop; letterbox keeps all",
            lambda look: _size(look) if _is_picture(look) and _aspect(look) > MAX_ASPECT else "",
        ),
    ]


def _colour_checks(looks: Sequence[Look], channels: int) -> list[Check]:
    checks = [
        Check(
            "of a single colour",
            "warning",
            "look whether there is something to see; else remove them",
            lambda look: _size(look) if not look.fault and look.contrast < MIN_CONTRAST else "",
        ),
        Check(
            "CMYK",
            "warning",
            "colours are converted without their profile and may be off; save them as RGB",
            lambda look: "CMYK" if not look.fault and look.mode == "CMYK" else "",
        ),
    ]
    pictures = [look for look in looks if _is_picture(look)]
    num_grey = sum(_is_grey(look) for look in pictures)
    if channels == 3 and 0 < num_grey < len(pictures):
        rare = num_grey <= len(pictures) / 2
        checks.append(
            Check(
                "grey among colour" if rare else "colour among grey",
                "notice",
                "make sure that colour does not tell the classes apart by accident",
                lambda look: look.mode if _is_picture(look) and _is_grey(look) == rare else "",
            )
        )
    return checks


def _of_readable(name: str, advice: str, detail: Callable[[Look], str]) -> Check:
    return Check(name, "notice", advice, lambda look: "" if look.fault else detail(look))


_NOTICES = (
    _of_readable("with transparency", "it is shown on white", lambda look: look.mode if look.has_alpha else ""),
    _of_readable(
        "with a palette",
        "they are converted to RGB; palettes have few colours",
        lambda look: look.mode if look.mode in ("P", "PA") else "",
    ),
    _of_readable(
        "of more than 8 bits",
        "they are scaled to 8 bits",
        lambda look: look.mode if look.mode.startswith(("I", "F")) else "",
    ),
    _of_readable("with several frames", "the first one is taken", lambda look: look.format if look.is_animated else ""),
    _of_readable(
        "turned by their EXIF data",
        "they are shown upright, as people see them",
        lambda look: f"orientation {look.orientation}" if look.orientation in range(2, 9) else "",
    ),
    _of_readable(
        f"very large (over {MANY_PIXELS // 10**6} megapixels)",
        "decoding takes long; smaller copies train as well",
        lambda look: _size(look) if look.width * look.height > MANY_PIXELS else "",
    ),
)


def stray_findings(strays: Mapping[str, list[str]], *, skips: bool) -> list[Finding]:
    """What lies between the images, and what could not be looked into."""
    kinds: Mapping[str, tuple[str, Severity, str, str]] = {
        "unreadable folders": (
            "folders that cannot be read",
            "warning" if skips else "problem",
            "make them readable (chmod -R u+rX); what they hold was not looked at",
            "folder",
        ),
        "loose images": (
            "images in no class folder",
            "warning",
            "training leaves them out; give them a class",
            "image",
        ),
        "unused folders": ("folders that are not used", "warning", "name them in data.splits, or move them", "folder"),
        "empty folders": ("empty folders", "warning", "add images, or remove them", "folder"),
        "linked folders": ("links to folders", "warning", "training does not follow them; move the images", "folder"),
        "linked images": ("links to images", "notice", "they are followed; keep what they point to", "image"),
        "other files": ("files that are no images", "notice", "training leaves them out", "file"),
        "hidden": ("hidden files and folders", "notice", "training leaves them out", "item"),
    }
    return [
        Finding(name, severity, advice, tuple(Item((path,)) for path in strays[kind]), unit)
        for kind, (name, severity, advice, unit) in kinds.items()
        if strays.get(kind)
    ]


def _is_picture(look: Look) -> bool:
    """Whether it is a readable file, of which size and colour are its own; those of an array are all alike."""
    return bool(look.format) and not look.fault


def _is_grey(look: Look) -> bool:
    return look.mode in ("1", "L", "LA", "F") or look.mode.startswith("I")


def _size(look: Look) -> str:
    return f"{look.width} x {look.height}"


def _aspect(look: Look) -> float:
    return max(look.width, look.height) / max(1, min(look.width, look.height))
