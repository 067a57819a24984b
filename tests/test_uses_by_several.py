"""What uses a trained network, or trains one, says the same on several processes as on one, and says it once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from conftest import NO_REPORT, write_photos
from PIL import Image

from cnntrain.cli import main

NUM_IMAGES, BROKEN = 200, (5, 40, 130)
BAND = "expect={{accuracy: [{}, 1], basis: measured, note: From a test.}}"


class Done(NamedTuple):
    """What a command came to, process by process."""

    codes: list[int]
    out: list[str]
    err: list[str]


@pytest.fixture(scope="module")
def done(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """All commands, by name and number of processes."""
    out = tmp_path_factory.mktemp("several")
    quick = ["--epochs", "1", *NO_REPORT, "--set", "run.tensorboard=false", "--quiet"]
    photos = write_photos(out / "photos", {"train": 24})
    of_photos = ["image_folder_resnet18", "--set", f"data.root={photos}", "--set", "data.storage=stream"]
    of_photos += ["--set", "data.image_size=32", "--set", "recipe.batch_size=3", "--set", "model=lenet5"]
    assert main(["train", *of_photos, "--output", str(out / "streamed"), *quick]) == 0
    threads = ["--set", "run.threads=2", "--set", "model.activation=relu"]
    assert main(["train", "digits_lenet", "--output", str(out / "threads"), *threads, *quick]) == 0
    images = out / "images"
    images.mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (NUM_IMAGES, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(images / f"{number:03d}.png")
    for number in BROKEN:
        (images / f"{number:03d}.png").write_bytes(b"nothing")
    reproduce = ["reproduce", "digits_lenet", *quick, "--output", str(out / "runs"), "--set"]
    predict = ["predict", str(images), str(out / "gone.png"), "--run"]
    layers = "[{conv2d: 4}, batch_norm, relu, {max_pool2d: 4}, flatten, {dropout: 0.2}, {linear: 10}]"
    bench = ["bench", "digits_lenet", "--rounds", "1", "--set", f"model={{name: sequential, layers: {layers}}}"]
    streamed = ["evaluate", "--output", str(out / "streamed"), "--split", "train", "--json"]
    commands: dict[str, list[str]] = {
        **{f"evaluate {count}": ["evaluate", str(trained_run), "--split", "val", "--json"] for count in (1, 2, 3, 4)},
        **{f"streamed {count}": streamed for count in (1, 3)},
        **{f"threads {count}": [*predict, str(out / "threads"), "--json"] for count in (1, 2)},
        **{f"predict {count}": [*predict, str(trained_run)] for count in (1, 3)},
        "bench 2": [*bench, "--json"],
        "bench shards 2": [*bench, "--set", "recipe.shards=2", "--set", "recipe.micro_batch=16"],
        "missing 2": ["evaluate", str(out / "no run")],
        "library 2": [],
        "reproduce 2": [*reproduce, BAND.format(0)],
        "not reproduced 2": [*reproduce, BAND.format(1)],
    }
    work: list[dict[str, Any]] = [
        {
            "name": name,
            "processes": int(name.split()[-1]),
            "arguments": arguments,
            "run": str(out / "library"),
            "threads": 2 if name == "threads 1" else 1,  # torchrun gives one to each of several
            "cores": None if "threads" in name else 8,
        }
        for name, arguments in commands.items()
    ]
    subprocess.run(
        [sys.executable, str(Path(__file__).with_name("forked.py")), str(out)], input=json.dumps(work), text=True,
        timeout=300, check=True, env={**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"},
    )  # fmt: skip
    return {job["name"]: _read(out, job) for job in work}


def _read(out: Path, job: dict[str, Any]) -> Done:
    texts = [
        [(out / f"{job['name']}.{rank}.{kind}").read_text() for rank in range(job["processes"])]
        for kind in ("code", "out", "err")
    ]
    return Done([int(code) for code in texts[0]], texts[1], texts[2])


@pytest.mark.parametrize("name", ["evaluate", "streamed", "threads", "predict"])
def test_what_is_printed_is_the_same_to_the_last_digit_for_any_number_of_processes(
    done: dict[str, Done], name: str
) -> None:
    alone = done[f"{name} 1"]
    assert alone.out[0]
    for together in (outcome for key, outcome in done.items() if key.startswith(name)):
        assert together.codes == alone.codes * len(together.codes), together.err
        assert together.out[0] == alone.out[0]
        assert together.err[0] == alone.err[0]
        assert not any(together.out[1:] + together.err[1:])  # the first speaks


def test_every_image_is_predicted_once_and_those_that_cannot_be_read_are_named(done: dict[str, Done]) -> None:
    together = done["predict 3"]
    names = [Path(line).stem for line in together.out[0].splitlines() if line.endswith(".png")]
    assert names == [f"{number:03d}" for number in range(NUM_IMAGES) if number not in BROKEN]
    errors = [line for line in together.err[0].splitlines() if line.startswith("error: ")]
    assert [Path(line.split(": ")[1]).stem for line in errors[:-1]] == ["005", "040", "130", "gone"]
    assert errors[-1] == f"error: 4 of {NUM_IMAGES + 1} images could not be read"
    assert together.codes == [3, 3, 3]


def test_bench_measures_all_and_one_alone_and_what_telling_each_other_takes(done: dict[str, Done]) -> None:
    together, shards = done["bench 2"], done["bench shards 2"]
    assert together.codes == shards.codes == [0, 0], together.err + shards.err
    figures = json.loads(together.out[0])
    assert figures["num_processes"] == 2
    assert figures["one_process_rate"] > 0
    assert figures["one_process_all_cores_rate"] > 0
    assert 0 < figures["scaling_efficiency"] < 2
    assert 0 <= figures["communication_share"] < 1
    assert figures["first_step_seconds"] == 3
    assert "scaling efficiency" in shards.out[0]
    assert "communicating" in shards.out[0]
    assert not "".join([*together.out[1:], *together.err[1:], *shards.out[1:], *shards.err[1:]])


def test_a_run_that_is_not_there_is_said_once(done: dict[str, Done]) -> None:
    assert done["missing 2"].codes == [4, 4]
    assert done["missing 2"].err[0].count("no such run folder") == 1
    assert done["missing 2"].err[1] == ""


def test_the_library_gives_every_process_the_run_and_its_evaluation(done: dict[str, Done]) -> None:
    together = done["library 2"]
    assert together.codes == [0, 0], together.err
    first, second = (json.loads(text) for text in together.out)
    assert first == second
    results, evaluated, history = second
    assert evaluated["accuracy"] == results["val"]["accuracy"]
    assert results["epochs_run"] == len(history) == 1
    assert "evaluating" not in together.err[1]


def test_reproduce_trains_on_all_and_compares_once(done: dict[str, Done]) -> None:
    within, below = done["reproduce 2"], done["not reproduced 2"]
    assert within.codes == [0, 0], within.err
    assert within.out[0].count("\nreproduced: ") == 1
    assert not within.out[1] + within.err[1]
    assert below.codes == [8, 8]
    assert below.err[0].count("not reproduced: ") == below.err[0].count("the band: From a test.") == 1
    assert not below.out[1] + below.err[1]
