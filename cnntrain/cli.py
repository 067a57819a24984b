"""The commands: read arguments, call one function, print, choose the exit code.

What is heavy is imported inside the commands, so that `cnntrain --help` answers at once.
"""

import functools
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cnntrain import __version__
from cnntrain.errors import CnntrainError, ConfigError, DataError, Interrupted, StorageError

EPILOG = (
    "Exit codes: 0 done, 1 a bug, 2 usage or configuration, 3 data, 4 checkpoint, 5 device, 6 numerical, 7 storage, "
    "130 interrupted. --debug, anywhere, shows the traceback of a failure."
)
SMALLER = "lower recipe.micro_batch or recipe.batch_size, data.image_size or data.stored_size"

app = typer.Typer(
    help="Train convolutional image classifiers from a YAML file.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Command = TypeVar("Command", bound=Callable[..., None])

ConfigArgument = Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a shipped one.")]
RunArgument = Annotated[str | None, typer.Argument(metavar="[RUN]", help="Run folder or checkpoint file.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, such as recipe.epochs=5.")
]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
DataRootOption = Annotated[
    Path | None, typer.Option(help="Where data sets live.  [default: CNNTRAIN_DATA, else a cache folder]")
]
OutputOption = Annotated[Path, typer.Option(help="Folder of all runs.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors only.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on stdout and nothing else.")]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    try:
        try:
            app([argument for argument in arguments if argument != "--debug"], prog_name="cnntrain")
        except SystemExit as done:
            return done.code if isinstance(done.code, int) else 1
        finally:
            sys.stdout.flush()
    except (CnntrainError, OSError) as error:
        if debug:
            traceback.print_exc()
        print("\n".join([f"error: {error}", *getattr(error, "__notes__", [])]), file=sys.stderr)
        return error.exit_code if isinstance(error, CnntrainError) else StorageError.exit_code
    return 0


def _command(function: Command) -> Command:
    """Registers a command in which Ctrl-C is one of our own errors (typer's releases disagree about it)."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except KeyboardInterrupt as error:
            interrupted = Interrupted("interrupted")
            for note in getattr(error, "__notes__", []):
                interrupted.add_note(note)
            raise interrupted from None

    # The character \b asks Typer to keep the lines of the examples apart.
    text = (inspect.getdoc(function) or "").replace("Examples:", "\b\nExamples:")
    app.command(help=text, epilog=EPILOG)(wrapper)
    return function


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cnntrain {__version__}")
        raise typer.Exit


@app.callback()
def _cnntrain(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Train convolutional image classifiers from a YAML file."""


@_command
def train(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: Annotated[Path | None, typer.Option(help="Folder of all runs.  [default: runs]")] = None,
    name: Annotated[str | None, typer.Option(help="The run's folder in the output folder.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order, augmentation and dropout.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    quiet: QuietOption = False,
) -> None:
    """Train a network: the ten steps, from data preparation to the final test.

    Examples:
        cnntrain train digits_lenet
        cnntrain train my.yaml --epochs 5 --set recipe.optimizer.lr=0.1
        cnntrain train image_folder_resnet18 --data-root ~/photos --device cuda:1
    """
    flags = {
        "--device": ("run.device", device),
        "--data-root": ("run.data_root", data_root),
        "--output": ("run.output", output),
        "--name": ("run.name", name),
        "--seed": ("run.seed", seed),
        "--epochs": ("recipe.epochs", epochs),
    }
    from cnntrain.config import load_config, locate

    loaded = load_config(config, set_ or [], _assignments(flags))

    from cnntrain.records.console import Console, percent
    from cnntrain.runtime.device import memory_explained
    from cnntrain.train import run

    console = Console(quiet=quiet)
    console.say(f"configuration {loaded.document.label}")
    with locate(loaded), memory_explained(SMALLER):
        folder, results = run(loaded.config, console)
    test = results["test"]
    print(
        f"test accuracy {percent(test['accuracy'])}, loss {test['loss']:.4f} on {test['num_images']:,} images; "
        f"validation {percent(results['val']['accuracy'])} at epoch {results['best_epoch']} of {results['epochs_run']}"
    )
    print(f"run folder {folder}")
    console.say(f"look at it: tensorboard --logdir {folder.parent}\nuse it:     cnntrain predict IMAGE --run {folder}")


@_command
def evaluate(
    run: RunArgument = None,
    split: Annotated[str, typer.Option(help="test, val or train.")] = "test",
    as_json: JsonOption = False,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Measure a trained network on a split; without RUN, the newest run.

    Examples:
        cnntrain evaluate
        cnntrain evaluate runs/digits_lenet/20260131-120000 --split val
        cnntrain evaluate best.safetensors --data-root ~/data --json
    """
    if split not in ("train", "val", "test"):
        raise typer.BadParameter(f"{split!r} is no split (allowed: test, val, train)", param_hint="--split")

    from cnntrain.evaluate import evaluate_checkpoint
    from cnntrain.records.console import Console
    from cnntrain.records.files import to_json
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.records.tables import evaluation_text
    from cnntrain.runtime.device import memory_explained, resolve_device

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    console.say(f"evaluating {path} on {split}{unfinished(path)}")
    where = resolve_device(device or "auto")
    root = str(data_root) if data_root else None
    with memory_explained("close other programs, or use --device cpu"):
        summary = evaluate_checkpoint(path, split, device=where, data_root=root, progress=console.bars)
    if not summary["same_images_as_in_training"]:
        console.say(
            f"note: these are not the {split} images that the run recorded (their sha256 differs); "
            f"carved anew from changed files, they may include some that it was trained on"
        )
    print(to_json(summary) if as_json else evaluation_text(summary))


@_command
def predict(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Files, folders and globs.")],
    run: Annotated[str | None, typer.Option(help="Run folder or checkpoint file; the newest run by default.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    as_json: JsonOption = False,
    device: DeviceOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Classify images with a trained network; without --run, the newest run.

    Examples:
        cnntrain predict photo.jpg
        cnntrain predict photos/ 'more/*.png' --top 3 --json
        cnntrain predict photo.jpg --run runs/digits_lenet/20260131-120000
    """
    from cnntrain.predict import find_images
    from cnntrain.predict import predict as predict_files
    from cnntrain.records.checkpoints import load_network
    from cnntrain.records.console import Console
    from cnntrain.records.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import resolve_device
    from cnntrain.task import SingleLabel

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    where = resolve_device(device or "auto")
    model, header = load_network(path, where)
    console.say(f"predicting with {path}{unfinished(path)}")
    task = SingleLabel(header.class_names)
    if "" in images:
        raise ConfigError("an IMAGE is empty; is a variable of the shell not set?")
    files = list(find_images(images))
    failed, found = 0, []
    for outcome in predict_files(model, files, preprocessing=header.preprocessing, task=task, device=where, top=top):
        if isinstance(outcome, DataError):
            failed += 1
            print(f"error: {outcome}", file=sys.stderr)
        elif as_json:
            ranked = [{"class": name, "probability": share} for name, share in outcome.ranked]
            found.append({"image": outcome.image, "predictions": ranked})
        else:
            print(outcome.image)
            for name, share in outcome.ranked:
                print(f"  {100 * share:6.2f} %  {name}")
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    if failed:
        raise DataError(f"{failed} of {len(files)} images could not be read")


@_command
def check(
    config: ConfigArgument,
    set_: SetOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
) -> None:
    """Try a configuration on one batch, without training or writing anything.

    Examples:
        cnntrain check digits_lenet
        cnntrain check my.yaml --set recipe.batch_size=512
    """
    from cnntrain.config import load_config, locate

    flags = {
        "--device": ("run.device", device),
        "--data-root": ("run.data_root", data_root),
    }
    loaded = load_config(config, set_ or [], _assignments(flags))

    from cnntrain.check import check as check_config
    from cnntrain.records.console import Console
    from cnntrain.runtime.device import memory_explained

    with locate(loaded), memory_explained(SMALLER):
        print(check_config(loaded.config, Console(quiet=quiet)))


@_command
def configs() -> None:
    """List the shipped configurations."""
    from cnntrain.config.shipped import first_line, shipped_configs

    for name, path in shipped_configs().items():
        print(f"{name:<24}{first_line(path)}")


@_command
def init(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped configuration (see `cnntrain configs`).")],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Where to; NAME.yaml by default.")] = None,
) -> None:
    """Copy a shipped configuration to start from, with the schema for editors beside it.

    Examples:
        cnntrain init cifar10_lenet my.yaml
    """
    from cnntrain.config.shipped import copy_config

    written = copy_config(name, file)
    for path in written:
        print(f"wrote {path}")
    print(f"try it: cnntrain check {written[0]}")


@_command
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors that complete and check YAML."""
    from cnntrain.config import json_schema

    print(json_schema(), end="")


def _assignments(flags: dict[str, tuple[str, Any]]) -> list[tuple[str, str]]:
    """Flags as assignments to configuration keys, each with how to name it in messages."""
    return [
        (f"{key}={json.dumps(value if isinstance(value, int) else str(value), ensure_ascii=False)}", f"{flag} {value}")
        for flag, (key, value) in flags.items()
        if value is not None
    ]
