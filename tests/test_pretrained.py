"""Starting from trained weights: files of every kind, torchvision's networks, heads, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
import yaml
from conftest import Cli, write_photos
from safetensors.torch import save_file
from torch import nn

from cnntrain.errors import CheckpointError
from cnntrain.models.alexnet import AlexNet
from cnntrain.models.googlenet import GoogLeNet
from cnntrain.models.outputs import WithAuxiliary
from cnntrain.models.pretrained import Weights, load_weights, read_weights
from cnntrain.models.resnet import ResNet

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


def images(size: int) -> torch.Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


def without_dropout(*models: nn.Module) -> None:
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0


NETWORKS = [
    ("alexnet", lambda: AlexNet(3, 1000, 96), {}),
    ("googlenet", lambda: GoogLeNet(3, 1000, 96), {"init_weights": False}),
    ("resnet18", lambda: ResNet(18, 3, 1000, 64), {}),
    ("resnet34", lambda: ResNet(34, 3, 1000, 64), {}),
    ("resnet50", lambda: ResNet(50, 3, 1000, 64), {}),
    ("resnet101", lambda: ResNet(101, 3, 1000, 64), {}),
    ("resnet152", lambda: ResNet(152, 3, 1000, 64), {}),
]


@pytest.mark.parametrize(("name", "build", "options"), NETWORKS, ids=[name for name, *_ in NETWORKS])
def test_torchvisions_weights_load_strictly_and_give_its_outputs(
    name: str, build: Any, options: dict[str, Any]
) -> None:
    theirs = randomised(getattr(torchvision.models, name)(**options))
    ours = build()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    batch = images(96 if name in ("alexnet", "googlenet") else 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(batch), theirs.eval()(batch), rtol=1e-5, atol=1e-5)
        without_dropout(ours, theirs)
        found, expected = ours.train()(batch), theirs.train()(batch)
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
    ours = GoogLeNet(3, 1000, 96).eval()
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
    ours = ResNet(18, 3, 7, 32)
    assert load_weights(ours, read_weights(str(path), "resnet18"), 7) == []
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in ours.state_dict().items())


def test_a_head_of_another_size_is_replaced_and_said_so() -> None:
    theirs = torchvision.models.googlenet(init_weights=False, num_classes=5)
    ours = GoogLeNet(3, 3, 32)
    fresh = ours.fc.weight.detach().clone()
    notices = load_weights(ours, Weights("", Path("x.pth"), theirs.state_dict(), ""), 3)
    assert sorted(notice.split(" starts at random")[0] for notice in notices) == ["aux1.fc2", "aux2.fc2", "fc"]
    assert all("3 classes apart, in the file 5" in notice for notice in notices)
    assert torch.equal(ours.fc.weight, fresh)
    assert torch.equal(ours.aux1.fc1.weight, theirs.aux1.fc1.weight)  # type: ignore[union-attr]


def test_auxiliary_classifiers_may_be_missing_on_either_side() -> None:
    with_heads = torchvision.models.googlenet(init_weights=False, num_classes=3).state_dict()
    without = {name: tensor for name, tensor in with_heads.items() if not name.startswith("aux")}
    plain = GoogLeNet(3, 3, 32, auxiliary=False)
    assert load_weights(plain, Weights("", Path("x"), with_heads, ""), 3) == []
    notices = load_weights(GoogLeNet(3, 3, 32), Weights("", Path("x"), without, ""), 3)
    assert notices == ["the auxiliary classifiers start at random: the file has none"]


def test_weights_of_another_network_list_what_differs() -> None:
    weights = Weights("", Path("x.pth"), torchvision.models.resnet18(num_classes=3).state_dict(), "")
    with pytest.raises(CheckpointError) as caught:
        load_weights(ResNet(34, 3, 3, 32), weights, 3)
    assert "x.pth: these are the weights of another network" in str(caught.value)
    assert "not in the file: layer1.2.conv1.weight, " in str(caught.value)
    with pytest.raises(CheckpointError) as caught:
        load_weights(ResNet(18, 1, 3, 32), weights, 3)
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
    assert "note: fc starts at random: it tells 3 classes apart, in the file 1,000" in outcome.err
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


def test_a_run_of_ours_can_be_started_from(cli: Cli, tmp_path: Path, trained_run: Path) -> None:
    best = trained_run / "checkpoints/best.safetensors"
    step = sorted(trained_run.glob("checkpoints/step-*.pt"))[-1]
    accuracies = []
    for number, path in enumerate((best, step)):
        options = ["--set", f"model.weights={path}", "--set", "recipe.optimizer.lr=1e-6", "--epochs", "1"]
        options += ["--set", "recipe.averaging=null", "--set", "data.augment=[]"]
        outcome = cli("train", "digits_lenet", "--output", tmp_path / str(number), *options)
        assert outcome.code == 0, outcome.err
        accuracies.append(json.loads((tmp_path / str(number) / "latest/results.json").read_text())["test"]["accuracy"])
    before = json.loads((trained_run / "results.json").read_text())["test"]["accuracy"]
    assert accuracies[0] == pytest.approx(before, abs=0.006)  # two images of 359


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
        ("gone.pth", 2, "my.yaml:1: model.weights: {tmp}/gone.pth: cannot be read: No such file"),
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
