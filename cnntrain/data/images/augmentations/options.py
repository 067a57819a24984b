"""What the options of all augmentations have in common."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cnntrain.config.section import Section
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.pipeline import Augmentation

if TYPE_CHECKING:
    from cnntrain.data.images.augmentations.mixing import Mixer


class AugmentationOptions(Section):
    """An entry of `data.augment`.

    Attributes:
        crops: Whether what it builds cuts images of the network's size out of stored ones.
        name: By which it is chosen.
    """

    crops: ClassVar[bool] = False
    name: str

    @abstractmethod
    def build(self, preprocessing: Preprocessing) -> "Augmentation | Mixer":
        """The augmentation, for images that are stored and normalised in this way."""
