"""Starting from trained weights: files of every kind, torchvision's networks, heads, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from conftest import Cli, without_dropout, write_photos
from pydantic import TypeAdapter
from safetensors.torch import load_file, save, save_file
from torch import nn

from cnntrain.config.loading import parse_config
from cnntrain.data.inputs import image_inputs
from cnntrain.errors import CheckpointError
from cnntrain.models import Model
from cnntrain.models.googlenet import Googlenet
from cnntrain.models.options import Published, WithAuxiliary
from cnntrain.models.pretrained import PREPROCESSING, Weights, load_weights, read_weights
from cnntrain.runtime.sealing import DIGEST_KEY, UNSEALED, seal
from cnntrain.training.start import initial_weights

PHOTOS = "data: {source: image_folder, root: photos, image_size: 32}\nrecipe: {epochs: 1, batch_size: 8}\n"


def randomised(model: nn.Module) -> nn.Module:
    """Norms as after training, so that a difference in any of them would show."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
    return model


def network(channels: int, classes: int, size: int, **options: Any) -> Any:
    return TypeAdapter[Model](Model).validate_python(options).build(image_inputs(channels, size), classes)


def images(size: int) -> torch.Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


NETWORKS = [
    ("alexnet", 96, {}),
    ("googlenet", 96, {"init_weights": False}),
    *((name, 64, {}) for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")),
]


@pytest.mark.parametrize(("name", "size", "options"), NETWORKS, ids=[name for name, *_ in NETWORKS])
def test_torchvisions_weights_load_strictly_and_give_its_outputs(name: str, size: int, options: dict[str, Any]) -> None:
    theirs = randomised(getattr(torchvision.models, name)(**options))
    ours = network(3, 1000, size, name=name)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    batch = images(size)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(batch), theirs.eval()(batch), rtol=1e-5, atol=1e-5)
        found, expected = without_dropout(ours).train()(batch), without_dropout(theirs).train()(batch)
    if name == "googlenet":
        assert isinstance(found, WithAuxiliary)
        torch.testing.assert_close(found.auxiliary[0], expected.aux_logits1, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.auxiliary[1], expected.aux_logits2, rtol=1e-5, atol=1e-5)
        found, expected = found.logits, expected.logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for (key, here), there in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.allclose(here, there, atol=1e-5), key  # the running statistics moved alike


def test_the_published_googlenet_sees_its_own_normalisation_as_torchvision_gives_it() -> None:
    theirs = randomised(torchvision.models.googlenet(init_weights=False, transform_input=True)).eval()
    ours = network(3, 1000, 96, name="googlenet").eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = theirs((pixels - mean[:, None, None]) / std[:, None, None])
        torch.testing.assert_close(ours((pixels - 0.5) / 0.5), expected, rtol=1e-4, atol=1e-4)


def save_as(kind: str, weights: dict[str, torch.Tensor], folder: Path) -> Path:
    path = folder / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    wrapped: dict[str, Any] = {
        "plain": weights,
        "wrapped": {"epoch": 3, "state_dict": weights},
        "parallel": {"model": {f"module.{name}": tensor for name, tensor in weights.items()}},
        "compiled": {f"_orig_mod.{name}": tensor for name, tensor in weights.items()},
        "legacy": weights,
    }
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(wrapped[kind], path, _use_new_zipfile_serialization=kind != "legacy")
    return path


@pytest.mark.parametrize("kind", ["plain", "wrapped", "parallel", "compiled", "legacy", "safetensors"])
def test_state_dicts_of_every_kind_are_read(kind: str, tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=7)
    path = save_as(kind, theirs.state_dict(), tmp_path)
    ours = network(3, 7, 32, name="resnet18")
    assert load_weights(ours, read_weights(str(path), Published("resnet18")), "abcdefg") == []
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_a_head_of_another_size_is_replaced_and_said_so() -> None:
    theirs = torchvision.models.googlenet(init_weights=False, num_classes=5)
    ours = network(3, 3, 32, name="googlenet")
    fresh = ours.fc.weight.detach().clone()
    notices = load_weights(ours, Weights("", Path("x.pth"), theirs.state_dict()), "abc")
    assert sorted(notice.split(" starts at random")[0] for notice in notices) == ["aux1.fc2", "aux2.fc2", "fc"]
    assert all("tells 5 other classes apart" in notice for notice in notices)
    assert torch.equal(ours.fc.weight, fresh)
    assert torch.equal(ours.aux1.fc1.weight, theirs.aux1.fc1.weight)  # type: ignore[union-attr]


def test_auxiliary_classifiers_may_be_missing_on_either_side() -> None:
    with_heads = torchvision.models.googlenet(init_weights=False, num_classes=3).state_dict()
    without = {name: tensor for name, tensor in with_heads.items() if not name.startswith("aux")}
    plain = network(3, 3, 32, name="googlenet", auxiliary=False)
    assert load_weights(plain, Weights("", Path("x"), with_heads), "abc") == []
    notices = load_weights(network(3, 3, 32, name="googlenet"), Weights("", Path("x"), without), "abc")
    assert notices == ["the auxiliary classifiers start at random: the file has none that were trained"]


def test_weights_of_another_network_list_what_differs() -> None:
    weights = Weights("", Path("x.pth"), torchvision.models.resnet18(num_classes=3).state_dict())
    with pytest.raises(CheckpointError) as caught:
        load_weights(network(3, 3, 32, name="resnet34"), weights, "abc")
    assert "x.pth: these are the weights of another network" in str(caught.value)
    assert "not in the file: layer1.2.conv1.weight, " in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load_weights(network(1, 3, 32, name="resnet18"), weights, "abc")
    assert "1 of another shape: conv1.weight (64, 3, 7, 7) instead of (64, 1, 7, 7)" in str(caught.value)


def test_training_starts_from_weights_with_their_own_preprocessing(cli: Cli, tmp_path: Path) -> None:
    torch.save(torchvision.models.resnet18(num_classes=1000).state_dict(), tmp_path / "resnet18.pth")
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text(
        f"model: {{name: resnet18, weights: {tmp_path / 'resnet18.pth'}, freeze: backbone}}\n" + PHOTOS
    )
    outcome = cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert "resnet18.pth" in outcome.err
    assert "note: fc starts at random: that of the file tells 1,000 other classes apart" in outcome.err
    run = tmp_path / "runs/latest"
    resolved = yaml.safe_load((run / "config.yaml").read_text())
    assert resolved["data"]["mean"] == [0.485, 0.456, 0.406]
    assert resolved["data"]["image_size"] == 32  # said by the configuration, so it stands
    assert resolved["model"]["weights"] == str(tmp_path / "resnet18.pth")
    results = json.loads((run / "results.json").read_text())
    assert len(results["weights"]["sha256"]) == 64
    assert cli("train", run / "config.yaml", "--output", tmp_path / "again").code == 0
    again = json.loads((tmp_path / "again/latest/results.json").read_text())
    assert again["test"] == results["test"]


def test_a_run_of_ours_can_be_started_from(trained_run: Path) -> None:
    best = trained_run / "checkpoints/best.safetensors"
    step = sorted(trained_run.glob("checkpoints/step-*.pt"))[-1]
    kept = torch.load(step, weights_only=True)["kept"]  # the average, which differs from the weights in training
    for source, expected in ((best, load_file(best)), (trained_run, load_file(best)), (step, kept)):
        model = network(1, 10, 32, name="lenet5")
        assert load_weights(model, read_weights(str(source), None), "0123456789") == []
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, expected[name])


def test_a_head_for_other_classes_of_the_same_number_starts_anew(trained_run: Path) -> None:
    model = network(1, 10, 32, name="lenet5")
    head = model.get_submodule("classifier.5")
    assert isinstance(head, nn.Linear)
    fresh = head.weight.detach().clone()
    notices = load_weights(model, read_weights(str(trained_run), None), "abcdefghij")
    assert notices == ["classifier.5 starts at random: that of the file tells 10 other classes apart: 0, 1, 2, 3, 4, 5"]
    assert torch.equal(head.weight, fresh)


def test_only_the_layers_that_give_classes_count_as_a_head() -> None:
    def build(first: int, last: int) -> Any:
        layers = ["flatten", *({"linear": n} for n in (first, last))]
        return network(1, last, 4, name="sequential", layers=layers)

    with pytest.raises(CheckpointError, match=r"of another shape: layers.1.weight"):
        load_weights(build(10, 10), Weights("", Path("x"), build(7, 10).state_dict()), "0123456789")


@pytest.mark.parametrize("convolution", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_a_head_may_be_a_convolution_of_any_number_of_sides(convolution: Any) -> None:
    def build(classes: int) -> Any:
        model: Any = nn.Sequential(convolution(1, 2, 1), convolution(2, classes, 1))
        model.stages = {"body": ("0",), "head": ("1",)}
        return model

    [notice] = load_weights(build(3), Weights("", Path("x"), build(7).state_dict()), "abc")
    assert notice.startswith("1 starts at random: that of the file tells 7 other classes apart")


IMAGENET = {"channels": 3, "resize": "crop", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    ("model", "data", "expected"),
    [
        ("resnet18", "", {**IMAGENET, "image_size": 224, "stored_size": 256}),
        ("resnet50", "", {**IMAGENET, "image_size": 224, "stored_size": 232}),
        ("googlenet", "", {"mean": (0.5,) * 3, "std": (0.5,) * 3, "image_size": 224, "stored_size": 256}),
        ("resnet18", ", image_size: 64", {**IMAGENET, "image_size": 64, "stored_size": None}),
        ("resnet18", ", mean: [0.1], std: [0.2]", {"mean": (0.1,), "std": (0.2,)}),
        ("resnet18", ", channels: 1", {"channels": 1, "mean": None, "std": None}),
        ("resnet18", ", resize: squash", {**IMAGENET, "resize": "squash"}),
    ],
)
def test_the_preprocessing_follows_the_weights_where_nothing_else_is_said(
    tmp_path: Path, model: str, data: str, expected: dict[str, Any]
) -> None:
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pth")
    text = f"model: {{name: {model}, weights: {tmp_path / 'x.pth'}}}\ndata: {{source: digits{data}}}\n"
    config, weights = initial_weights(parse_config(text, "test"))
    assert weights is not None
    assert "does not say how its images were prepared" in weights.notices[0]
    found = config.data.model_dump()
    assert {key: found[key] for key in expected} == expected


def test_the_preprocessing_of_a_run_of_ours_is_taken_whole(trained_run: Path) -> None:
    text = f"model: {{name: lenet5, weights: {trained_run}}}\ndata: {{source: digits}}\n"
    config, weights = initial_weights(parse_config(text, "test"))
    assert weights is not None
    assert config.data.model_dump(include=set(PREPROCESSING)) == weights.preprocessing | {
        key: tuple(weights.preprocessing[key]) for key in ("mean", "std")
    }


def write_sealed(path: Path, header: str) -> None:
    metadata = {"cnntrain": header, DIGEST_KEY: UNSEALED}
    path.write_bytes(seal(save({"a": torch.zeros(1)}, metadata)))


def test_a_header_can_change_the_preprocessing_alone(tmp_path: Path) -> None:
    fitting = {"channels": 1, "image_size": 16, "stored_size": 16, "resize": "crop", "mean": [0.5], "std": [0.5]}
    header = {
        "class_names": ["a", "b"],
        "preprocessing": {**fitting, "val_fraction": 0.5, "root": "/", "split_seed": 9},
    }
    write_sealed(tmp_path / "x.safetensors", json.dumps(header))
    text = f"model: {{name: lenet5, weights: {tmp_path / 'x.safetensors'}}}\ndata: {{source: digits}}\n"
    config, _ = initial_weights(parse_config(text, "test"))
    assert config.data.image_size == 16
    assert (config.data.val_fraction, config.data.split_seed, config.data.root) == (0.1, 0, None)


@pytest.mark.parametrize(
    "header", ["", "x", "[]", "5", "{}", '{"preprocessing": null, "class_names": []}', "[" * 100_000]
)
def test_junk_in_a_header_is_no_disaster(cli: Cli, tmp_path: Path, header: str) -> None:
    write_sealed(tmp_path / "x.safetensors", header)
    outcome = cli("check", "digits_lenet", "--set", f"model.weights={tmp_path / 'x.safetensors'}")
    assert outcome.code == 4
    assert "its header does not fit" in outcome.err
    assert cli("evaluate", tmp_path / "x.safetensors").code == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"header": "x", "a": torch.zeros(1)}, "holds no state dict"),
        ({"header": torch.zeros(2)}, "another network"),
        ({0: torch.zeros(1)}, "holds no state dict"),
        ({"a": torch.zeros(1, dtype=torch.uint8)}, "a is no tensor of weights"),
        ({"a": torch.zeros(1, dtype=torch.complex64)}, "a is no tensor of weights"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "a is no tensor of weights"),
        ({"a": torch.zeros(1, device="meta")}, "a is no tensor of weights"),
        ({"a": torch.tensor(float("nan"))}, "a holds values that are not finite"),
    ],
)
def test_odd_tensors_are_refused(cli: Cli, tmp_path: Path, content: dict[Any, Any], message: str) -> None:
    torch.save(content, tmp_path / "x.pth")
    outcome = cli("check", "digits_lenet", "--set", f"model.weights={tmp_path / 'x.pth'}")
    assert outcome.code == 4
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_published_auxiliary_classifiers_count_as_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub/checkpoints" / Path(torchvision.models.GoogLeNet_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.googlenet(init_weights=False, num_classes=3).state_dict(), file)
    published = read_weights("torchvision", Googlenet().published)
    notices = load_weights(network(3, 3, 32, name="googlenet"), published, "abc")
    assert notices == ["the auxiliary classifiers start at random: the file has none that were trained"]


def test_a_download_is_verified_by_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def download(url: str, path: str, **options: object) -> None:
        asked.update(options)
        torch.save(torchvision.models.resnet18().state_dict(), path)

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    read_weights("torchvision", Published("resnet18"))
    assert asked["hash_prefix"] == torchvision.models.ResNet18_Weights.DEFAULT.url.rpartition("-")[2].split(".")[0]


def test_without_network_torchvisions_weights_say_what_to_fetch(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text("model: {name: resnet18, weights: torchvision}\n" + PHOTOS)
    outcome = cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs")
    assert outcome.code == 4
    assert "cannot be downloaded (Network is unreachable); where there is network, fetch https://" in outcome.err
    assert not (tmp_path / "runs").exists()


def test_downloaded_weights_are_used_from_torchs_cache(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    file = tmp_path / "hub/hub/checkpoints" / Path(torchvision.models.ResNet18_Weights.DEFAULT.url).name
    file.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), file)
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text("model: {name: resnet18, weights: torchvision}\n" + PHOTOS)
    outcome = cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, "--output", tmp_path / "runs")
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "runs/latest/results.json").read_text())["weights"]["source"] == "torchvision"


@pytest.mark.parametrize(
    ("weights", "code", "message"),
    [
        ("gone.pth", 4, "my.yaml:1: model.weights: {tmp}/gone.pth: cannot be read: No such file"),
        ("my.yaml", 4, "my.yaml: not a checkpoint of cnntrain or another file of weights"),
        ("evil.pth", 4, "a whole pickled network is not read, because that could run any code"),
        ("numbers.pth", 4, "holds no state dict"),
        ("torchvision", 2, "my.yaml:1: model.weights: torchvision publishes no weights for this network"),
    ],
)
def test_wrong_weights_are_explained(cli: Cli, tmp_path: Path, weights: str, code: int, message: str) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "evil.pth")
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    named = weights if weights == "torchvision" else tmp_path / weights
    (tmp_path / "my.yaml").write_text(f"model: {{name: lenet5, weights: {named}}}\ndata: {{source: digits}}\n")
    outcome = cli("train", tmp_path / "my.yaml", "--output", tmp_path / "runs")
    assert message.format(tmp=tmp_path) in outcome.err
    assert outcome.code == code
    assert "Traceback" not in outcome.err
