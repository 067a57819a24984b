"""The set-up script, with stand-ins for Python, so that nothing is installed; and what the measuring scripts reckon."""

import math
import os
import runpy
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from cnntrain.config.loading import load_config, parse_config
from cnntrain.config.shipped import shipped_configs
from cnntrain.errors import DataError

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the scripts need, at a path with a space, and an empty PATH for Pythons."""
    root = tmp_path / "a checkout"
    shutil.copytree(SCRIPTS, root / "scripts")
    (root / "pyproject.toml").write_text("[project]\n")
    (root / "bin").mkdir()
    for tool in ("bash", "dirname", "cksum", "cat", "rm", "mkdir"):
        (root / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return root


def fake_python(path: Path, *, new_enough: bool) -> None:
    """A stand-in that says its version, makes an environment with itself in it, and writes down what pip was asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""#!{shutil.which("bash")}
case "$1 $2" in
  "-c "*) exit {0 if new_enough else 1} ;;
  "--version "*) echo "Python {"3.12.1" if new_enough else "3.9.2"}" ;;
  "-m venv") mkdir -p "$3/bin"; cat "$0" > "$3/bin/python"; {shutil.which("chmod")} +x "$3/bin/python" ;;
  "-m pip") echo "$@" >> "$PIP_LOG" ;;
esac
"""
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_setup(root: Path, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(shutil.which("bash")), str(root / "scripts" / "setup"), *arguments],
        cwd=cwd,
        env={"PATH": str(root / "bin"), "PIP_LOG": str(root / "pip.log"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_old_python_is_explained(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=False)
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "no Python 3.11 or newer found (python3 is Python 3.9.2)" in finished.stderr
    assert not (checkout / ".venv").exists()


def test_no_python_at_all_is_explained(checkout: Path, tmp_path: Path) -> None:
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "no Python 3.11 or newer found" in finished.stderr


def test_a_newer_python_beside_an_old_one_is_found(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=False)
    fake_python(checkout / "bin" / "python3.12", new_enough=True)
    assert run_setup(checkout, cwd=tmp_path).returncode == 0
    assert (checkout / ".venv" / "bin" / "python").exists()


def test_the_environment_is_reused_until_something_changes(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=True)

    def installs(*arguments: str) -> int:
        finished = run_setup(checkout, *arguments, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        return len((checkout / "pip.log").read_text().splitlines())

    assert installs() == 1
    assert installs() == 1
    assert installs("test") == 2
    assert installs() == 2  # what the tests installed is enough for the quickstart
    (checkout / "pyproject.toml").write_text("[project]\n# changed\n")
    assert installs() == 3
    assert f"-e {checkout}[test]" in (checkout / "pip.log").read_text().splitlines()[-1]  # and they stay


def test_extras_live_together(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / "bin" / "python3", new_enough=True)
    for extra in ("test", "peers", "test", "peers"):
        assert run_setup(checkout, extra, cwd=tmp_path).returncode == 0
    first, second = (checkout / "pip.log").read_text().splitlines()
    assert first.endswith(f"-e {checkout}[test]")
    assert second.endswith(f"-e {checkout}[test,peers]")


def test_an_environment_of_an_old_python_is_explained(checkout: Path, tmp_path: Path) -> None:
    fake_python(checkout / ".venv" / "bin" / "python", new_enough=False)
    finished = run_setup(checkout, cwd=tmp_path)
    assert finished.returncode == 2
    assert "Remove that folder and try again" in finished.stderr


def test_scripts_are_executable() -> None:
    for script in SCRIPTS.iterdir():
        assert script.suffix or os.access(script, os.X_OK), script


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """The names in a script."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return lambda name: runpy.run_path(str(SCRIPTS / name))


@pytest.mark.parametrize("name", ["bench_peers", "peers_accuracy", "time_to_accuracy"])
def test_help_needs_nothing_installed_and_the_rest_says_what_is_missing(checkout: Path, name: str) -> None:
    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "-c", ISOLATED, str(checkout / "scripts" / name), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    told = start("--help")
    assert told.returncode == 0, told.stderr
    assert "--data-root DIR" in told.stdout
    failed = start()
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: not installed: torch, torchvision, cnntrain")
    assert f"run `scripts/setup{' peers' if 'peers' in name else ''}`, then start this again" in failed.stderr


# As `python SCRIPT`, without the packages that are installed.
ISOLATED = """
import runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_loader_counts_at_its_best_and_rounds_are_compared_one_by_one(
    script: Callable[[str], dict[str, Any]],
) -> None:
    names = script("measuring.py")
    speeds = {None: [100.0, 50.0, 110.0], 0: [10.0, 5.0, 10.0], 2: [20.0, 10.0, 20.0]}
    measured = [names["Measured"]("peer" if n is not None else "ours", "set", n, s) for n, s in speeds.items()]
    assert names["comparison"]("work", measured) == [
        ["work", "ours", "set", "", "100 (50 to 110)", ""],
        ["work", "peer", "set", "2", "20 (10 to 20)", "5.00"],
    ]
    assert names["markdown"](["a", "b"], [["1", "2|3"]]) == "| a | b |\n| --- | --- |\n| 1 | 2\\|3 |"


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (DataError("no photos: /x"), 3, "error: no photos: /x"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 7, "error: [Errno 13] Permission denied: '/x'"),
        (
            subprocess.CalledProcessError(3, ["train", "a"], stderr="error: no data\n"), 3,
            "error: no data\nfailed with exit code 3: train a",
        ),
    ],
)  # fmt: skip
def test_what_stops_a_script_is_one_message(
    script: Callable[[str], dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    message: str,
) -> None:
    def main() -> int:
        raise raised

    with pytest.raises(SystemExit) as ended:
        script("environment.py")["run_script"](main)
    assert ended.value.code == code
    assert capsys.readouterr().err == message + "\n"


def test_a_bug_in_a_script_shows_itself(script: Callable[[str], dict[str, Any]]) -> None:
    def main() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        script("environment.py")["run_script"](main)


MEASURING = ["bench_data", "bench_networks", "bench_peers", "bench_processes", "bench_settings", "bench_start"]


@pytest.mark.parametrize("name", [*MEASURING, "peers_accuracy", "reproduce", "time_to_accuracy"])
@pytest.mark.parametrize("number", ["0", "x", "1.5"])
def test_a_wrong_number_is_refused(
    script: Callable[[str], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    number: str,
) -> None:
    option = "--rounds" if name in MEASURING else "--seeds"
    monkeypatch.setattr(sys, "argv", [name, option, number])
    with pytest.raises(SystemExit) as ended:
        script(name)["main"]()
    assert ended.value.code == 2
    assert f"{option}: {number!r} is not a whole number of at least" in capsys.readouterr().err


def test_every_round_starts_elsewhere(script: Callable[[str], dict[str, Any]]) -> None:
    rotated = script("measuring.py")["rotated"]
    assert [rotated("abcdef", turn, 3) for turn in range(3)] == [list("abcdef"), list("cdefab"), list("efabcd")]


def test_on_paper_what_travels_beside_the_backward_pass_costs_nothing_but_its_last_bucket(
    script: Callable[[str], dict[str, Any]],
) -> None:
    names = script("estimate_scaling")
    bucket = names["BUCKET_BYTES"]

    def efficiency(step: float, *, latency: float = 0.0, norms_wait: bool = False, bandwidth: float = bucket) -> float:
        device = names["Device"](256, step, bandwidth, latency)
        share: float = names["efficiency"](names["Network"](2 * bucket, 5), device, 2, norms_wait=norms_wait)
        return share

    assert efficiency(3.0, bandwidth=math.inf) == 1
    assert efficiency(3.0) == 3 / (3 + 1)  # two buckets take 2 s, of which the backward pass hides one
    assert efficiency(0.3) == pytest.approx(0.3 / (0.3 + 2 - 0.2))  # which is too short for the other
    assert efficiency(3.0, latency=0.01, norms_wait=True) == pytest.approx(3 / (3 + 1.02 + 10 * 0.02))


def test_the_example_runs_amid_the_others(script: Callable[[str], dict[str, Any]]) -> None:
    names = script("time_to_accuracy")
    order = names["spread"]([("ours", seed) for seed in range(4)], [("theirs", 0)])
    assert order == [("ours", 0), ("ours", 1), ("theirs", 0), ("ours", 2), ("ours", 3)]
    assert [name for name, _ in names["spread"]([("o", 0)] * 4, [("t", 0), ("t", 1), ("t", 2)])] == list("otototo")


def test_accuracies_and_times_of_the_seeds_become_a_row(script: Callable[[str], dict[str, Any]]) -> None:
    names = script("time_to_accuracy")
    ours = [
        {"name": "fast", "accuracy": accuracy, "epochs": 2, "train_seconds": seconds, "whole_seconds": seconds + 4}
        for accuracy, seconds in ((0.99, 5.0), (0.992, 6.0), (0.988, 7.0))
    ]
    peer = {"name": names["EXAMPLE"], "accuracy": 0.991, "epochs": 3, "train_seconds": 60.0, "whole_seconds": 70.0}
    assert names["table"]([ours[0], peer, *ours[1:]], 0.99) == [
        ["fast", "99.00 % (98.80 to 99.20); 2 of 3 reach 99.0 %", "2", "6.0", "10.0", "10.0", "7.0"],
        ["PyTorch's example", "99.10 % (99.10 to 99.10); 1 of 1 reach 99.0 %", "3", "60.0", "70.0", "", ""],
    ]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells")
def test_the_work_of_this_process_and_its_children_is_not_taken_for_that_of_others(
    script: Callable[[str], dict[str, Any]],
) -> None:
    ticks = script("cpu_load.py")["_ticks_of_family"]
    before = ticks(os.getpid())
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"]
    with subprocess.Popen(busy, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()
        alive = ticks(os.getpid())
        child.stdin.write(b"\n")
    per_second = os.sysconf("SC_CLK_TCK")
    assert alive - before >= 0.25 * per_second
    assert ticks(os.getpid()) >= alive  # those that have ended count too
    assert script("cpu_load.py")["CpuLoad"]().others() >= 0


def test_networks_whose_settings_are_measured_can_be_built(script: Callable[[str], dict[str, Any]]) -> None:
    for _, model, *_ in script("bench_settings")["NETWORKS"]:
        parse_config(f"model: {model}\ndata: {{source: digits}}", "bench")


def test_configurations_that_are_measured_are_shipped(script: Callable[[str], dict[str, Any]]) -> None:
    assert set(script("bench_networks")["CONFIGS"]) <= set(shipped_configs())


def test_a_sweep_goes_both_ways_until_it_is_worse_and_measures_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    sweep = runpy.run_path(str(SCRIPTS / "sweep_lr"))
    tried: list[float] = []

    def train(config: str, settings: list[str], rate: float) -> dict[str, float]:
        tried.append(rate)
        accuracy = {0.05: 0.9, 0.0167: 0.88, 0.00557: 0.7, 0.15: 0.4}[rate]
        return {"val": accuracy, "test": accuracy}

    monkeypatch.setitem(sweep["main"].__globals__, "train", train)
    monkeypatch.setattr(sys, "argv", ["sweep_lr", "digits_lenet", "--json", str(tmp_path / "found.json")])
    assert sweep["main"]() == 0
    assert tried == [0.05, 0.0167, 0.00557, 0.15]
    assert "| 0.0167 | 88.0 | 88.0 |" in capsys.readouterr().out
    assert sweep["main"]() == 0
    assert len(tried) == 4


HOUSE = {
    "cnntrain/__init__.py": "",
    "cnntrain/config/section.py": "class Section: ...",
    "cnntrain/config/options.py": """
from typing import Self

from cnntrain.config.section import Section

class Sgd(Section):
    lr: float
    def build(self, parameters):
        return parameters

class Adam(Sgd):
    def build(self, parameters):
        return parameters

class Config(Section):
    optimizer: Sgd
    def pinned(self) -> Self:
        return self
""",
    "cnntrain/low.py": """
def half(rate):
    return rate / 2

def plain(number):
    return half(number)
""",
    "cnntrain/middle.py": """
from cnntrain.config.options import Config
from cnntrain.low import half

class Result:
    loss: float

class Keeper:
    def __init__(self, config: Config) -> None:
        self.config = config

    def rate(self) -> Result:
        return half(self.config.optimizer.lr)
""",
    "cnntrain/apart.py": "def never(number):\n    return number\n",
    "cnntrain/train.py": """
from cnntrain.apart import never
from cnntrain.config.options import Config
from cnntrain.low import plain
from cnntrain.middle import Keeper

def run(config: Config) -> None:
    config = config.pinned()
    parameters = config.optimizer.build([])
    never(parameters)
    with open(config.name) as file:
        keeper = Keeper(config)
    plain(config.optimizer.lr)
    result = keeper.rate()
    print(result.loss)
    if not config:
        raise never(config)
""",
    "tests/test_house.py": 'FLOORS = [{"config"}, {"low", "apart"}, {"middle"}, {"train"}]\n',
}


def test_the_way_of_config_and_the_types_that_a_reader_needs_are_counted(
    tmp_path: Path, script: Callable[[str], dict[str, Any]]
) -> None:
    for name, content in HOUSE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    house = script("house")
    numbers, names = house["figures"](tmp_path)
    # run, pinned, both kinds of build, Keeper, plain, half, rate; half was entered before, `never` gets no config
    assert house["way_of_config"](house["Package"](tmp_path)) == [
        f"cnntrain.{room}" for room in ("train", *3 * ["config.options"], "middle", "low", "low", "middle")
    ]
    assert numbers == {
        "names in cnntrain/": 5,
        "lines in cnntrain/": sum(len(HOUSE[name].splitlines()) for name in HOUSE if name.startswith("cnntrain")),
        "lines in tests/": 1,
        "functions": 9,
        "median function, lines": 2,
        "longest function, lines": 11,
        "files over 250 lines": 0,
        "types of ours that the loop file imports": 2,
        "types of ours that its functions need": 3,
        "rooms that import the type of a whole configuration": 2,
        "floors on which these stand": 2,
        "rooms that config, or what is read from it, enters": 4,
        "climbs of config": 2,
    }
    assert names["needed types"] == ["Config", "Keeper", "Result"]
    assert names["climbs"] == ["cnntrain.config.options -> cnntrain.middle", "cnntrain.low -> cnntrain.middle"]
    assert names["longest functions"][0] == "11 train: run"


def test_several_checkouts_stand_beside_each_other() -> None:
    command = [sys.executable, str(SCRIPTS / "house"), ".", str(SCRIPTS.parent)]
    finished = subprocess.run(command, cwd=SCRIPTS.parent, capture_output=True, text=True, check=True)
    rows = [line.strip("| ").split(" | ") for line in finished.stdout.splitlines() if line.startswith("| ")][2:]
    assert len(rows) == 13
    for title, here, again in rows:
        assert here == again, title
        assert float(here) > 0 or "files over" in title


def test_checkouts_differ_in_words_and_weights_but_not_in_times(
    script: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    names = script("comparing.py")

    def leave(
        folder: str, *, weight: float = 0.5, word: str = "best", seconds: float = 1.5, speed: str = "1,024"
    ) -> Any:
        run = tmp_path / folder / f"20260131-1200{len(folder):02}"
        run.mkdir(parents=True)
        save_file({"weight": torch.tensor([weight]), "bias": torch.zeros(2)}, run / "best.safetensors")
        (run / "metrics.jsonl").write_text(f'{{"loss": 0.25, "seconds": {seconds}}}\n')
        torch.save({"step": 3, "optimizer": {0: torch.ones(2)}, "seconds": seconds}, run / "step-00000003.pt")
        return names["folder_contents"](run.parent) | {"stderr": f"lr 0.1  {speed} images/s  data 3%  {word}\n"}

    def differing(**changes: Any) -> list[str]:
        after = leave("_".join(changes), **changes)
        return [name for name, _ in names["differences"](before, after)]

    before = leave("")
    assert differing(seconds=9.25, speed="17") == []
    assert differing(word="worst") == ["stderr"]
    assert differing(weight=0.5000001) == ["TIME/best.safetensors"]


def test_configurations_of_the_comparison_can_be_read(script: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    names = script("compared_trainings.py")
    compared = names["trainings"](SCRIPTS.parent)
    assert set(compared) == {*shipped_configs(), *names["EVERYTHING"]}
    for name, training in compared.items():
        (tmp_path / "my.yaml").write_text(training.text)
        config = name if name in shipped_configs() else str(tmp_path / "my.yaml")
        assert load_config(config, training.settings).config.recipe.epochs <= 5


def test_a_compared_training_is_stopped_at_the_step_that_was_asked_for(
    script: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    side = script("comparing.py")["Side"](SCRIPTS.parent, tmp_path / "work")
    folder = side.emptied("stopped")
    arguments = ["train", "digits_lenet", "--batch-size", "256", "--set", "run.tensorboard=false"]
    seen = side.run(*arguments, folder=folder, stop=(4, signal.SIGTERM))
    side.end()
    assert seen["exit code"] == "75", seen["stderr"]
    assert [path.name for path in folder.rglob("step-*.pt")] == ["step-00000004.pt"]


def test_the_quickstart_trains_evaluates_and_predicts_a_picture_that_it_writes(tmp_path: Path) -> None:
    root = tmp_path / "a checkout"
    for name, content in {
        "scripts/quickstart": (SCRIPTS / "quickstart").read_text(),
        "scripts/setup": "#!/usr/bin/env bash\n",  # everything is installed here
        "configs/digits_lenet.yaml": "model: lenet5\ndata: {source: digits}\nrecipe: {epochs: 1}\nrun: {report: false}\n",
        ".venv/bin/python": f'#!/usr/bin/env bash\nexec "{sys.executable}" "$@"\n',
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
        (root / name).chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS.parent)}
    command = ["bash", "scripts/quickstart"]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stderr
    titles = [line for line in finished.stdout.splitlines() if line.startswith("== ")]
    assert [line.split()[1:3] for line in titles[:3]] == [
        ["cnntrain", word] for word in ("train", "evaluate", "predict")
    ]
    assert (root / "runs" / "test_digit.png").is_file()
