"""The networks there are: at which size they are usually trained, from which size on they work, who wrote of them."""

from dataclasses import dataclass

from cnntrain.models import alexnet, googlenet, resnet, resnet9, resnet_cifar


@dataclass(frozen=True)
class Entry:
    """A network as `cnntrain models` lists it.

    Attributes:
        config: A `model` section that names it.
        in_channels: Usual input: 1 grey, 3 colour.
        image_size: Usual input: side of the square, px.
        num_classes: Usual size of the output.
        smallest_image_size: The least that works, px.
        paper: Where it was published.
    """

    config: dict[str, str]
    in_channels: int
    image_size: int
    num_classes: int
    smallest_image_size: int
    paper: str

    @property
    def name(self) -> str:
        """As in `model.name`."""
        return self.config["name"]

    @property
    def variant(self) -> str:
        """What else the section says: `paper`, or `stem: small`."""
        options = {key: value for key, value in self.config.items() if key != "name"}
        return ", ".join(value if key == "variant" else f"{key}: {value}" for key, value in options.items())


_LENET = "LeCun et al. 1998, Proc. IEEE"
_ALEXNET = "Krizhevsky et al. 2012, NIPS"
_GOOGLENET = "arXiv:1409.4842"
_RESNET = "arXiv:1512.03385"

CATALOGUE = (
    Entry({"name": "lenet5", "variant": "modern"}, 1, 32, 10, 16, _LENET),
    Entry({"name": "lenet5", "variant": "original"}, 1, 32, 10, 16, _LENET),
    Entry({"name": "alexnet", "variant": "paper"}, 3, 224, 1000, alexnet.SMALLEST_INPUT["paper"], _ALEXNET),
    Entry(
        {"name": "alexnet", "variant": "torchvision"},
        3,
        224,
        1000,
        alexnet.SMALLEST_INPUT["torchvision"],
        "arXiv:1404.5997",
    ),
    Entry(
        {"name": "alexnet", "variant": "small"},
        3,
        32,
        10,
        alexnet.SMALLEST_INPUT["small"],
        "after Krizhevsky et al. 2012",
    ),
    Entry({"name": "googlenet", "variant": "paper"}, 3, 224, 1000, googlenet.SMALLEST_INPUT["paper"], _GOOGLENET),
    Entry(
        {"name": "googlenet", "variant": "torchvision"},
        3,
        224,
        1000,
        googlenet.SMALLEST_INPUT["torchvision"],
        _GOOGLENET,
    ),
    Entry(
        {"name": "googlenet", "variant": "small"}, 3, 32, 10, googlenet.SMALLEST_INPUT["small"], f"after {_GOOGLENET}"
    ),
    Entry({"name": "resnet20"}, 3, 32, 10, resnet_cifar.SMALLEST_INPUT, _RESNET),
    Entry({"name": "resnet32"}, 3, 32, 10, resnet_cifar.SMALLEST_INPUT, _RESNET),
    Entry({"name": "resnet44"}, 3, 32, 10, resnet_cifar.SMALLEST_INPUT, _RESNET),
    Entry({"name": "resnet56"}, 3, 32, 10, resnet_cifar.SMALLEST_INPUT, _RESNET),
    Entry({"name": "resnet110"}, 3, 32, 10, resnet_cifar.SMALLEST_INPUT, _RESNET),
    Entry({"name": "resnet18"}, 3, 224, 1000, resnet.SMALLEST_INPUT["imagenet"], _RESNET),
    Entry({"name": "resnet18", "stem": "small"}, 3, 32, 10, resnet.SMALLEST_INPUT["small"], f"after {_RESNET}"),
    Entry({"name": "resnet34"}, 3, 224, 1000, resnet.SMALLEST_INPUT["imagenet"], _RESNET),
    Entry({"name": "resnet50"}, 3, 224, 1000, resnet.SMALLEST_INPUT["imagenet"], _RESNET),
    Entry({"name": "resnet101"}, 3, 224, 1000, resnet.SMALLEST_INPUT["imagenet"], _RESNET),
    Entry({"name": "resnet152"}, 3, 224, 1000, resnet.SMALLEST_INPUT["imagenet"], _RESNET),
    Entry({"name": "resnet9"}, 3, 32, 10, resnet9.SMALLEST_INPUT, "Page 2018 (DAWNBench)"),
)
