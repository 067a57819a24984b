"""The runs in a folder: their order, and that all who say "the newest" mean one and the same."""

import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import Cli

from cnntrain.errors import CheckpointError
from cnntrain.runs.resume import find_run
from cnntrain.runs.run_folder import find_checkpoint, run_folder
from cnntrain.runs.runs import BEST, runs_in


def make(output: Path, name: str = "a", *, at: str | None = None, weights: bool = True) -> Path:
    """A run as training leaves it, in what it is called at least; `at` renames it."""
    with run_folder(output, name) as folder:
        (folder / "config.yaml").write_text("model: lenet5\ndata: {source: digits}\n")
        (folder / "checkpoints/step-00000001.json").touch()
        if weights:
            (folder / BEST).touch()
    if at:
        folder = folder.rename(folder.with_name(at))
    return folder


def newest(output: Path) -> list[Path]:
    """What each of those who look for it takes for the newest run."""
    resumed = find_run(None, output)
    assert resumed
    named = find_checkpoint("latest", output) if os.path.lexists(output / "latest") else find_checkpoint(None, output)
    found = [runs_in(output)[-1], find_checkpoint(None, output).parents[1], named.parents[1], resumed]
    return [path.resolve() for path in found]


def all_mean(output: Path, run: Path) -> bool:
    return newest(output) == [run.resolve()] * 4


@pytest.mark.parametrize("back", [0, 1, 3600, 10**8])
def test_a_clock_that_is_set_back_makes_no_other_run_the_newest(
    tmp_path: Path, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make(tmp_path)]
    now = time.time()
    monkeypatch.setattr("cnntrain.runs.runs.time.time", lambda: now - back)
    for name in ("a", "b", "a"):
        runs.append(make(tmp_path, name))
        assert all_mean(tmp_path, runs[-1])
    (tmp_path / "latest").unlink()  # as where there are no links
    assert all_mean(tmp_path, runs[-1])
    assert [path.resolve() for path in runs_in(tmp_path)] == [run.resolve() for run in runs]
    assert len({run.name for run in runs}) == 4


def test_where_an_older_version_left_the_names_out_of_order_the_link_decides(tmp_path: Path) -> None:
    future = make(tmp_path, at="20991231-235959")
    past = make(tmp_path / "other", at="20200101-000000").rename(tmp_path / "a" / "20200101-000000")
    (tmp_path / "latest").unlink()
    (tmp_path / "latest").symlink_to(past, target_is_directory=True)
    assert all_mean(tmp_path, past)
    assert find_checkpoint("a", tmp_path).parents[1].resolve() == past.resolve()  # of one name too
    after = make(tmp_path)
    assert after.name == "21000101-000000"
    assert all_mean(tmp_path, after)
    shutil.rmtree(after)  # by hand: the link leads nowhere
    assert all_mean(tmp_path, future)


def test_a_run_that_was_renamed_or_is_linked_to_is_one_run_and_no_newer_for_it(tmp_path: Path) -> None:
    make(tmp_path, at="my best one")
    second = make(tmp_path)
    (tmp_path / "a" / "zzz").symlink_to(second, target_is_directory=True)
    assert [path.name for path in runs_in(tmp_path)] == ["my best one", second.name]
    assert all_mean(tmp_path, second)


def test_a_name_that_is_no_time_after_all_does_not_stop_the_next_run(tmp_path: Path) -> None:
    for odd in ("99991231-235959", "20261399-000000", "notes"):
        (tmp_path / "a" / odd).mkdir(parents=True)
    assert make(tmp_path).name < "2100"
    assert len(runs_in(tmp_path)) == 1


def test_without_weights_the_newest_run_that_has_some_is_meant(tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path, weights=False)
    assert runs_in(tmp_path)[-1] == second
    assert find_checkpoint(None, tmp_path).parents[1] == first
    with pytest.raises(CheckpointError, match="holds no trained run"):
        find_checkpoint("latest", tmp_path)


def test_evaluate_and_latest_mean_the_run_that_was_trained_last(
    cli: Cli, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "runs"
    shutil.copytree(trained_run, output / "digits_lenet" / "20300101-000000")
    small = ["--epochs", 1, "--set", "run.tensorboard=false", "--output", output, "--quiet"]
    assert cli("train", "digits_lenet", *small).code == 0
    assert (output / "latest").resolve().name == "20300101-000001"
    assert "20300101-000001" in cli("evaluate", "--output", output).err
