"""Why a network says what it says: attributions, the walk of an image through it, and single convolutions."""

from typing import NamedTuple

METHODS = ("grad-cam", "integrated-gradients", "occlusion")  # of `attribution.attribute`
LAYERS = "layers"


class Question(NamedTuple):
    """What is asked about an image.

    Attributes:
        method: One of `METHODS`, or `LAYERS`: what each stage makes of the image.
        class_name: What speaks for this class; for the likeliest where it is None.
        top: How many classes to show.
    """

    method: str
    class_name: str | None
    top: int

    @property
    def kind(self) -> str:
        """What to call the answer: `occlusion`, or `occlusion.bee`."""
        return self.method if self.class_name is None else f"{self.method}.{self.class_name}"
