"""Runs of one configuration with other seeds have a mean and a spread; configurations are told apart by their seeds."""

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cli
from scipy import stats

from cnntrain.config.loading import load_config
from cnntrain.config.shipped import shipped_configs
from cnntrain.reports.groups import Spread, differences
from cnntrain.runs.titles import data_title, labels, network_title, run_title

FIRST, SECOND, THIRD = (0.91, 0.93, 0.92, 0.95), (0.88, 0.9, 0.89), (0.92, 0.96, 0.91)


def test_mean_and_interval_over_seeds_are_students() -> None:
    found = Spread(FIRST)
    expected = stats.ttest_1samp(FIRST, 0).confidence_interval()
    assert found.interval == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.9275)


def test_spread_that_was_not_seen_gives_no_interval() -> None:
    assert Spread((1.0, 1.0, 1.0)).interval is None
    assert Spread((0.9,)).deviation is None


def test_configurations_are_compared_by_welchs_test_corrected_for_their_number() -> None:
    found = differences(Spread(FIRST), [Spread(SECOND), Spread(THIRD)])
    tests = [stats.ttest_ind(other, FIRST, equal_var=False) for other in (SECOND, THIRD)]
    for one, test, factor in zip(found, tests, (2, 1), strict=True):
        assert one is not None
        interval = test.confidence_interval()
        assert one.interval == pytest.approx((interval.low, interval.high))
        assert one.p_value == pytest.approx(min(1, factor * test.pvalue))


@pytest.mark.parametrize("other", [(0.5,), (0.5, 0.6), (0.5, 0.5, 0.5)])
def test_fewer_than_three_seeds_or_no_spread_tell_nothing(other: tuple[float, ...]) -> None:
    assert differences(Spread(FIRST), [Spread(other)]) == [None]


def copies(run: Path, folder: Path, accuracies: dict[int, float], **settings: Any) -> list[Path]:
    """Copies of a run under other seeds, with other accuracies and settings of the optimizer."""
    found = []
    for number, (seed, accuracy) in enumerate(accuracies.items()):
        target = folder / f"20260101-00000{number}"
        shutil.copytree(run, target)
        config = yaml.safe_load((target / "config.yaml").read_text())
        config["run"] |= {"seed": seed, "name": folder.name, "output": str(folder), "device": "cpu"}
        config["recipe"]["optimizer"] |= settings
        (target / "config.yaml").write_text(yaml.safe_dump(config))
        results = json.loads((target / "results.json").read_text()) | {"seed": seed}
        results["test"]["accuracy"] = accuracy
        (target / "results.json").write_text(json.dumps(results))
        found.append(target)
    return found


def page_text(path: Path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", path.read_text()).replace("\u00a0", " ").split())


def test_seeds_of_one_configuration_have_mean_and_spread_instead_of_pairs(
    trained_run: Path, cli: Cli, tmp_path: Path
) -> None:
    runs = copies(trained_run, tmp_path / "my", dict(enumerate(FIRST)))
    found = json.loads(cli("report", *runs, "--out", tmp_path / "x.html", "--json").out)
    whole = found[0]["configuration"]
    assert [whole[key] for key in ("num_seeds", "min", "max")] == [4, 0.91, 0.95]
    assert whole["standard_deviation"] == pytest.approx(0.01708, abs=1e-5)
    text = page_text(tmp_path / "x.html")
    assert text.startswith("LeNet-5 on digits (scikit-learn), 4 seeds")
    assert "92.75 % on average over 4 seeds, standard deviation 1.71 points, from 91.00 % to 95.00 %" in text
    assert " against " not in text
    assert "Nothing that decides what is learnt, but for the seed" in text
    assert "seed 2" in text


def test_configurations_with_seeds_have_a_row_each_and_a_test_between_them(
    trained_run: Path, cli: Cli, tmp_path: Path
) -> None:
    runs = copies(trained_run, tmp_path / "a", dict(enumerate(FIRST)), lr=0.1)
    runs += copies(trained_run, tmp_path / "b", dict(enumerate(SECOND)), lr=0.2)
    assert cli("report", *runs, "--out", tmp_path / "x.html").code == 0
    text = page_text(tmp_path / "x.html")
    p_value = stats.ttest_ind(SECOND, FIRST, equal_var=False).pvalue
    assert "lr 0.2 against lr 0.1: -3.75 points (95 % interval" in text
    assert f"Welch's t test over seeds: p {p_value:.2g}), more than seeds leave to chance" in text
    assert "recipe.optimizer.lr 0.1 0.2" in text
    assert "McNemar" not in text


def test_the_same_seed_again_shows_no_spread(trained_run: Path, cli: Cli, tmp_path: Path) -> None:
    runs = copies(trained_run, tmp_path / "a", {0: 0.9, 1: 0.92}) + copies(trained_run, tmp_path / "b", {0: 0.9})
    assert cli("report", *runs, "--out", tmp_path / "x.html").code == 0
    text = page_text(tmp_path / "x.html")
    assert "91.00 % on average over 2 seeds" in text
    assert "wide because two seeds say little of their spread" in text
    assert "3 runs, but 2 seeds: of each the first one counts" in text


def test_runs_are_labelled_by_what_differs() -> None:
    base = load_config("digits_lenet").config.model_dump(mode="json")
    slow = json.loads(json.dumps(base))
    slow["recipe"]["optimizer"]["lr"] = 0.01
    slow["run"] |= {"name": "other", "seed": 4}
    resnet = load_config("cifar10_resnet20").config.model_dump(mode="json")
    assert labels([base, slow]) == [f"lr {base['recipe']['optimizer']['lr']}", "lr 0.01"]
    assert labels([base, base]) == ["", ""]
    found = labels([base, resnet])
    assert found[0].startswith("LeNet-5 on digits (scikit-learn)")
    assert found[1].startswith("ResNet-20 on CIFAR-10")


def test_titles_name_network_and_data_as_the_table_of_results_does() -> None:
    script = runpy.run_path(str(Path(__file__).parent.parent / "scripts/results_table.py"))
    for name in shipped_configs():
        config = load_config(name).config.model_dump(mode="json")
        assert network_title(config["model"]) == script["network_name"](config["model"])
        assert data_title(config) == script["data_name"](config["data"])
    assert run_title({}) == "network on images"
