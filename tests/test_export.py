"""Exported networks, held against `cnntrain predict`, ONNX Runtime, torchvision, and scripts that know no cnntrain."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.torch
import torch
import torchvision
from conftest import Cli, write_photos
from PIL import Image
from safetensors.torch import load_file

from cnntrain.config.loading import parse_config
from cnntrain.data.images.preprocessing import Preprocessing
from cnntrain.data.prepare import prepare_split
from cnntrain.errors import CheckpointError
from cnntrain.models import CATALOGUE, build_model
from cnntrain.runs.checkpoints import Header, network_bytes
from cnntrain.tasks.single_label import SingleLabel
from cnntrain.trained import load
from cnntrain.trained.export import export_network
from cnntrain.trained.export.agreement import Agreement, Difference, Outputs, RealImages, compare
from cnntrain.trained.export.images import _evenly as evenly

LENET: dict[str, Any] = {"name": "lenet5"}
SEQUENTIAL: dict[str, Any] = {
    "name": "sequential",
    "layers": [
        {"conv2d": {"out_channels": 8, "kernel_size": 3, "activation": "relu"}},
        "batch_norm",
        {"max_pool2d": 2},
        "flatten",
        "linear",
    ],
}
FAMILIES = [
    LENET,
    {"name": "lenet5", "variant": "original"},
    {"name": "alexnet", "variant": "small"},
    {"name": "googlenet", "variant": "paper"},
    pytest.param({"name": "resnet18", "stem": "small"}, marks=pytest.mark.proof),  # takes long, and is much as the next
    {"name": "resnet20"},
    pytest.param({"name": "resnet9", "width": 8}, marks=pytest.mark.proof),
    SEQUENTIAL,
]
SMALL = Preprocessing(3, 16, 21, "crop", (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
MEDIUM = replace(SMALL, image_size=32, stored_size=45)
NAMES = ("cat", "dog", 'a "b" <c>', "Hündin 🐕")


def make_checkpoint(
    path: Path,
    model: dict[str, Any],
    *,
    preprocessing: Preprocessing | None = None,
    temperature: float = 1.0,
    spread: float = 2.0,
) -> Path:
    """Random weights, batch norm that has seen images, and logits that differ from image to image."""
    fitting = preprocessing or SMALL
    config = parse_config(json.dumps({"model": model, "data": {"source": "digits"}, "run": {"name": "mine"}}), "test")
    network = build_model(config.model, fitting.inputs, len(NAMES))
    images = fitting.network_input(torch.from_numpy(spots(fitting, 6)))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(4):
            network.train()(images)
        last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight.mul_(spread / network.eval()(images).std(0).mean())
    path.parent.mkdir(parents=True, exist_ok=True)
    header = Header(config, NAMES, fitting, {}, temperature=temperature)
    path.write_bytes(network_bytes(network.to(memory_format=torch.channels_last), header))
    return path


def spots(fitting: Preprocessing, count: int) -> npt.NDArray[np.uint8]:
    """Images of large spots, which differ from one another more than noise does."""
    coarse = np.random.default_rng(1).integers(0, 256, (count, 4, 4, fitting.channels), dtype=np.uint8)
    side = fitting.stored_size
    return np.kron(coarse, np.ones((1, 16, 16, 1), np.uint8))[:, :side, :side]


def export(checkpoint: Path, kind: str, target: Path) -> dict[str, Any]:
    trained = load(checkpoint, torch.device("cpu"))
    images = RealImages(spots(trained.preprocessing, 5), "5 images")
    return export_network(trained, images, kind=kind, target=target)


def as_predicted(checkpoint: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Probabilities by the way of `cnntrain predict`."""
    trained = load(checkpoint, torch.device("cpu"))
    with torch.inference_mode():
        batch = torch.from_numpy(images)
        outputs = trained.network(trained.preprocessing.network_input(batch))
        return trained.task.activation(outputs).numpy()


def run_file(path: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    if path.suffix == ".onnx":
        probabilities = onnxruntime.InferenceSession(path).run(["probabilities"], {"images": images})[0]
        return np.asarray(probabilities)
    found: npt.NDArray[np.float32] = torch.export.load(path).module()(torch.from_numpy(images))[1].numpy()
    return found


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
@pytest.mark.parametrize("model", FAMILIES, ids=lambda model: " ".join(map(str, list(model.values())[:2]))[:20])
def test_every_family_exports_for_any_batch_size(model: dict[str, Any], kind: str, tmp_path: Path) -> None:
    fitting = MEDIUM if model.get("variant") == "paper" else SMALL
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", model, preprocessing=fitting, temperature=1.7)
    target = tmp_path / {"onnx": "x.onnx", "torch-export": "x.pt2"}[kind]
    card = export(checkpoint, kind, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [target.name, f"{target.name}.json", "x.safetensors"]
    )
    images = spots(fitting, 7)
    for count in (1, 2, 7):
        expected = as_predicted(checkpoint, images[:count])
        np.testing.assert_allclose(run_file(target, images[:count]), expected, atol=1e-5)
    if kind == "torch-export":
        weights = torch.export.load(target).state_dict
        assert all(tensor.is_contiguous() for tensor in weights.values())
        assert not [name for name in weights if "aux" in name], "classifiers for training alone"
    assert card["agreement"]["batch_sizes"] == [1, 2, 5]
    assert card["agreement"]["max_difference_probabilities"] < 1e-4


@pytest.mark.proof
@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: f"{entry.name} {entry.variant}".strip())
def test_every_network_of_the_catalogue_exports_to_onnx(entry: Any, tmp_path: Path) -> None:
    side = max(32, entry.smallest_size)
    fitting = Preprocessing(
        entry.inputs.channels, side, side, "squash", (0.5,) * entry.inputs.channels, (0.25,) * entry.inputs.channels
    )
    # Untrained deep networks see little difference between images; spreading it further would spread rounding errors.
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", entry.config, preprocessing=fitting, spread=0.2)
    export(checkpoint, "onnx", tmp_path / "x.onnx")
    images = spots(fitting, 3)
    np.testing.assert_allclose(run_file(tmp_path / "x.onnx", images), as_predicted(checkpoint, images), atol=1e-4)


def odd_pictures(folder: Path) -> list[Path]:
    """Image files of many kinds, all unlike one another."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    # Large soft spots: pixels that differ from file to file, and survive being made small.
    coarse = rng.integers(0, 256, (8, 6, 7, 4), dtype=np.uint8)
    spots = [Image.fromarray(pixels).resize((150, 110), Image.Resampling.BICUBIC) for pixels in coarse]
    spots[0].convert("RGB").save(folder / "plain.png")
    spots[1].save(folder / "transparent.png")
    spots[2].convert("RGB").resize((900, 700)).save(folder / "large.jpg", quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6
    spots[3].convert("RGB").save(folder / "turned.jpg", exif=exif)
    spots[4].convert("RGB").quantize(32).save(folder / "palette.gif")
    spots[5].convert("L").save(folder / "grey ü.png")
    sixteen = np.asarray(spots[6].convert("L")).astype(np.uint16) * 257
    Image.fromarray(sixteen).save(folder / "sixteen bits.png")
    spots[7].convert("RGB").convert("CMYK").save(folder / "print.jpg")
    Image.new("RGB", (1, 1), (200, 30, 90)).save(folder / "one pixel.bmp")
    return sorted(folder.iterdir())


# Runs the lines of a card on each image, in a process that must not know cnntrain (nor torch, for ONNX).
STRANGER = """
import json, sys, warnings
warnings.simplefilter("error")
lines, images, forbidden = json.loads(sys.stdin.read())
found = {}
for image in images:
    names = {"print": lambda *_: None}
    exec(lines.replace('"photo.jpg"', repr(image)), names)
    found[image] = dict(zip(names["class_names"], [float(p) for p in names["probabilities"][0]]))
for module in forbidden:
    assert module not in sys.modules, module
json.dump(found, sys.stdout)
"""


def ask_a_stranger(
    card: dict[str, Any], folder: Path, images: list[Path], forbidden: list[str]
) -> dict[str, dict[str, float]]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONUTF8": "1"}
    question = json.dumps(["\n".join(card["usage"]), list(map(str, images)), forbidden])
    done = subprocess.run(
        [sys.executable, "-c", STRANGER], input=question, capture_output=True, text=True, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def said_by_predict(cli: Cli, checkpoint: Path, images: list[Path]) -> dict[str, dict[str, float]]:
    found = json.loads(cli("predict", *images, "--run", checkpoint, "--json", "--device", "cpu").out)
    return {one["image"]: {row["class"]: row["probability"] for row in one["predictions"]} for one in found}


def assert_same(found: dict[str, dict[str, float]], expected: dict[str, dict[str, float]]) -> None:
    assert list(found) == list(expected)
    for image, shares in expected.items():
        assert found[image] == pytest.approx(shares, abs=1e-4), image
    table = np.array([[shares[name] for name in NAMES] for shares in expected.values()])
    assert table.std(0).max() > 0.1, "the network sees no difference, so the test would see none"


@pytest.mark.parametrize(("resize", "channels"), [("crop", 3), ("letterbox", 3), ("squash", 1)])
def test_the_lines_of_an_onnx_card_classify_files_like_predict_without_cnntrain_or_torch(
    resize: str, channels: int, cli: Cli, tmp_path: Path
) -> None:
    mean, std = MEDIUM.mean[:channels], MEDIUM.std[:channels]
    fitting = replace(MEDIUM, channels=channels, resize=resize, mean=mean, std=std)
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET, preprocessing=fitting, temperature=1.5)
    images = odd_pictures(tmp_path / "pictures")
    card = json.loads(cli("export", checkpoint, "--images", tmp_path / "pictures", "--json").out)
    found = ask_a_stranger(card, Path(card["path"]).parent, images, ["torch", "cnntrain"])
    assert_same(found, said_by_predict(cli, checkpoint, images))


def test_the_lines_of_a_torch_export_card_need_no_cnntrain(cli: Cli, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET, preprocessing=MEDIUM, temperature=0.8)
    images = odd_pictures(tmp_path / "pictures")
    card = json.loads(cli("export", checkpoint, "--format", "torch-export", "--images", images[0], "--json").out)
    found = ask_a_stranger(card, Path(card["path"]).parent, images, ["cnntrain"])
    assert_same(found, said_by_predict(cli, checkpoint, images))


def test_the_lines_of_a_safetensors_card_give_the_weights_to_torchvision(cli: Cli, tmp_path: Path) -> None:
    model = {"name": "resnet18"}
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", model, preprocessing=MEDIUM, temperature=0.8)
    images = odd_pictures(tmp_path / "pictures")
    card = json.loads(cli("export", checkpoint, "--format", "safetensors", "--images", images[0], "--json").out)
    found = ask_a_stranger(card, Path(card["path"]).parent, images, ["cnntrain"])
    assert_same(found, said_by_predict(cli, checkpoint, images))


@pytest.mark.parametrize("auxiliary", [True, False])
def test_safetensors_of_googlenet_fit_torchvisions(auxiliary: bool, tmp_path: Path) -> None:
    model = {"name": "googlenet", "auxiliary": auxiliary, "init": "kaiming"}
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", model)
    card = export(checkpoint, "safetensors", tmp_path / "y.safetensors")
    assert f"aux_logits={auxiliary}, init_weights=False" in "\n".join(card["usage"])
    network = torchvision.models.googlenet(num_classes=4, aux_logits=auxiliary, init_weights=False)
    network.load_state_dict(load_file(tmp_path / "y.safetensors"))
    images = spots(SMALL, 3)
    with torch.inference_mode():
        outputs = network.eval()(SMALL.network_input(torch.from_numpy(images)))
    np.testing.assert_allclose(outputs.softmax(1).numpy(), as_predicted(checkpoint, images), atol=1e-5)


def broken_crop(images: torch.Tensor, size: int) -> torch.Tensor:
    return images[:, :, :size, :size]


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
def test_a_network_that_is_not_the_original_is_refused_and_leaves_nothing(
    kind: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(tmp_path / "run/checkpoints/best.safetensors", LENET)
    pictures = odd_pictures(tmp_path / "pictures")
    before = sorted((tmp_path / "run").rglob("*"))
    monkeypatch.setattr("cnntrain.trained.export.deployable.centre_crop", broken_crop)
    outcome = cli("export", checkpoint, "--images", *pictures[:1], "--format", kind)
    assert outcome.code == 4
    assert f"error: the network exported as {kind} is not the original: on 1 of 1 images of" in outcome.err
    assert "nothing was written" in outcome.err
    assert outcome.out == ""
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_weights_that_changed_on_the_way_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET)
    save = safetensors.torch.save

    def save_others(weights: dict[str, torch.Tensor], **more: Any) -> bytes:
        return save({name: tensor * 1.001 for name, tensor in weights.items()}, **more)

    monkeypatch.setattr("safetensors.torch.save", save_others)
    with pytest.raises(CheckpointError, match="exported as safetensors is not the original"):
        export(checkpoint, "safetensors", tmp_path / "y.safetensors")
    assert list(tmp_path.iterdir()) == [checkpoint]


def agreement_of(exported: Callable[[Outputs], Outputs], count: int = 40, scale: float = 1) -> Agreement:
    """Of a made-up network, whose outputs are its pixels, with one that changes them."""

    def original(images: npt.NDArray[np.uint8]) -> Outputs:
        logits = torch.from_numpy(images.reshape(len(images), -1) / np.float32(16) * np.float32(scale))
        return tuple(values.numpy() for values in task.exported(logits))

    task = SingleLabel(tuple("abcd"))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 2, 2, 1), dtype=np.uint8)
    return compare(original, lambda images: exported(original(images)), RealImages(pixels, "made up"), task)


def wrong_for(batch_size: int, found: Outputs) -> Outputs:
    logits, probabilities = found
    return (logits + 1, probabilities) if len(logits) == batch_size else found


def test_agreement_asks_for_every_batch_size_logits_probabilities_and_top_class() -> None:
    assert agreement_of(lambda found: found).holds
    assert agreement_of(lambda found: found).batch_sizes == (1, 2, 8, 32)
    assert agreement_of(lambda found: found, count=1).batch_sizes == (1, 2, 3)
    assert agreement_of(lambda found: (found[0] + 9e-5, found[1] + 9e-5)).holds
    assert not agreement_of(lambda found: (found[0], found[1] + 2e-4)).holds
    assert not agreement_of(lambda found: (found[0] + 1e-3, found[1])).holds
    assert not agreement_of(lambda found: (found[0] * np.nan, found[1])).holds
    for size in (1, 2, 8, 32):
        assert not agreement_of(partial(wrong_for, size)).holds
    swapped = Agreement("made up", 9, (1,), {"logits": Difference(0.0, 1e-4)}, num_other_decision=1)
    assert not swapped.holds
    assert agreement_of(lambda found: (found[0][:, ::-1], found[1])).num_other_decision > 30


def test_large_logits_may_differ_by_as_much_as_float32_rounds_them() -> None:
    assert agreement_of(lambda found: (found[0] + 9e-3, found[1]), scale=100).holds
    assert not agreement_of(lambda found: (found[0] + 9e-3, found[1]), scale=10).holds


def test_a_network_of_nans_is_not_exported(cli: Cli, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET)
    trained = load(checkpoint, torch.device("cpu"))
    with torch.no_grad():
        next(trained.network.parameters()).fill_(np.nan)
    checkpoint.write_bytes(network_bytes(trained.network, trained.header))
    with pytest.raises(CheckpointError, match="outputs are not finite"):
        export(checkpoint, "safetensors", tmp_path / "y.safetensors")


def test_a_file_tells_everything_about_itself_and_nothing_of_this_machine(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET, temperature=1.25)
    for kind, name in (("onnx", "y.onnx"), ("torch-export", "y.pt2"), ("safetensors", "y.safetensors")):
        card = export(checkpoint, kind, tmp_path / name)
        assert json.loads((tmp_path / f"{name}.json").read_text()) == json.loads(json.dumps(card))
        content = (tmp_path / name).read_bytes()
        assert card["sha256"] == hashlib.sha256(content).hexdigest()
        inside: dict[str, Any] = {
            key: json.loads(text) if key != "description" else text
            for key, text in texts_inside(tmp_path / name).items()
            if key not in ("checkpoint_sha256", "cnntrain_version")
        }
        assert inside == json.loads(json.dumps({key: card[key] for key in inside}))
        assert inside["class_names"] == list(NAMES)
        assert inside["preprocessing"]["resize"] == "crop"
        assert inside["temperature"] == 1.25
        assert texts_inside(tmp_path / name)["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        parts = [content] if kind != "torch-export" else list(unzipped(tmp_path / name).values())
        for part in parts:
            assert str(Path(__file__).parents[1]).encode() not in part
            assert b"site-packages" not in part


def unzipped(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def texts_inside(path: Path) -> dict[str, str]:
    match path.suffix:
        case ".onnx":
            return {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        case ".pt2":
            extra = {"cnntrain.json": ""}
            torch.export.load(path, extra_files=extra)
            values = json.loads(extra["cnntrain.json"])
            return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    with safetensors.safe_open(path, "pt") as file:
        return dict(file.metadata())


def test_an_onnx_file_is_one_file_of_opset_18_with_named_inputs_and_a_free_batch_size(tmp_path: Path) -> None:
    export(make_checkpoint(tmp_path / "x.safetensors", LENET), "onnx", tmp_path / "y.onnx")
    model = onnx.load(tmp_path / "y.onnx", load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert "uint8 (batch, 21, 21, 3), RGB" in model.doc_string
    session = onnxruntime.InferenceSession(tmp_path / "y.onnx")
    found = {value.name: (value.type, value.shape) for value in [*session.get_inputs(), *session.get_outputs()]}
    assert found == {
        "images": ("tensor(uint8)", ["batch", 21, 21, 3]),
        "logits": ("tensor(float)", ["batch", 4]),
        "probabilities": ("tensor(float)", ["batch", 4]),
    }


def test_a_run_is_exported_into_its_own_folder_again_and_again(cli: Cli, trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs/digits_lenet" / trained_run.name
    shutil.copytree(trained_run, run)
    for _ in range(2):
        outcome = cli("export", "--output", tmp_path / "runs")
        assert outcome.code == 0, outcome.err
    target = run / "export/digits_lenet.onnx"
    assert outcome.out.startswith(f"{target} (onnx, opset 18, ")
    assert "agrees with the original on 256 of 359 test images, in batches of 1, 2, 32:" in outcome.out
    assert (
        outcome.err
        == f"exporting {run}/checkpoints/best.safetensors\nto be compared with the original on 256 of 359 test images\n"
    )
    assert "\x1b" not in outcome.out + outcome.err
    assert sorted(path.name for path in target.parent.iterdir()) == ["digits_lenet.onnx", "digits_lenet.onnx.json"]
    assert cli("evaluate", "--output", tmp_path / "runs").code == 0
    header = load(run / "checkpoints/best.safetensors", torch.device("cpu")).header
    split, _, _ = prepare_split(header.config.data, "test", preprocessing=header.preprocessing)
    predicted = run_file(target, split.items()).argmax(1)
    accuracy = float((predicted == split.targets.numpy()).mean())
    assert accuracy == pytest.approx(json.loads((run / "results.json").read_text())["test"]["accuracy"])


def test_a_file_that_is_there_is_replaced_only_when_asked(cli: Cli, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET)
    picture = odd_pictures(tmp_path / "pictures")[0]
    arguments = ["export", checkpoint, "--format", "safetensors", "--images", picture, "--out"]
    mine = tmp_path / "mine.safetensors"
    mine.write_text("mine")
    outcome = cli(*arguments, mine)
    assert outcome.code == 2
    assert "mine.safetensors exists already and is left as it is; --overwrite replaces it" in outcome.err
    assert mine.read_text() == "mine"
    assert cli(*arguments, mine, "--overwrite").code == 0
    assert len(load_file(mine)) == 10
    outcome = cli(*arguments, checkpoint, "--overwrite")
    assert outcome.code == 2
    assert "is the checkpoint itself" in outcome.err
    load(checkpoint, torch.device("cpu"))
    (tmp_path / "new").mkdir()
    assert cli(*arguments, tmp_path / "new").code == 0
    assert cli(*arguments, tmp_path / "deep/er/y.safetensors").code == 0
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["mine.safetensors", "mine.safetensors.json"]


def test_without_the_extra_onnx_is_explained_and_the_rest_works(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET)
    picture = odd_pictures(tmp_path / "pictures")[0]
    monkeypatch.setattr("cnntrain.runtime.extras.find_spec", lambda module: None)
    outcome = cli("export", checkpoint, "--images", picture)
    assert outcome.code == 2
    assert (
        "--format onnx needs onnx, onnxruntime, onnxscript, not installed here: pip install 'cnntrain[export]'"
        in outcome.err
    )
    for name in ("onnx", "onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli("export", checkpoint, "--images", picture, "--format", "safetensors").code == 0


def test_an_exporter_that_fails_is_explained(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("\x1b[96mthis operator\x1b[0m is unknown\nand much more")

    checkpoint = make_checkpoint(tmp_path / "x.safetensors", LENET)
    picture = odd_pictures(tmp_path / "pictures")[0]
    monkeypatch.setattr("torch.onnx.export", fail)
    outcome = cli("export", checkpoint, "--images", picture)
    assert outcome.code == 4
    assert "cannot be exported as onnx with torch" in outcome.err
    assert "this operator is unknown; nothing was written" in outcome.err
    assert "much more" not in outcome.err
    assert not (tmp_path / "export").exists()


def test_photos_that_are_gone_are_asked_for(cli: Cli, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text(
        "model: lenet5\ndata: {source: image_folder, root: photos, image_size: 16}\nrecipe: {epochs: 1}\n"
    )
    arguments = ["--data-root", tmp_path, "--output", tmp_path / "runs"]
    assert cli("train", tmp_path / "my.yaml", *arguments).code == 0
    kind = ["--format", "safetensors"]
    assert "on 6 of 6 test images" in cli("export", *arguments, *kind).out
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert cli("export", "--output", tmp_path / "runs", "--data-root", tmp_path / "moved", *kind).code == 0
    outcome = cli("export", "--output", tmp_path / "runs", *kind)
    assert outcome.code == 3
    assert "photos: no such folder" in outcome.err
    assert "--images PATH takes others" in outcome.err
    outcome = cli(
        "export",
        *arguments,
        *kind,
        "--images",
        tmp_path / "moved/train/red",
        "--images",
        tmp_path / "moved/train/blue/*.png",
    )
    assert outcome.code == 0
    assert "on 24 of 24 images of" in outcome.out


def test_hundreds_of_images_are_sampled_from_the_first_class_to_the_last() -> None:
    chosen = evenly(range(1000))
    assert len(chosen) == 256
    assert (chosen[0], chosen[-1]) == (0, 996)
    assert set(np.diff(chosen)) == {3, 4}
    assert evenly([5, 6]) == [5, 6]
