"""`cnntrain explain` and `cnntrain filter`, with captum, SciPy and networks whose reasons are known as oracles."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image
from pydantic import TypeAdapter
from scipy.ndimage import correlate  # type: ignore[import-untyped]
from torch import nn

from cnntrain.config.loading import load_config, parse_config
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.inputs import image_inputs
from cnntrain.data.prepare import prepare_data
from cnntrain.insight.attribution import attribute
from cnntrain.insight.kernels import KERNELS, convolve, parse_kernel, show
from cnntrain.insight.stage_maps import first_layer_filters, stage_maps
from cnntrain.models import CATALOGUE, Model, build_model
from cnntrain.models.options import Entry
from cnntrain.models.stages import stages
from cnntrain.models.summary import summarise
from cnntrain.reports.explanations import METHODS
from cnntrain.reports.explanations.drawing import legend
from cnntrain.runs.checkpoints import Header, network_bytes
from cnntrain.runs.feature_pictures import feature_grid, filter_grid, vector_bars
from cnntrain.runs.pictures import heat_overlay, heat_strip

SEQUENTIAL = {
    "name": "sequential",
    "layers": [
        {"conv2d": {"out_channels": 6, "kernel_size": 3, "padding": "same", "activation": "relu"}},
        {"residual": {"layers": [{"conv2d": {"out_channels": 6, "kernel_size": 3, "padding": "same"}}, "relu"]}},
        {"max_pool2d": 2},
        "flatten",
        {"dense": {"out_features": 12, "activation": "tanh"}},
        "dense",
    ],
}
SHALLOW = {"name": "sequential", "layers": ["flatten", "dense"]}
# Those that are missing are as these, only deeper.
NETWORKS = [e for e in CATALOGUE if not e.name.startswith("resnet") or e.name[6:] in ("9", "18", "20", "50")]


def built(config: dict[str, Any], channels: int = 3, size: int = 32, classes: int = 4) -> nn.Module:
    model = TypeAdapter[Model](Model).validate_python(config)
    network = build_model(model, image_inputs(channels, size), classes)
    return network.eval().to(memory_format=torch.channels_last)


def of_entry(entry: Entry) -> tuple[nn.Module, torch.Tensor]:
    size = max(entry.smallest_size, 16)
    torch.manual_seed(0)
    image = torch.rand(entry.inputs.channels, size, size) * 2 - 1
    init = {"init": "kaiming"} if entry.name == "googlenet" else {}  # its own starts with outputs near 0
    return built(entry.config | init, entry.inputs.channels, size), image


def save_run(folder: Path, model: dict[str, Any], class_names: tuple[str, ...], size: int = 32) -> Path:
    """A checkpoint of random weights."""
    text = json.dumps({"model": model, "data": {"source": "digits", "image_size": size}})
    preprocessing = Preprocessing(3, size, size, "squash", (0.5, 0.4, 0.3), (0.25, 0.2, 0.3))
    header = Header(parse_config(text, "test"), class_names, preprocessing, {})
    path = folder / "made.safetensors"
    path.write_bytes(network_bytes(built(model, size=size, classes=len(class_names)), header))
    return path


def save_photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    split = prepare_data(load_config("digits_lenet").config.data).test
    path = tmp_path / "digit.png"
    Image.fromarray(next(iter(split.items())).squeeze(-1)).save(path)
    return path


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: f"{entry.name} {entry.variant}")
def test_every_network_shows_the_stages_that_summary_prints(entry: Entry) -> None:
    model, image = of_entry(entry)
    maps = stage_maps(model, image)
    printed = summarise(model, image_inputs(entry.inputs.channels, image.shape[1])).stages
    assert [found.name for found in maps] == [stage.name for stage in printed] == list(stages(model))
    for (name, activations), stage in zip(maps, printed, strict=True):
        *sides, channels = stage.output_shape
        shape = (channels, *sides) if len(sides) == 2 and max(sides) > 1 else (channels,)
        if not sides and activations.ndim == 3:  # which summary shows flattened
            shape = activations.shape
        assert activations.numel() == np.prod(stage.output_shape)
        assert tuple(activations.shape) == shape, name
    filters = first_layer_filters(model)
    assert filters is not None
    assert filters.shape[1] == entry.inputs.channels
    assert not any(module._forward_hooks for module in model.modules())


def test_the_last_stage_holds_the_logits_and_a_residual_stage_what_leaves_it() -> None:
    model, image = of_entry(next(e for e in CATALOGUE if e.name == "resnet20"))
    found = dict(stage_maps(model, image))
    with torch.inference_mode():
        torch.testing.assert_close(found["head"], model(image[None])[0])
        x = model.get_submodule("relu")(model.get_submodule("bn1")(model.get_submodule("conv1")(image[None])))
        torch.testing.assert_close(found["stem"], x[0])
        torch.testing.assert_close(found["layer1"], model.get_submodule("layer1")(x)[0])


def test_maps_are_shown_before_they_are_flattened() -> None:
    shapes = {name: tuple(found.shape) for name, found in stage_maps(built({"name": "lenet5"}), torch.rand(3, 32, 32))}
    assert shapes == {"C1": (6, 14, 14), "C3": (16, 5, 5), "C5": (120,), "F6": (84,), "head": (4,)}


def test_a_stage_is_not_changed_by_the_layer_that_writes_over_it() -> None:
    class Net(nn.Module):
        stages = {"first": ("conv",), "head": ("relu", "pool", "fc")}  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)
            self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.fc(self.pool(self.relu(self.conv(x))).flatten(1))
            return logits

    model = Net().eval()
    assert (dict(stage_maps(model, torch.randn(1, 8, 8)))["first"] < 0).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("entry", NETWORKS, ids=lambda entry: f"{entry.name} {entry.variant}")
def test_every_method_works_on_every_network(entry: Entry, method: str) -> None:
    model, image = of_entry(entry)
    black = torch.full_like(image, -1.5)
    # Of one class, random weights may have nothing to show.
    found = [
        attribute(model, image, index, method=method, black=black) for index in range(4 if method == "grad-cam" else 1)
    ]
    assert all(part.heat.isfinite().all() and min(part.heat.shape) > 1 for part in found)
    assert any(part.heat.any() for part in found)
    assert any(part.is_signed for part in found) == (method != "grad-cam")
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "googlenet"])
def test_integrated_gradients_add_up_to_what_the_image_changes(name: str) -> None:
    config = {"name": name} if name != "googlenet" else {"name": name, "variant": "small"}
    model, image = built(config), torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    black = torch.full_like(image, -1.0)
    found = attribute(model, image, 1, method="integrated-gradients", black=black)
    with torch.inference_mode():
        change = float((model(image[None]) - model(black[None]))[0, 1])
    assert float(found.heat.sum()) == pytest.approx(change, abs=0.01 * float(found.heat.abs().sum()))
    assert found.facts["convergence_delta"] == pytest.approx(float(found.heat.sum()) - change, abs=1e-4)


def test_squares_of_a_photo_add_up_like_its_pixels() -> None:
    model, image = built({"name": "lenet5"}, size=60), torch.rand(3, 60, 60)
    black = torch.zeros_like(image)
    found = attribute(model, image, 1, method="integrated-gradients", black=black)
    assert found.heat.shape == (30, 30)
    with torch.inference_mode():
        change = float((model(image[None]) - model(black[None]))[0, 1])
    assert float(found.heat.sum()) - change == pytest.approx(found.facts["convergence_delta"], abs=1e-4)


class Patch(nn.Module):
    """Class 1 has the sum of what is bright in one square for its logit, class 0 nothing; class 2 the opposite."""

    def __init__(self, top: int, left: int, side: int) -> None:
        super().__init__()
        self.place = (..., slice(top, top + side), slice(left, left + side))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = x[self.place].sum((1, 2, 3))
        return torch.stack([torch.zeros_like(inside), inside, -inside], 1)


@pytest.mark.parametrize("method", ["occlusion", "integrated-gradients"])
def test_the_patch_that_alone_decides_is_found(method: str) -> None:
    image, black = torch.full((1, 28, 28), -0.5), torch.full((1, 28, 28), -0.5)
    image[:, 8:12, 16:20] = 2.0  # bright
    model = Patch(8, 16, 4)
    found = attribute(model, image, 1, method=method, black=black).heat
    row, column = divmod(int(found.argmax()), 28)
    assert 8 <= row < 12
    assert 16 <= column < 20
    inside = torch.zeros(28, 28, dtype=torch.bool)
    inside[6:14, 14:22] = True  # windows that touch it
    assert not found[~inside].any()
    assert (found[8:12, 16:20] > 0).all()
    torch.testing.assert_close(attribute(model, image, 2, method=method, black=black).heat, -found)


def test_what_speaks_for_a_digit_lies_on_its_ink(trained_run: Path, digit: Path) -> None:
    from cnntrain.trained import load

    trained = load(trained_run / "checkpoints/best.safetensors", torch.device("cpu"))
    model = trained.network
    pixels = torch.from_numpy(np.array(Image.open(digit).convert("L")))
    image, black = (trained.preprocessing.network_input(p[None, ..., None])[0] for p in (pixels, pixels * 0))
    with torch.inference_mode():
        predicted = int(model(image[None]).argmax())
    heat = attribute(model, image, predicted, method="integrated-gradients", black=black).heat
    assert heat.clamp(min=0)[pixels > 40].sum() > 0.9 * heat.clamp(min=0).sum()
    assert not heat[pixels == 0].any()


def test_the_ranking_is_that_of_predict_to_the_last_digit(trained_run: Path, digit: Path, cli: Cli) -> None:
    shutil.copy(digit, digit.with_name("another.png"))
    arguments = [digit, digit.with_name("another.png"), "--run", trained_run, "--top", 3]
    predicted = cli("predict", *arguments)
    explained = cli("explain", *arguments)
    assert explained.code == 0, explained.err
    assert [line for line in explained.out.splitlines() if "explanations" not in line] == predicted.out.splitlines()
    found = json.loads(cli("explain", *arguments, "--json").out)
    expected = json.loads(cli("predict", *arguments, "--json").out)
    assert [{key: item[key] for key in ("image", "predictions")} for item in found] == expected
    assert all(item["class"] == item["predictions"][0]["class"] for item in found)


@pytest.mark.parametrize("method", [*METHODS, "layers"])
def test_a_picture_is_written_and_named(method: str, tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "<b>bee</b>", 'a "wasp"', "蜂"))
    photo = save_photo(tmp_path / "a folder/Käfer 1.jpg")
    options = ["--layers"] if method == "layers" else ["--method", method, "--class", "<b>bee</b>"]
    [found] = json.loads(cli("explain", photo, "--run", run, "--json", *options).out)
    picture = Path(found["picture"])
    expected = "Käfer 1.layers.png" if method == "layers" else f"Käfer 1.{method}._b_bee_b_.png"
    assert picture == Path("explanations") / expected
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert image.width > 900
        assert len(set(image.convert("RGB").resize((64, 64)).get_flattened_data())) > 50
    if method == "integrated-gradients":
        assert abs(found["convergence_delta"]) < 1
    if method == "layers":
        assert list(found["stages"]) == ["stem", "layer1", "layer2", "layer3", "head"]


def test_the_overlay_shows_the_image_as_the_network_sees_it(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    Image.new("RGB", (300, 100), (200, 40, 90)).save(tmp_path / "x.png")
    assert cli("explain", tmp_path / "x.png", "--run", run).code == 0
    with Image.open("explanations/x.grad-cam.png") as image:
        red, green, blue = image.getpixel((252, 300))  # type: ignore[misc]
    assert (red, green, blue) == pytest.approx((200, 40, 90), abs=1)


def test_images_of_one_name_are_kept_apart_and_a_second_call_replaces(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    first, second = save_photo(tmp_path / "a/x.png", 1), save_photo(tmp_path / "b/x.png", 2)

    def explain(*images: Path) -> list[str]:
        found = json.loads(cli("explain", *images, "--run", run, "--json").out)
        return [Path(item["picture"]).name for item in found]

    assert explain(first, second) == ["x.grad-cam.png", "x-2.grad-cam.png"]
    before = Path("explanations/x.grad-cam.png").read_bytes()
    assert explain(second) == ["x-2.grad-cam.png"]
    assert explain(first, second) == ["x.grad-cam.png", "x-2.grad-cam.png"]
    assert Path("explanations/x.grad-cam.png").read_bytes() == before
    assert len(list(Path("explanations").iterdir())) == 2


def test_pictures_of_classes_that_are_called_alike_are_kept_apart(tmp_path: Path, cli: Cli) -> None:
    names = (f"{'long ' * 20}a", f"{'long ' * 20}b", "é/è", "é\\è")
    run, photo = save_run(tmp_path, {"name": "resnet20"}, names), save_photo(tmp_path / "x.png")
    for name in names:
        assert cli("explain", photo, "--run", run, "--class", name).code == 0
    assert len(list(Path("explanations").iterdir())) == 4


def test_a_picture_of_the_users_is_never_overwritten(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    photo = save_photo(tmp_path / "x.png")
    mine = save_photo(tmp_path / "x.grad-cam.png", 5)
    (tmp_path / "x-2.grad-cam.png").write_text("mine too")
    before = mine.read_bytes()
    assert str(tmp_path / "x-3.grad-cam.png") in cli("explain", photo, "--run", run, "--out", tmp_path).out
    assert mine.read_bytes() == before
    refused = cli("explain", photo, "--run", run, "--out", mine)
    assert refused.code == 2
    assert "exists already and is left as it is" in refused.err
    assert mine.read_bytes() == before


def test_own_pictures_in_a_folder_are_not_explained_again(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    save_photo(tmp_path / "photos/x.png")
    for _ in range(2):
        outcome = cli("explain", tmp_path / "photos", "--run", run, "--out", tmp_path / "photos")
        assert outcome.code == 0
    assert "1 pictures that cnntrain made are left out" in outcome.err
    assert sorted(file.name for file in (tmp_path / "photos").iterdir()) == ["x.grad-cam.png", "x.png"]


def test_images_that_cannot_be_read_are_told_and_the_others_explained(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    photo = save_photo(tmp_path / "x.png")
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:900])
    outcome = cli(
        "explain", *(tmp_path / f"{name}.png" for name in ("bad", "gone", "cut", "x")), "--run", run, "--json"
    )
    assert outcome.code == 3
    assert [item["image"] for item in json.loads(outcome.out)] == [str(photo)]
    for words in ("bad.png: not an image", "gone.png: cannot be read", "cut.png: ", "3 of 4 images could not be read"):
        assert words in outcome.err


def test_odd_images_are_explained(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee"))
    grey = Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "odd"
    folder.mkdir()
    grey.save(folder / "grey.png")
    grey.convert("RGBA").save(folder / "rgba.png")
    grey.quantize(8).save(folder / "palette.gif")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(folder / "16 bit.png")
    grey.convert("RGB").save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    (folder / "link.png").symlink_to(folder / "grey.png")
    shutil.copy(folder / "grey.png", folder / f"{'lang ' * 48}.png")
    for options in ([], ["--layers"]):
        outcome = cli("explain", folder, "--run", run, "--json", *options)
        assert outcome.code == 0, outcome.err
        assert len({item["picture"] for item in json.loads(outcome.out)}) == 8
    outcome = cli("filter", folder, "--kernel", "blur", "--colour")
    assert outcome.code == 0, outcome.err


def test_a_network_without_maps_names_the_other_methods(tmp_path: Path, cli: Cli) -> None:
    run = save_run(tmp_path, SHALLOW, ("ant", "bee"), size=16)
    photo = save_photo(tmp_path / "x.png")
    refused = cli("explain", photo, "--run", run)
    assert refused.code == 2
    assert "this network has none" in refused.err
    assert "--method occlusion" in refused.err
    assert not Path("explanations").exists()
    for options in (["--method", "occlusion"], ["--method", "integrated-gradients"], ["--layers"]):
        assert cli("explain", photo, "--run", run, *options).code == 0


@pytest.mark.parametrize("options", [[], ["--method", "occlusion"], ["--layers"]])
def test_a_network_written_in_yaml_is_explained(tmp_path: Path, cli: Cli, options: list[str]) -> None:
    run = save_run(tmp_path, SEQUENTIAL, tuple(f"class {number}" for number in range(100)))
    outcome = cli("explain", save_photo(tmp_path / "x.png"), "--run", run, *options)
    assert outcome.code == 0, outcome.err


def test_without_captum_the_other_methods_say_how_to_get_it(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnntrain.runtime.extras.find_spec", lambda name: None)
    outcome = cli("explain", "x.png", "--method", "occlusion")
    assert outcome.code == 2
    assert "pip install 'cnntrain[explain]'" in outcome.err
    run, photo = save_run(tmp_path, {"name": "resnet20"}, ("ant", "bee")), save_photo(tmp_path / "x.png")
    real = builtins.__import__

    def no_captum(name: str, *rest: Any, **more: Any) -> Any:
        assert not name.startswith("captum")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_captum)
    for options in ([], ["--layers"]):
        assert cli("explain", photo, "--run", run, *options).code == 0


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("padding", ["zero", "reflect", "none"])
def test_a_convolution_is_scipys_correlation(name: str, padding: str) -> None:
    image = np.random.default_rng(0).random((20, 17), dtype=np.float32)
    kernel = parse_kernel(name).weights
    found = convolve(torch.from_numpy(image)[None], kernel, padding=padding)[0].numpy()
    mode = {"zero": "constant", "reflect": "mirror", "none": "constant"}[padding]
    expected = correlate(image, kernel.numpy(), mode=mode)
    if padding == "none":
        edge = len(kernel) // 2
        expected = expected[edge:-edge, edge:-edge]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "padding"), [("[[1, 2], [3, 4]]", "zero"), ("[[1, 2, 3, 4]]", "reflect"), ("[[-2]]", "none")]
)
def test_even_and_oblong_kernels_by_hand(text: str, padding: str) -> None:
    image = np.random.default_rng(0).random((9, 8)).astype(np.float32)
    kernel = np.array(json.loads(text), dtype=np.float32)
    height, width = kernel.shape
    top, left = (height - 1) // 2, (width - 1) // 2
    if padding != "none":
        around = ((top, height - 1 - top), (left, width - 1 - left))
        padded = np.pad(image, around, mode="reflect" if padding == "reflect" else "constant")
    else:
        padded = image
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    expected = (windows * kernel).sum((2, 3))
    for stride in (1, 3):
        found = convolve(torch.from_numpy(image)[None], parse_kernel(text).weights, padding=padding, stride=stride)
        np.testing.assert_allclose(found[0].numpy(), expected[::stride, ::stride], atol=1e-5)


def test_a_result_is_shown_so_that_its_numbers_can_be_told() -> None:
    ramp = torch.linspace(0, 1, 101)[None, None]
    assert show(ramp, torch.ones(1, 1)).pixels.ravel()[[0, 50, 100]].tolist() == [0, 128, 255]
    signed = show(ramp * 4 - 2, torch.tensor([[4.0, -4.0]]))
    assert signed.pixels.ravel()[[0, 50, 100]].tolist() == [0, 128, 255]
    assert signed.how.startswith("grey 0")
    assert show(ramp * 3 - 1, torch.ones(1, 1)).how == "from -1 to 2, cut off at black 0 and white 1"
    assert show(ramp * 9, torch.ones(3, 3)).how == "black 0, white 9"
    assert not show(ramp * 0, torch.zeros(1, 1)).pixels.any()


def test_filter_prints_the_kernel_and_writes_a_row_for_each(tmp_path: Path, cli: Cli) -> None:
    photo = save_photo(tmp_path / "x.png")
    outcome = cli(
        "filter", photo, "--kernel", "sobel-x", "--kernel", "[[1,2],[3,4]]", "--stride", 2, "--padding", "none"
    )
    assert outcome.code == 0, outcome.err
    assert "sobel-x: 60 x 40 -> 29 x 19 px\n    -1  0  1\n" in outcome.out
    assert "2x2: 60 x 40 -> 30 x 20 px\n    1 2\n    3 4\n" in outcome.out
    assert outcome.out.endswith("explanations/x.sobel-x+2x2.png\n")
    for name in ("one.png", "one.png"):
        assert cli("filter", photo, "--kernel", "blur", "--out", tmp_path / name).code == 0
    with Image.open(tmp_path / "one.png") as one, Image.open("explanations/x.sobel-x+2x2.png") as two:
        assert two.height > 1.5 * one.height


def test_a_large_photo_is_made_smaller_first_and_keeps_its_shape(tmp_path: Path, cli: Cli) -> None:
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "x.jpg")
    outcome = cli("filter", tmp_path / "x.jpg", "--kernel", json.dumps([[1 / 961] * 31] * 31))
    assert "made smaller, from 3000 x 1500 to 400 x 200 px" in outcome.out


def test_a_grid_shows_the_most_active_channels_in_their_order() -> None:
    maps = torch.stack([torch.full((4, 4), float(value)) for value in (1, 0, -5, 3)])
    grid = np.asarray(feature_grid(maps, most=2, side=8))
    assert grid.shape == (8, 8 + 4 + 8, 3)
    assert grid[4, 2, 2] > grid[4, 2, 0]  # below 0: blue
    assert grid[4, 16, 0] > grid[4, 16, 2]  # above: yellow
    assert not np.asarray(feature_grid(torch.zeros(1, 4, 4))).any()


def test_filters_are_in_colour_for_three_channels_and_grey_for_others() -> None:
    red = torch.zeros(1, 3, 2, 2)
    red[0, 0] = 1.0
    assert np.asarray(filter_grid(red))[0, 0].tolist() == [255, 128, 128]
    for channels in (1, 5):
        pixels = np.asarray(filter_grid(torch.randn(20, channels, 3, 3)))
        assert (pixels[..., 0] == pixels[..., 2]).all()


def test_bars_rise_above_zero_and_fall_below() -> None:
    bars = np.asarray(vector_bars(torch.tensor([2.0, -2.0, 0.0]), width=30, height=21))
    assert bars.shape == (21, 30, 3)
    assert bars[2, 3].any()
    assert not bars[18, 3].any()
    assert bars[18, 13].any()
    assert not bars[2, 13].any()
    assert not bars[:, 23].any()
    assert vector_bars(torch.randn(5000)).width == 800


def test_the_legend_has_the_colours_of_the_picture() -> None:
    levels = np.linspace(-1, 1, 201, dtype=np.float32)
    picture = heat_overlay(np.full((1, 201, 3), 128, np.uint8), levels[None], min_side=201)
    strip = heat_strip(levels[None])
    np.testing.assert_allclose(np.asarray(picture, int)[0], np.asarray(strip, int)[0], atol=1)
    drawn = np.asarray(legend("nothing", "for", signed=False, on_image=True), int)
    middle = drawn[drawn.shape[0] // 2]
    assert (middle == 136).all(axis=1).any()  # where nothing speaks for the class there is the image's grey
    assert (middle.sum(1) < 100).sum() == 0  # and nowhere black
