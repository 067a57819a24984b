import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from cnntrain.config.loading import dump_config, json_schema, load_config, parse_config
from cnntrain.config.shipped import SCHEMA_FILE, config_folder, shipped_configs
from cnntrain.data.images.augmentations.crops import RandomCrop, RandomResizedCrop
from cnntrain.data.images.augmentations.random_erasing import RandomErasing
from cnntrain.errors import ConfigError
from cnntrain.training.optimizers import Adam

MINIMAL = "model: lenet5\ndata: {source: digits}\n"


def write(folder: Path, text: str) -> str:
    path = folder / "my.yaml"
    path.write_text(text)
    return str(path)


def fault(folder: Path, text: str, *assignments: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(folder, text), list(assignments))
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_loads_and_says_what_it_is(name: str) -> None:
    load_config(name)
    lines = shipped_configs()[name].read_text().splitlines()
    head = "\n".join(line for line in lines[:10] if line.startswith("#"))
    assert f"cnntrain train configs/{name}.yaml" in head
    assert "Expect" in head
    assert f"yaml-language-server: $schema={SCHEMA_FILE}" in head


def test_the_shipped_schema_is_the_current_one() -> None:
    shipped = json.loads((config_folder() / SCHEMA_FILE).read_text())
    assert shipped == json.loads(json_schema()), f"run: cnntrain schema > configs/{SCHEMA_FILE}"


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configs_fit_the_json_schema(name: str) -> None:
    document = yaml.safe_load(
        re.sub(r"\b(\d+)e-", r"\1.0e-", shipped_configs()[name].read_text())
    )  # as YAML 1.1 has it
    jsonschema.validate(document, json.loads(json_schema()))


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = load_config(
        "cifar10_lenet", ["recipe.averaging.decay=0.9", "data.augment=[mixup, {rotation: {degrees: 5}}]"]
    )
    assert parse_config(dump_config(config.config), "dumped") == config.config


def test_the_name_defaults_to_the_files(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL)).config.run.name == "my"


def test_short_and_long_forms_of_a_part_are_the_same(tmp_path: Path) -> None:
    short = MINIMAL + "  \n"
    forms = [
        "random_crop",
        "{random_crop: {padding: 4}}",
        "{name: random_crop, padding: 4}",
        "{random_crop: }",
    ]
    for form in forms:
        config = load_config(write(tmp_path, short), [f"data.augment=[{form}]"]).config
        assert config.data.augment == (RandomCrop(padding=4),)


def test_a_part_without_a_name_means_the_usual_one(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, MINIMAL), ["recipe.optimizer.lr=0.3"]).config.recipe.optimizer.name == "sgd"


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, MINIMAL + "recipe: {optimizer: {name: adam, lr: 5e-4, eps: 1E-9}}\n")).config
    assert config.recipe.optimizer == Adam(lr=0.0005, eps=1e-9)


def test_all_faults_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = fault(
        tmp_path,
        "model: {name: lenet6}\n"
        "data:\n"
        "  source: digits\n"
        "  augment:\n"
        "    - random_crop: {paddding: 2}\n"
        "    - horizontal_flp\n"
        "recipe:\n"
        "  epohcs: 3\n"
        "  batch_size: many\n"
        "  optimizer: {name: sgd, lr: -1}\n",
    )
    for expected in (
        "my.yaml:1: model.name: unknown name; did you mean 'lenet5'? (got 'lenet6', allowed: lenet5, alexnet, googlenet, resnet20",
        "my.yaml:5: data.augment.0.random_crop.paddding: unknown key; did you mean 'padding'?",
        "my.yaml:6: data.augment.1: unknown name; did you mean 'horizontal_flip'?",
        "my.yaml:8: recipe.epohcs: unknown key; did you mean 'epochs'?",
        "my.yaml:9: recipe.batch_size: must be a whole number (got 'many')",
        "my.yaml:10: recipe.optimizer.lr: must be above 0 (got -1)",
    ):
        assert expected in text
    assert len(text.splitlines()) == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model: lenet5\n", "my.yaml:1: data: is missing and has no default"),
        (MINIMAL + "data: {source: mnist}\n", "my.yaml:3: data: written twice (first at my.yaml:2)"),
        ("model: [lenet5\n", "not valid YAML"),
        ("", "a configuration has the sections model, data, recipe and run (found nothing)"),
        ("- model\n", "(found list)"),
        (MINIMAL + "recipe: {epochs: 2.5}\n", "my.yaml:3: recipe.epochs: must be a whole number (got 2.5)"),
        (MINIMAL + 'recipe: {epochs: "5"}\n', "recipe.epochs: must be a whole number (got '5')"),
        (MINIMAL + "recipe: {epochs: }\n", "recipe.epochs: must be a whole number (got nothing)"),
        (MINIMAL + "recipe: {clip_grad_norm: .inf}\n", "recipe.clip_grad_norm: must be a finite number (got inf)"),
        (MINIMAL + "recipe: {optimizer: {nesterov: yes}}\n", "must be true or false (got 'yes')"),
        (MINIMAL + "recipe: {loss: hinge}\n", "unknown name (got 'hinge', allowed: cross_entropy, squared_error)"),
        (MINIMAL + "run: {device: gpu}\n", "run.device: not understood (got 'gpu', allowed: auto, cpu, cuda, cuda:N or mps)"),
        ("model: !!python/object:os.system {}\ndata: {source: digits}\n", "is not allowed"),
        ("model: !!python/name:os.system x\ndata: {source: digits}\n", "is not allowed"),
        ("model: lenet5\ndata: {source: image_folder}\n", "image_folder needs data.root"),
        ("model: lenet5\ndata: {source: mnist, splits: {test: val}}\n", "mnist has its own splits"),
        ("model: lenet5\ndata: {source: digits, mean: [0.5]}\n", "mean and std go together"),
        ("model: lenet5\ndata: {source: digits, image_size: 32, stored_size: 28}\n", "stored_size must be at least"),
        ("model: lenet5\ndata: {source: digits, augment: [mixup, mixup]}\n", "augment lists mixup more than once"),
        ("model: lenet5\ndata: {source: digits, val_fraction: 0.6, test_fraction: 0.5}\n", "must leave images to train on"),
        (MINIMAL + "recipe: {schedule: {name: multi_step, milestones: [5, 3]}}\n", "milestones must rise (got [5, 3])"),
        (MINIMAL + "recipe: {schedule: multi_step}\n", "recipe.schedule.milestones: is missing"),
        (MINIMAL + "recipe: {batch_size: 32, shards: 64}\n", "shards must be at most batch_size, 32 (got 64)"),
        (MINIMAL + "recipe: {shards: 4, sync_batch_norm: true}\n", "sync_batch_norm must be auto or false"),
    ],
)  # fmt: skip
def test_each_fault_says_where_and_what(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in fault(tmp_path, text)


def test_overrides_reach_every_kind_of_key(tmp_path: Path) -> None:
    text = MINIMAL.replace("{source: digits}", "{source: digits, augment: [{random_crop: {padding: 1}}, mixup]}")
    assignments = [
        "recipe.epochs=7",
        "data.augment.0.random_crop.padding=2",
        "data.augment.1.alpha=0.4",
        "recipe.early_stopping={patience: 3}",
        "run.name=a=b",
    ]
    config = load_config(write(tmp_path, text), assignments).config
    assert config.recipe.epochs == 7
    assert [item.model_dump() for item in config.data.augment] == [
        {"name": "random_crop", "padding": 2},
        {"name": "mixup", "alpha": 0.4, "probability": 1.0},
    ]
    assert config.recipe.early_stopping is not None
    assert config.recipe.early_stopping.patience == 3
    assert config.run.name == "a=b"


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("recipe.epochs=five", "--set recipe.epochs=five: recipe.epochs: must be a whole number (got 'five')"),
        ("recipe.epohcs=5", "--set recipe.epohcs=5: recipe.epohcs: unknown key; did you mean 'epochs'?"),
        ("a.b.c=1", "--set a.b.c=1: a: unknown key"),
        ("recipe.epochs", "--set takes KEY=VALUE, such as --set recipe.epochs=5 (got 'recipe.epochs')"),
        ("=5", "--set takes KEY=VALUE"),
        ("recipe.epochs=[1", "--set recipe.epochs=[1: not valid YAML"),
        ("data.source.x.y=1", "data.source: must be one of"),
        ("recipe.epochs.x=1", "recipe.epochs is a single value and has no key 'x'"),
        ("data.augment.3.padding=1", "data.augment is an empty list (got '3')"),
    ],
)
def test_a_wrong_override_is_named_by_its_flag(tmp_path: Path, assignment: str, expected: str) -> None:
    text = MINIMAL.replace("digits}", "digits, augment: []}") + "recipe: {epochs: 3}\n"
    assert expected in fault(tmp_path, text, assignment)


def test_aliases_and_merge_keys_work(tmp_path: Path) -> None:
    text = (
        "model: lenet5\n"
        "data:\n"
        "  source: digits\n"
        "  augment:\n"
        "    - random_erasing: &boxes {scale: [0.1, 0.2], ratio: [1, 2]}\n"
        "    - random_resized_crop: {<<: *boxes, ratio: [0.5, 2]}\n"
    )
    erasing, crop = load_config(write(tmp_path, text)).config.data.augment
    assert isinstance(erasing, RandomErasing)
    assert isinstance(crop, RandomResizedCrop)
    assert (crop.scale, crop.ratio) == (erasing.scale, (0.5, 2))
    assert "my.yaml:6: data.augment.1.random_resized_crop.ratio: must be a list" in fault(
        tmp_path, text.replace("[0.5, 2]", "wide")
    )


@pytest.mark.parametrize("key", ["[a, b]", "{a: b}"])
@pytest.mark.parametrize("before", ["", "<<: "])
def test_keys_that_are_no_text_are_refused(tmp_path: Path, key: str, before: str) -> None:
    inner = f"{{? {key} : 1}}"
    text = "model: {<<: " + inner + "}\n" if before else f"model: {inner}\n"
    assert "a key must be text" in fault(tmp_path, text)


@pytest.mark.parametrize("name", ["1e5", "08", "0x10", "😀", "on", "null", "1.0", "2026-01-31", "a: b", "Käfer", "~"])
def test_any_name_survives_the_resolved_config(tmp_path: Path, name: str) -> None:
    config = load_config(write(tmp_path, MINIMAL), name=name).config
    assert config.run.name == name
    assert parse_config(dump_config(config), "dumped") == config
    assert yaml.safe_load(dump_config(config))["run"]["name"] == name  # readers of YAML 1.1 see text too
    assert parse_config(json.dumps(config.model_dump(mode="json"), ensure_ascii=False), "header") == config


def test_a_folder_with_a_shipped_name_does_not_hide_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits_lenet").mkdir()
    assert load_config("digits_lenet").config.data.source == "digits"


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
        "[" * 5000,
        "a: &a [*a]\n",
        "x: " + "{a: " * 60 + "1" + "}" * 60,
        "# " + "x" * 300_000,
    ],
    ids=["billion laughs", "brackets", "recursive alias", "deep", "large"],
)  # fmt: skip
def test_hostile_yaml_is_refused_at_once(tmp_path: Path, text: str) -> None:
    assert "my.yaml" in fault(tmp_path, text)


def test_binary_and_folders_are_no_configs(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    for path, expected in [
        (tmp_path / "x.yaml", "not a text file"),
        (tmp_path, "is a folder; did you mean the configuration"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            load_config(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "model: lenet5",
        "model: {resnet18: {stem: small}}",
        "model: {name: resnet50}",
        "data: {source: digits, augment: [mixup, {mixup: null}, {random_crop: {padding: 2}}]}",
        "recipe: {optimizer: {lr: 0.1}, schedule: {warmup_fraction: 0.1}, averaging: {decay: 0.9}}",
        "recipe: {optimizer: adam, averaging: ema, early_stopping: null}",
    ],
)
def test_editors_accept_what_cnntrain_accepts(tmp_path: Path, text: str) -> None:
    document = {"model": "lenet5", "data": {"source": "digits"}} | yaml.safe_load(text)
    if "mixup" in text:
        document["data"]["augment"] = document["data"]["augment"][1:]  # it may be listed once only
    jsonschema.validate(document, json.loads(json_schema()))
    load_config(write(tmp_path, json.dumps(document)))


@pytest.mark.parametrize("text", ["recipe: {optimizer: {lr: fast}}", "recipe: {epohcs: 3}", "model: {name: lenet6}"])
def test_editors_refuse_what_cnntrain_refuses(text: str) -> None:
    document = {"model": "lenet5", "data": {"source": "digits"}} | yaml.safe_load(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(json_schema()))


def test_settings_that_are_suggested_for_other_programs_options_are_understood() -> None:
    from cnntrain.cli.meaning import _SETTINGS

    for setting in _SETTINGS.values():
        load_config("cifar10_lenet", [setting])
