"""What people mean by commands and options that do not exist, or by half a command line."""

import difflib
import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any

import typer.core

from cnntrain.errors import ConfigError

# Other programs' names, and what they are called here.
_COMMANDS = {
    "classify": "predict", "infer": "predict", "inference": "predict", "test": "evaluate", "eval": "evaluate",
    "validate": "evaluate", "val": "evaluate", "fit": "train", "run": "train", "finetune": "train", "ls": "runs",
    "resume": "train --resume", "continue": "train --resume", "list": "runs", "history": "runs", "status": "runs",
    "compare": "report", "plot": "report", "lr_find": "lr-find", "lrfind": "lr-find", "find-lr": "lr-find",
    "benchmark": "bench", "onnx": "export", "convert": "export", "server": "serve", "gradcam": "explain",
    "grad-cam": "explain", "new": "init", "create": "init", "copy": "init", "config": "configs", "model": "models",
    "networks": "models", "version": "--version", "inspect": "data check", "preview": "data preview",
    "dataset": "data check", "datasets": "data check", "dry-run": "check",
}  # fmt: skip
_OPTIONS = {
    "--gpu": "--device cuda", "--gpus": "--device cuda", "--cuda": "--device cuda", "--cpu": "--device cpu",
    "--no-cuda": "--device cpu", "--mps": "--device mps", "--learning-rate": "--lr", "--learning_rate": "--lr",
    "--batch": "--batch-size", "--bs": "--batch-size", "--batch_size": "--batch-size",
    "--num-workers": "--workers", "--num_workers": "--workers", "--data": "--data-root",
    "--data-dir": "--data-root", "--data_root": "--data-root", "--dataset": "--data-root", "--root": "--data-root",
    "--out-dir": "--output", "--output-dir": "--output", "--outdir": "--output", "--num-epochs": "--epochs",
    "--max-epochs": "--epochs", "--random-seed": "--seed", "--topk": "--top", "--top-k": "--top",
    "--checkpoint": "--run", "--weights": "--run", "--silent": "--quiet",
}  # fmt: skip
# Options that are keys here, or arguments.
_SETTINGS = {
    "--device": "run.device=cuda", "--lr": "recipe.optimizer.lr=0.1", "--batch-size": "recipe.batch_size=64",
    "--workers": "data.num_workers=2", "--epochs": "recipe.epochs=5", "--seed": "run.seed=1",
    "--model": "model=resnet18", "--arch": "model=resnet18", "--network": "model=resnet18",
    "--optimizer": "recipe.optimizer=adamw", "--scheduler": "recipe.schedule=cosine",
    "--loss": "recipe.loss=cross_entropy",
    "--schedule": "recipe.schedule=cosine", "--image-size": "data.image_size=64", "--img-size": "data.image_size=64",
    "--weight-decay": "recipe.optimizer.weight_decay=5e-4", "--momentum": "recipe.optimizer.momentum=0.9",
    "--amp": "recipe.precision=bfloat16", "--precision": "recipe.precision=float32", "--compile": "run.compile=true",
    "--pretrained": "model.weights=torchvision", "--patience": "recipe.early_stopping.patience=10",
    "--val-split": "data.val_fraction=0.1", "--name": "run.name=my",
    "--threads": "run.threads=1", "--num-threads": "run.threads=1",
}  # fmt: skip
_ARGUMENTS = {"--config": "CONFIG", "-c": "CONFIG", "--run": "RUN", "--image": "IMAGE...", "--file": "IMAGE..."}


class Group(typer.core.TyperGroup):
    """Commands, of which one that is misspelt is answered with the one that is meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer's.

        Raises:
            ConfigError: There is no such command.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            names = self.list_commands(ctx)
            meant = _COMMANDS.get(name.lower()) if ctx.parent is None else None
            meant = meant or next(iter(difflib.get_close_matches(name.lower(), names, n=1)), None)
            hint = f"did you mean `{ctx.command_path} {meant}`?" if meant else f"there are {', '.join(names)}"
            raise ConfigError(f"there is no command {name!r}; {hint}{_is_a_config(name, meant)}")
        return super().resolve_command(ctx, args)


class Command(typer.core.TyperCommand):
    """A command, of which a wrong option or a missing argument is answered with what is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's.

        Raises:
            ConfigError: An option does not exist here, takes no value, or an argument is missing.
        """
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer's kinds, which have no public names
            answer = _ANSWERS.get(type(error).__name__)
            text = answer(self, ctx, error, given) if answer else None
            if text is None:
                raise
            raise ConfigError(text) from error


def _no_such_option(command: Command, ctx: Any, error: Any, _: list[str]) -> str:
    option = error.option_name.partition("=")[0]
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    meant = _OPTIONS.get(option, option)
    path, argument = ctx.command_path, _ARGUMENTS.get(meant, _ARGUMENTS.get(option))
    close = difflib.get_close_matches(option, sorted(own), n=1)
    if meant != option and meant.split()[0] in own:
        hint = f"here it is `{path} ... {meant}`"
    elif argument in {parameter.metavar for parameter in command.params} - {None}:
        hint = f"{argument} is an argument, without an option: {path} {argument}"
    elif "--set" in own and meant.split()[0] in _SETTINGS:
        hint = f"it is a key of the configuration: `{path} ... --set {_SETTINGS[meant.split()[0]]}`"
    elif close:
        hint = f"did you mean {close[0]}?"
    else:
        hint = f"`{path} --help` lists those that there are"
    return f"{path} has no option {option}; {hint}"


def _missing(command: Command, ctx: Any, error: Any, _: list[str]) -> str | None:
    if error.param is None:
        return None
    is_option = error.param.param_type_name == "option"
    what = error.param.opts[0] if is_option else error.param.metavar or error.param.name.upper()
    example = re.search(rf"^ *({re.escape(ctx.command_path)} .*)$", inspect.cleandoc(command.help or ""), re.MULTILINE)
    return f"{ctx.command_path} needs {what}" + (f", such as: {example[1]}" if example else "")


def _takes_no_value(_: Command, ctx: Any, error: Any, given: list[str]) -> str | None:
    if error.option_name != "--resume":
        return None
    value = next(text.partition("=")[2] for text in given if text.startswith("--resume="))
    return f"--resume is followed by the run, without =: {ctx.command_path} --resume {shlex.quote(value)}"


def _bad_value(_: Command, ctx: Any, error: Any, given: list[str]) -> str | None:
    """A value that is none of its kind, with the value."""
    if error.param is None or error.param.param_type_name != "option":
        return None
    why = error.message.partition(", unable")[0].removeprefix("Value error, ").rstrip(".")
    why = why.replace("Input should be", "must be")
    why = why.replace("a valid number", "a number").replace("a valid integer", "a whole number")
    for text, after in zip(given, [*given[1:], ""], strict=True):
        name, equals, value = text.partition("=")
        if name in error.param.opts:
            return f"{ctx.command_path}: {name} {shlex.quote(value if equals else after)}: {why}"
    return None


_ANSWERS: dict[str, Callable[[Command, Any, Any, list[str]], str | None]] = {
    "NoSuchOption": _no_such_option,
    "MissingParameter": _missing,
    "BadOptionUsage": _takes_no_value,
    "BadParameter": _bad_value,
}


def _is_a_config(name: str, meant: str | None) -> str:
    """What to add where somebody has left out the command."""
    if meant is None and name.endswith((".yaml", ".yml")):
        return f"; to train a configuration: cnntrain train {shlex.quote(name)}"
    return ""
