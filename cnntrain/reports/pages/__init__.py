"""Pages for people: one self-contained HTML file each, light and dark, for a desk, a phone and a printer.

Templates are Jinja2 with every value escaped; style.css is written into the page. Nothing is fetched from anywhere.
"""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from cnntrain.runtime.names import printable, printable_lines

_HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """A page as text.

    Args:
        template: Its name in this folder, such as `report.html`; it extends `base.html`.
        values: What it shows. Text is escaped; `Markup` (of charts) is not.
    """
    loader = FileSystemLoader(_HERE)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "picture": picture, "figures": figures}
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))  # noqa: S704 (our own file)
    return environment.get_template(template).render(style=style, **values)


def _shown(value: Any) -> Any:
    """Texts (but not markup, which is ours) without marks that turn the direction of writing and the like."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "\u00a0".join(map(printable_lines, value.split("\u00a0")))  # the space of `percent`


def percent(fraction: float, digits: int = 1) -> str:
    """0.98765 -> `98.8 %`, with a space that does not break."""
    return f"{100 * fraction:.{digits}f}\u00a0%"


def figures(value: Any) -> str:
    """Plain values as text: numbers to three digits, mappings as `name value`."""
    match value:
        case bool() | int():
            return f"{value:,}" if not isinstance(value, bool) else str(value).lower()
        case float():
            return f"{value:.3g}"
        case dict():
            return ", ".join(f"{key} {figures(item)}" for key, item in value.items())
        case list() | tuple():
            return ", ".join(map(figures, value))
    return str(value)


def picture(image: Image.Image, alt: str, kind: str = "") -> Markup:
    """An `<img>` that carries its own content.

    Args:
        image: Shown at its own size, or smaller where there is no room.
        alt: What it shows, for those who do not see it.
        kind: Classes of style.css: `pixels` keeps the squares of an enlarged image sharp.
    """
    buffer = io.BytesIO()
    photo = image.mode == "RGB" and image.width * image.height > 96 * 96 and "pixels" not in kind
    if photo:
        image.save(buffer, format="JPEG", quality=80)
    else:
        image.save(buffer, format="PNG", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Markup('<img class="{}" src="data:image/{};base64,{}" width="{}" height="{}" alt="{}">').format(
        kind, "jpeg" if photo else "png", content, image.width, image.height, printable(alt)
    )
