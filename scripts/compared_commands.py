"""What scripts/compare_checkouts asks of trained runs (--cross), and of the command line itself (--surface)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from compared_trainings import trainings
from comparing import Case, Side, Texts, folder_contents, within

# The runs that are made to be used, and after how many updates they stopped, where they are unfinished.
MADE = {
    "everything (skip)": None, "digits_lenet": None, "mnist_lenet_original": None, "mnist_fast": 10,
    "cifar10_sequential": 4, "cifar10_googlenet": None, "image_folder_transfer": None, "everything (rollback)": 30,
    "no validation": None, "no test, broken images": None,
}  # fmt: skip

# What is done with each of them, and with the first: {run} is its folder.
USES = [
    "evaluate {run} --json", "evaluate {run} --split val", "predict {images} --run {run} --json",
    "report {run} --robustness 20 --json", "export {run} --out x.onnx", "explain {image} --run {run} --json",
    "train --resume {run}", "train --resume {run} --epochs 6 --set run.report=false",
]  # fmt: skip
MORE_USES = [
    "evaluate {run} --split train --json", "evaluate {run}/checkpoints/best.safetensors",
    "predict {images} --run {run} --top 2", "report {run}", "runs", "runs --json", "train {run}/config.yaml",
    "export {run} --format torch-export --out x.pt2 --json", "export {run} --format safetensors --out x.safetensors",
    "explain {image} --run {run} --method integrated-gradients", "explain {image} --run {run} --method occlusion",
    "explain {image} --run {run} --layers", "train --resume {run} --epochs 7",
    "check {run}/config.yaml --show-config", "data check {run}/config.yaml --page page.html",
    "data preview {run}/config.yaml --images 16", "summary {run}/config.yaml",
    "train {run}/config.yaml --set model.weights={run}/checkpoints/best.safetensors --set run.report=false",
]  # fmt: skip

PAGES = ["/", "/info", "/health", "/nothing", "/predict", "/predict?top=2&map=1", "/predict?top=none"]

COMMANDS = [
    "train", "reproduce", "check", "bench", "lr-find", "evaluate", "predict", "report", "explain", "filter", "export",
    "serve", "models", "summary", "runs", "configs", "init", "schema", "help", "data", "data check", "data preview",
]  # fmt: skip
LISTS = [
    "", "--help", "schema", "configs", "models", "models --json", "--version", "help", "help train", "help data check",
    "data", "init digits_lenet my.yaml", "init cifar10_fast", "--show-completion bash", "runs", "runs --json",
]  # fmt: skip
LOOKS = [
    "check digits_lenet --show-config", "check mnist_fast", "check image_folder_resnet18 --set data.root=photos",
    "check image_folder_transfer --set data.root=photos --set model.weights={data}/resnet18.pth",
    "data check {data}/photos --page page.html", "data check {data}/broken --json", "data check {data}/cifar10-jpeg",
    "data preview digits_lenet --images 9 --epoch 2", "lr-find digits_lenet --budget 300 --json --set recipe.epochs=2",
    "lr-find mnist_fast --budget 0", "filter {image} --kernel sobel-x --kernel [[1,2],[3,4]] --colour --stride 2",
    "reproduce digits_lenet --epochs 2",
]  # fmt: skip

# A line of a faulty configuration each, put after `model: lenet5` and `data: {source: digits}`.
FAULTS = [
    "recipe: {epochs: 0}", "recipe: {epochs: 1.5}", "recipe: {optimizer: lion}", "recipe: {optimizer: {lr: -1}}",
    "recipe: {optimizer: {name: sgd, betas: [0.9, 0.99]}}", "recipe: {schedule: linear}", "recipe: {loss: hinge}",
    "recipe: {schedule: {name: multi_step, milestones: [3, 2]}}", "recipe: {schedule: multi_step}",
    "recipe: {averaging: {decay: 2}}", "recipe: {unfreeze: {epoch: 1}}", "recipe: {unfreeze: {epoch: 2}}",
    "recipe: {progressive_resizing: {initial_size: 16}}", "recipe: {progressive_resizing: {initial_size: 64}}",
    "recipe: {balance: class}", "recipe: {micro_batch: many}", "recipe: {precision: int8}", "recipe: []", "recipe:",
    "recipe: {early_stopping: {metric: f1}}", "run: {device: tpu}", "run: {name: ..}", "runs: {}", "expect: {}",
    "model: {name: resnet20, freeze: layer9}", "model: {name: resnet18, freeze: layer9}", "model: vgg",
    "model: {name: resnet20, weights: torchvision}", "model: {name: lenet5, weights: gone.pth}",
    "model: {name: googlenet, auxiliary: false, aux_weight: 0.5}", "model: {name: resnet18, stride_placement: v1}",
    "model: {name: resnet20, preactivation: true, zero_init: true}", "model: {name: sequential, layers: []}",
    "model: {name: sequential, layers: [linear, conv2d: 3]}", "model: {name: sequential, layers: [conv2d: {}]}",
    "model: {name: sequential, layers: [conv2d: {out_channels: 4, kernel_size: 99}, linear]}",
    "model: {name: lenet5, variant: original, activation: relu, pooling: average}", "model: {name: resnet9, width: 0}",
    "model: {name: alexnet, variant: paper}", "model: {name: googlenet}", "model: {name: resnet9, init: paper}",
    "data: {source: digits, image_size: 4}", "data: {source: digits, root: x}", "data: {source: imagenet}",
    "data: {source: image_folder}", "data: {source: digits, splits: {test: val}}", "data: {source: digits, mean: [1]}",
    "data: {source: digits, augment: [flip]}", "data: {source: digits, augment: [mixup, mixup]}",
    "data: {source: digits, augment: [random_crop, random_resized_crop]}", "data: {source: digits, channels: 2}",
    "data: {source: digits, augment: [{cutmix: {alpha: 0}}]}", "data: {source: digits, val_fraction: 0.9}",
    "data: {source: digits, augment: [{random_erasing: {scale: [0.5, 0.1]}}]}", "data: {source: mnist, root: gone}",
]  # fmt: skip

# What is broken of a trained run, and what is then asked of it.
BROKEN: dict[str, Callable[[Path], object]] = {
    "weights cut off": lambda run: cut(run / "checkpoints/best.safetensors"),
    "a weight changed": lambda run: flip(run / "checkpoints/best.safetensors"),
    "no weights": lambda run: remove(run / "checkpoints/best.safetensors"),
    "no configuration": lambda run: remove(run / "config.yaml"),
    "a faulty configuration": lambda run: (run / "config.yaml").write_text("model: lenet\n"),
    "other options": lambda run: (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("epochs: 2", "epochs: 3").replace("seed: 0", "seed: 1")
    ),
    "no results": lambda run: remove(run / "results.json"),
    "results cut off": lambda run: cut(run / "results.json"),
    "results of nothing": lambda run: (run / "results.json").write_text("{}"),
    "metrics cut off": lambda run: cut(run / "metrics.jsonl"),
    "signals of nothing": lambda run: (run / "signals.jsonl").write_text("[]\n"),
    "newest state cut off": lambda run: cut(max(run.glob("checkpoints/step-*.pt"))),
    "states cut off": lambda run: cut(*run.glob("checkpoints/step-*.pt")),
    "no states": lambda run: remove(*run.glob("checkpoints/step-*")),
}
ASKED = [
    "evaluate {run}", "predict {image} --run {run}", "report {run} --robustness 0", "runs", "train --resume {run}",
    "train --resume {run} --epochs 3 --set run.report=false", "export {run} --out x.onnx",
    "train digits_lenet --resume", "explain {image} --run {run}",
]  # fmt: skip


def cross_cases(maker: Side, keep: Path) -> Iterator[Case]:
    """Each use of each run."""
    runs = {}
    for name in MADE:
        try:
            runs[name] = made_run(maker, name, keep)
        except OSError as error:  # an older checkout does not know all options
            print(f"left out {error}", flush=True)
    for name, run in runs.items():
        for use in [*USES, *(MORE_USES if name == next(iter(MADE)) else [])]:
            yield Case(f"{name}: {use}", use_runs, (use, [run]))
        yield Case(f"{name}: serve", serve_run, (run, PAGES))
    finished = [run for name, run in runs.items() if MADE[name] is None]
    for pair in (finished[:2], finished[2:4]):
        yield Case("a page of two runs", use_runs, ("report {run} {second} --json", pair))


def surface_cases(maker: Side, keep: Path) -> Iterator[Case]:
    """Helps, lists, looks at data, and mistakes."""
    yield Case("helps", ask, ([f"{command} --help" for command in COMMANDS], None))
    yield Case("lists", ask, (LISTS, None))
    configs = sorted(path.stem for path in (maker.checkout / "configs").glob("*.yaml"))
    yield Case("summaries", ask, ([f"summary {name}{form}" for name in configs for form in ("", " --json")], None))
    for look in LOOKS:
        yield Case(look, ask, ([look], None))
    yield Case("faults of configurations", ask_faults, (FAULTS,))
    run = made_run(maker, "digits_lenet", keep)
    yield Case("mistakes of the tests", ask_mistakes, (write_mistakes(maker, keep), run))
    for name in BROKEN:
        yield Case(f"a run with {name}", ask, (ASKED, run, name))


def made_run(maker: Side, name: str, keep: Path) -> Path:
    """The run that a checkout makes, once; its last two folders are its place among runs."""
    made = keep / "made" / name
    if not made.exists():
        folder, stop, training = maker.emptied(name), MADE[name], trainings(maker.checkout)[name]
        (folder / "my.yaml").write_text(training.text)
        how = (stop, int(signal.SIGTERM)) if stop else None
        told = maker.run(*training.arguments(), folder=folder, stop=how, poison=training.poison)
        if told["exit code"] != ("75" if stop else "0"):
            raise OSError(f"{maker.checkout} could not train {name}: {told['stderr']}")
        shutil.copytree(folder / "runs", made, symlinks=True)
    [run] = made.glob("*/2*")
    return run


def write_mistakes(maker: Side, keep: Path) -> Path:
    """A folder for each mistake in a checkout's tests/test_errors.py, with its command line."""
    folder = keep / "mistakes"
    if not (folder / "all.json").exists():
        paths = os.pathsep.join([str(maker.checkout), str(maker.checkout / "tests")])
        command = [sys.executable, "-c", WRITE_MISTAKES, str(folder)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    return folder


WRITE_MISTAKES = """
import json, sys, pathlib, test_errors
root = pathlib.Path(sys.argv[1])
for number, mistake in enumerate(test_errors.MISTAKES):
    folder = root / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    mistake.prepare(folder)
told = [(str(number), mistake.name, mistake.arguments) for number, mistake in enumerate(test_errors.MISTAKES)]
(root / "all.json").write_text(json.dumps(told))
"""


def use_runs(side: Side, use: str, runs: list[Path]) -> Texts:
    """What a command says of copies of runs, and what it leaves."""
    folder = side.emptied("use")
    places = [copied(run, folder) for run in runs]
    return command(side, folder, use, *places) | folder_contents(folder)


def serve_run(side: Side, run: Path, pages: list[str]) -> Texts:
    """What the server of a run answers, and how it ends."""
    folder = side.emptied("serve")
    command = [sys.executable, "-m", "cnntrain", "serve", copied(run, folder), "--port", "0"]
    image = min((side.work.parent / "data/photos/val/ants").iterdir()).read_bytes()
    with subprocess.Popen(
        command, cwd=folder, env=side.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        address = server.stdout.readline().strip()  # none where there is no network yet
        texts = {page: answer(address + page, image if "predict" in page else None) for page in pages if address}
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate()
    texts |= {"stderr": err, "exit code": str(server.returncode)}
    return {name: text.replace(address or "ADDRESS", "ADDRESS") for name, text in texts.items()}


def answer(address: str, image: bytes | None) -> str:
    """The status and text of an answer; an image is sent as a browser sends it."""
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="x.jpg"\r\n\r\n'
    body = head + image + b"\r\n--x--\r\n" if image else None
    request = Request(address, body, {"Content-Type": "multipart/form-data; boundary=x"} if image else {})  # noqa: S310
    try:
        with urlopen(request) as answered:  # noqa: S310 - at an address of this machine
            return f"{answered.status} {answered.read().decode()}"
    except HTTPError as refused:
        return f"{refused.code} {refused.read().decode()}"


def copied(run: Path, folder: Path) -> str:
    """A copy's place, relative to the folder."""
    place = Path("runs", *run.parts[-2:])
    shutil.copytree(run, folder / place)
    return str(place)


def command(side: Side, folder: Path, line: str, run: str = "", second: str = "") -> Texts:
    """What one says; {image}, {images} and {data} are filled in."""
    data = "../../data"
    places = {"run": run, "second": second, "data": data, "image": f"{data}/photos/val/ants"}
    places["images"] = f"{data}/photos/val/bees {data}/cifar10-jpeg/test/cat"
    arguments = line.format(**places).split()
    more = ["--data-root", data] if needs_data(arguments) and not second else []
    return side.run(*arguments, *more, folder=folder)


def needs_data(arguments: list[str]) -> bool:
    """Whether a command takes --data-root; a plain folder of images does not."""
    takes = arguments[:1] and arguments[0] in ("train", "check", "evaluate", "report", "export", "lr-find", "reproduce")
    is_look = arguments[:1] == ["data"] and len(arguments) > 2 and "../data" not in arguments[2]
    return bool(takes or is_look) and "--help" not in arguments


def ask(side: Side, lines: list[str], run: Path | None, broken: str = "") -> Texts:
    """What commands say, each in a new folder."""
    texts: Texts = {}
    for line in lines:
        folder = side.emptied("ask")
        place = copied(run, folder) if run else ""
        if broken:
            BROKEN[broken](folder / place)
        texts |= within(line, command(side, folder, line, place) | folder_contents(folder))
    return texts


def ask_faults(side: Side, faults: list[str]) -> Texts:
    """What is said of faulty configurations."""
    texts: Texts = {}
    for fault in faults:
        folder = side.emptied("ask")
        sections = {"model": "model: lenet5", "data": "data: {source: digits}"}
        sections[fault.partition(":")[0]] = fault
        (folder / "my.yaml").write_text("\n".join(sections.values()) + "\n")
        texts |= within(fault, side.run("check", "my.yaml", folder=folder))
    return texts


def ask_mistakes(side: Side, mistakes: Path, run: Path) -> Texts:
    """What is said of the mistakes that the tests hold."""
    texts: Texts = {}
    for number, name, arguments in json.loads((mistakes / "all.json").read_text()):
        folder = side.emptied("ask")
        places = {"run": str(folder / copied(run, folder)), "tmp": str(folder / "tmp")}
        shutil.copytree(mistakes / number, folder / "tmp", symlinks=True)
        (folder / "work").mkdir()
        told = side.run(*(argument.format(**places) for argument in arguments), folder=folder / "work")
        left = "\n".join(str(path) for path in (folder / "work").rglob("*"))
        texts |= within(name, told | {"left behind": left})
    return texts


def cut(*paths: Path) -> object:
    """Leaves half of each file."""
    return [path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]) for path in paths]


def remove(*paths: Path) -> object:
    """Removes files."""
    return [path.unlink() for path in paths]  # type: ignore[func-returns-value]


def flip(path: Path) -> object:
    """Changes the last byte."""
    content = path.read_bytes()
    return path.write_bytes(content[:-1] + bytes([content[-1] ^ 64]))
