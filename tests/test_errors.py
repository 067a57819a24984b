"""Every mistake a user can make: one message, an exit code, no traceback, nothing left behind."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import Cli, write_photos
from PIL import Image
from safetensors.torch import save_file

from cnntrain.training.loop import train_step
from cnntrain.training.state import TrainingState


class Mistake(NamedTuple):
    name: str
    arguments: list[str]  # {tmp} is the test's folder, {run} a trained run
    code: int
    message: str
    prepare: Callable[[Path], object] = lambda tmp: None


def config(text: str) -> Callable[[Path], object]:
    return lambda tmp: (tmp / "my.yaml").write_text(text)


def picture(path: Path) -> object:
    return Image.new("L", (9, 9)).save(path)  # type: ignore[func-returns-value]


def link(path: Path, target: Path) -> object:
    return path.symlink_to(target)  # type: ignore[func-returns-value]


def empty(folder: Path) -> object:
    return folder.mkdir()  # type: ignore[func-returns-value]


DIGITS = "model: lenet5\ndata: {source: digits}\n"
FOLDER = "model: lenet5\ndata: {source: image_folder, root: photos, image_size: 16}\n"
TRAIN = ["train", "{tmp}/my.yaml"]
PHOTOS = [*TRAIN, "--data-root", "{tmp}"]

MISTAKES = [
    Mistake("no such config", ["train", "{tmp}/gone.yaml"], 2, "gone.yaml: no such file, and no shipped configuration"),
    Mistake("misspelt shipped config", ["train", "digit_lenet"], 2, "did you mean the shipped 'digits_lenet'?"),
    Mistake("unknown key", TRAIN, 2, "my.yaml:3: recipe.epoch: unknown key; did you mean 'epochs'?", config(DIGITS + "recipe: {epoch: 3}\n")),
    Mistake("wrong type", TRAIN, 2, "my.yaml:3: recipe.epochs: must be a whole number (got 'ten')", config(DIGITS + "recipe: {epochs: ten}\n")),
    Mistake("plateau without validation", ["check", "digits_lenet", "--set", "data.val_fraction=0", "--set", "recipe.schedule.name=reduce_on_plateau"], 2, "recipe.schedule: reduce_on_plateau watches validation, and there are no validation images (data.val_fraction: 0)"),
    Mistake("temperature without validation", ["check", "digits_lenet", "--set", "data.val_fraction=0", "--set", "recipe.temperature_scaling=true"], 2, "recipe.temperature_scaling: a temperature is fitted on validation, and there are no validation images"),
    Mistake("negative fraction", ["check", "digits_lenet", "--set", "data.test_fraction=-0.1"], 2, "data.test_fraction: must be at least 0 (got -0.1)"),
    Mistake("unknown grouping of copies", ["check", "digits_lenet", "--set", "data.group_copies=all"], 2, "data.group_copies"),
    Mistake("images with copies alone", PHOTOS, 3, "none is left for test when each class keeps one for training and copies stay together", lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"": 5}), [shutil.copy(tmp / "photos/red/ 00.png", path) for path in (tmp / "photos").rglob("*.png") if path.name != " 00.png" or path.parent.name != "red"])),
    Mistake("unknown model", TRAIN, 2, "my.yaml:1: model.name: unknown name; did you mean 'lenet5'?", config("model: {name: lenet}\ndata: {source: digits}\n")),
    Mistake("batch norm over one image", [*TRAIN, "--set", "recipe.batch_size=1"], 2, "--set recipe.batch_size=1: recipe.batch_size: resnet20 has batch norm, which needs at least 2 images", config(DIGITS.replace("lenet5", "resnet20"))),
    Mistake("a loss that explodes at once", ["train", "digits_lenet", "--epochs", "1", "--set", "recipe.optimizer.lr=1e30", "--set", "recipe.schedule=constant", "--set", "recipe.batch_size=5000"], 6, "the validation loss after epoch 1 is nan"),
    Mistake("link to nothing among the images", PHOTOS, 3, "red/x.png: cannot be read: No such file", lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"train": 5}), link(tmp / "photos/train/red/x.png", tmp / "gone"))),
    Mistake("odd device", ["evaluate", "{run}", "--device", "cpu:x"], 5, "unknown device 'cpu:x' (allowed: auto, cpu, cuda, cuda:N, mps)"),
    Mistake("odd GPU", ["evaluate", "{run}", "--device", "cuda:x"], 5, "unknown device 'cuda:x'"),
    Mistake("output linked to nothing", ["train", "digits_lenet", "--epochs", "1", "--output", "{tmp}/link"], 7, "cannot be made: File exists", lambda tmp: (tmp / "link").symlink_to(tmp / "gone")),
    Mistake("nothing to compare with", ["reproduce", "{tmp}/my.yaml"], 2, "my.yaml: there is no `expect` to compare with; add what one run should reach", config(DIGITS)),
    Mistake("band in percent", ["reproduce", "{tmp}/my.yaml"], 2, "my.yaml:3: expect.accuracy.0: must be at most 1 (got 98.6)", config(DIGITS + "expect: {accuracy: [98.6, 99.6], basis: measured}\n")),
    Mistake("band the wrong way round", TRAIN, 2, "my.yaml:3: expect: accuracy goes from small to large (got [0.99, 0.98])", config(DIGITS + "expect: {accuracy: [0.99, 0.98], basis: measured}\n")),
    Mistake("band of unknown origin", TRAIN, 2, "my.yaml:3: expect.basis: is missing", config(DIGITS + "expect: {accuracy: [0.98, 0.99]}\n")),
    Mistake("a control character", TRAIN, 2, "my.yaml:2: not valid YAML: a character that is not allowed, 0x2", config("model: lenet5\ndata: \x02\n")),
    Mistake("no images at once", TRAIN, 2, "my.yaml:3: recipe.micro_batch: must be a whole number above 0, or auto (got 0)", config(DIGITS + "recipe: {micro_batch: 0}\n")),
    Mistake("neither a run nor a configuration", ["train", "--resume", "gone"], 2, "gone: no such file, and no shipped configuration"),
    Mistake("an unknown policy", TRAIN, 2, "my.yaml:3: recipe.on_nonfinite: must be", config(DIGITS + "recipe: {on_nonfinite: ignore}\n")),
    Mistake("no YAML", TRAIN, 2, "my.yaml:2: not valid YAML", config("model: [\n}")),
    Mistake("image too small for the network", TRAIN, 2, "my.yaml:2: data.image_size: LeNet-5 with padding 0 needs images of at least 16 px (got 8)", config("model: lenet5\ndata: {source: digits, image_size: 8}\n")),
    Mistake("flag of the wrong type", ["train", "digits_lenet", "--epochs", "x"], 2, "error: cnntrain train: --epochs x: must be a whole number"),
    Mistake("a word for a rate", ["train", "digits_lenet", "--lr=fast"], 2, "error: cnntrain train: --lr fast: must be a number"),
    Mistake("threads as an option", ["train", "digits_lenet", "--threads", "2"], 2, "`cnntrain train ... --set run.threads=1`"),
    Mistake("flag out of range", ["train", "digits_lenet", "--epochs", "0"], 2, "--epochs 0: recipe.epochs: must be above 0 (got 0)"),
    Mistake("wrong --set", ["train", "digits_lenet", "--set", "recipe.epohcs=3"], 2, "--set recipe.epohcs=3: recipe.epohcs: unknown key; did you mean 'epochs'?"),
    Mistake("unknown option", ["train", "digits_lenet", "--epoch", "3"], 2, "--epoch"),
    Mistake("unknown command", ["trian"], 2, "trian"),
    Mistake("unknown split", ["evaluate", "{run}", "--split", "tset"], 2, "'tset' is no split (allowed: test, val, train)"),
    Mistake("run name that is a path", ["train", "digits_lenet", "--name", "a/b"], 2, "--name a/b: run.name: 'a/b' cannot name a folder of runs"),
    Mistake("run name that is reserved", ["train", "digits_lenet", "--name", "latest"], 2, "--name latest: run.name: 'latest' cannot name a folder of runs"),
    Mistake("run name that is too long", ["train", "digits_lenet", "--name", "x" * 300], 2, "cannot name a folder of runs"),
    Mistake("other optimizer over the file's options", ["train", "digits_lenet", "--set", "recipe.optimizer.name=adam"], 2, "--set recipe.optimizer=NAME replaces the whole part"),
    Mistake("key in the wrong section", ["train", "digits_lenet", "--set", "epochs=3"], 2, "--set epochs=3: epochs: unknown key; did you mean recipe.epochs?"),
    Mistake("rule between keys broken by a flag", ["train", "digits_lenet", "--set", "data.stored_size=8"], 2, "--set data.stored_size=8: data: stored_size must be at least image_size"),
    Mistake("empty image name", ["predict", "", "--run", "{run}"], 2, "an IMAGE is empty"),
    Mistake("loose images", PHOTOS, 3, "holds images but no class folders", lambda tmp: (config(FOLDER)(tmp), empty(tmp / "photos"), picture(tmp / "photos/x.png"))),
    Mistake("init over a file", ["init", "digits_lenet", "{tmp}/my.yaml"], 2, "my.yaml exists already and is left as it is", config(DIGITS)),
    Mistake("init of nothing", ["init", "digit_lenet"], 2, "did you mean 'digits_lenet'?"),
    Mistake("init into no folder", ["init", "digits_lenet", "{tmp}/no/my.yaml"], 7, "cannot be written: No such file or directory"),
    Mistake("no folder of images", PHOTOS, 3, "photos: no such folder", config(FOLDER)),
    Mistake("empty folder", PHOTOS, 3, "photos is empty", lambda tmp: config(FOLDER)(tmp) and empty(tmp / "photos")),
    Mistake("one class only", PHOTOS, 3, "has one class only (\"cat\")", lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"train": 3}, ("cat",)))),
    Mistake("a format that is not read", ["predict", "{tmp}/x.jxl", "--run", "{run}"], 3, "x.jxl: a JPEG XL image, which is not read; convert it to JPEG or PNG", lambda tmp: (tmp / "x.jxl").write_bytes(b"\xff\x0a" + bytes(40))),
    Mistake("two folders for val", PHOTOS, 3, '"val", "valid", each of which may be meant for val; say which with data.splits', lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"train": 5, "val": 3, "valid": 3}))),
    Mistake("empty class folder where it should stop", [*PHOTOS, "--set", "data.on_error=stop"], 3, 'no images of "cat" in', lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"train": 5}), empty(tmp / "photos/train/cat"))),
    Mistake("broken image", PHOTOS, 3, "x.png: not an image", lambda tmp: (config(FOLDER)(tmp), write_photos(tmp / "photos", {"train": 5}), (tmp / "photos/train/red/x.png").write_text("x"))),
    Mistake("data missing offline", ["train", "cifar10_lenet", "--data-root", "{tmp}"], 3, "cifar10 is not in"),
    Mistake("image unreadable", ["predict", "{tmp}/x.png", "--run", "{run}"], 3, "x.png: not an image", lambda tmp: (tmp / "x.png").write_text("x")),
    Mistake("image missing", ["predict", "{tmp}/gone.png", "--run", "{run}"], 3, "gone.png: cannot be read: No such file or directory"),
    Mistake("folder without images", ["predict", "{tmp}", "--run", "{run}"], 3, "no images in this folder"),
    Mistake("no run yet", ["evaluate", "--output", "{tmp}/runs"], 4, "no trained run in"),
    Mistake("no run yet to predict with", ["predict", "x.png", "--output", "{tmp}/runs"], 4, "no trained run in"),
    Mistake("checkpoint missing", ["evaluate", "{tmp}/gone.safetensors"], 4, "gone.safetensors: no such run folder or checkpoint file"),
    Mistake("folder without a run", ["evaluate", "{tmp}"], 4, "holds no trained run"),
    Mistake("no checkpoint", ["evaluate", "{tmp}/my.txt"], 4, "my.txt: not a checkpoint of cnntrain or another file of weights, or damaged", lambda tmp: (tmp / "my.txt").write_text("hello")),
    Mistake("foreign safetensors", ["evaluate", "{tmp}/x.safetensors"], 4, "not one that cnntrain wrote; model.weights takes it", lambda tmp: save_file({"a": torch.zeros(1)}, tmp / "x.safetensors")),
    Mistake("foreign pickle", ["evaluate", "{tmp}/x.pt"], 4, "x.pt: holds no state dict", lambda tmp: torch.save({"a": 1}, tmp / "x.pt")),
    Mistake("no CUDA here", ["train", "digits_lenet", "--device", "cuda"], 5, "device 'cuda' is not available"),
    Mistake("no CUDA to evaluate on", ["evaluate", "{run}", "--device", "cuda:3"], 5, "device 'cuda:3' is not available"),
    Mistake("unknown device to predict on", ["predict", "x", "--run", "{run}", "--device", "gpu"], 5, "unknown device 'gpu' (allowed: auto, cpu, cuda, cuda:N, mps)"),
    Mistake("output that is a file", ["train", "digits_lenet", "--output", "{tmp}/my.yaml"], 7, "my.yaml is a file; say where with --output", config(DIGITS)),
    Mistake("export of no run", ["export", "--output", "{tmp}/runs"], 4, "no trained run in"),
    Mistake("export as something else", ["export", "{run}", "--format", "tflite"], 2, "'tflite' is not one of 'onnx', 'torch-export', 'safetensors'"),
    Mistake("export under a name of another format", ["export", "{run}", "--out", "{tmp}/x.pt"], 2, "x.pt: files of --format onnx end in .onnx"),
    Mistake("export over a file", ["export", "{run}", "--out", "{tmp}/x.onnx"], 2, "x.onnx exists already and is left as it is; --overwrite replaces it", lambda tmp: (tmp / "x.onnx").write_text("mine")),
    Mistake("export over a description", ["export", "{run}", "--out", "{tmp}/x.onnx"], 2, "x.onnx.json exists already", lambda tmp: (tmp / "x.onnx.json").write_text("mine")),
    Mistake("export into a file", ["export", "{run}", "--format", "safetensors", "--out", "{tmp}/my.yaml/x.safetensors"], 7, "my.yaml cannot be made: ", config(DIGITS)),
    Mistake("export compared on no image", ["export", "{run}", "--images", "{tmp}"], 3, "no images in this folder"),
    Mistake("export compared on a broken image", ["export", "{run}", "--images", "{tmp}/x.png"], 3, "x.png: not an image", lambda tmp: (tmp / "x.png").write_text("x")),
    Mistake("export compared on nothing", ["export", "{run}", "--images", ""], 2, "--images is empty"),
    Mistake("no run yet to serve", ["serve", "--output", "{tmp}/runs", "--port", "0"], 4, "no trained run in"),
    Mistake("serving at a foreign address", ["serve", "{run}", "--host", "198.51.100.7", "--port", "0"], 2, "--host 198.51.100.7 --port 0: this machine does not have this address; --host 127.0.0.1"),
    Mistake("serving at no address", ["serve", "{run}", "--host", "1.2.3.4.5.x y", "--port", "0"], 2, "no such name or address"),
    Mistake("serving at an empty address", ["serve", "{run}", "--host", ""], 2, "--host is empty"),
    Mistake("serving at a port that cannot be", ["serve", "{run}", "--port", "65536"], 2, "error: cnntrain serve: --port 65536: must be less than or equal to 65535"),
    Mistake("serving something else", ["serve", "{tmp}/my.yaml", "--port", "0"], 4, "my.yaml is a configuration, not a run", config(DIGITS)),
    Mistake("report of no run", ["report", "--output", "{tmp}/runs"], 4, "no trained run in"),
    Mistake("report of something else", ["report", "{tmp}/my.txt"], 4, "my.txt holds no finished run (it has no results.json); name the folder", lambda tmp: (tmp / "my.txt").write_text("hello")),
    Mistake("report of one run twice", ["report", "{run}", "{run}"], 2, "a run is named twice"),
    Mistake("report of negative robustness", ["report", "{run}", "--robustness", "-1"], 2, "error: cnntrain report: --robustness -1: must be greater than or equal to 0"),
    Mistake("report into no folder", ["report", "{run}", "--robustness", "0", "--out", "{tmp}/gone/x.html"], 7, "gone: no such folder"),
    Mistake("unknown class to explain", ["explain", "x.png", "--run", "{run}", "--class", "11"], 2, "--class 11: the network knows no such class; did you mean '1'? (allowed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"),
    Mistake("unknown method to explain by", ["explain", "x.png", "--run", "{run}", "--method", "lime"], 2, "'lime' is no method (allowed: grad-cam, integrated-gradients, occlusion)"),
    Mistake("layers of a class", ["explain", "x.png", "--run", "{run}", "--layers", "--class", "1"], 2, "--layers shows the whole network and no class"),
    Mistake("image to explain missing", ["explain", "{tmp}/gone.png", "--run", "{run}"], 3, "gone.png: cannot be read: No such file or directory"),
    Mistake("explanations into a file", ["explain", "x.png", "--run", "{run}", "--out", "{tmp}/my.yaml"], 7, "my.yaml is a file; say where with --out", config(DIGITS)),
    Mistake("one picture for two images", ["explain", "x.png", "y.png", "--run", "{run}", "--out", "z.png"], 2, "--out z.png is one picture, and there are 2 images; name a folder"),
    Mistake("picture over a file of the user's", ["filter", "{tmp}/x.png", "--kernel", "blur", "--out", "{tmp}/x.png"], 2, "x.png exists already and is left as it is", lambda tmp: picture(tmp / "x.png")),
    Mistake("misspelt kernel", ["filter", "x.png", "--kernel", "sobelx"], 2, "--kernel sobelx: no such kernel; did you mean 'sobel-x'? (allowed: identity, blur,"),
    Mistake("kernel without quotes", ["filter", "x.png", "--kernel", "[[1,", "2],", "[3,", "4]]"], 2, "--kernel [[1,: this is no list of rows of numbers"),
    Mistake("kernel that is ragged", ["filter", "x.png", "--kernel", "[[1, 2], [3]]"], 2, "all rows must be equally long; these have 1 to 2 numbers"),
    Mistake("kernel that is empty", ["filter", "x.png", "--kernel", "[[]]"], 2, "a kernel is a list of rows, and each row a list of at least one number"),
    Mistake("kernel that is one row", ["filter", "x.png", "--kernel", "[1, 2]"], 2, "a kernel is a list of rows"),
    Mistake("kernel that is too deep", ["filter", "x.png", "--kernel", "[[[1]]]"], 2, "[1] is no number"),
    Mistake("kernel that is very deep", ["filter", "x.png", "--kernel", "[" * 100_000], 2, "this is no list of rows of numbers"),
    Mistake("kernel with NaN", ["filter", "x.png", "--kernel", "[[1, NaN]]"], 2, "its numbers must be finite"),
    Mistake("kernel with a huge number", ["filter", "x.png", "--kernel", "[[1" + "0" * 400 + "]]"], 2, "its numbers must be finite, and between -1000000 and 1000000"),
    Mistake("kernel of words", ["filter", "x.png", "--kernel", '[["a"]]'], 2, '"a" is no number'),
    Mistake("kernel that is too large", ["filter", "x.png", "--kernel", str([[0] * 32])], 2, "it has 1 x 32 numbers, and 31 x 31 is the largest"),
    Mistake("kernel larger than the image", ["filter", "{tmp}/x.png", "--kernel", str([[1] * 11]), "--padding", "none"], 3, "needs an image of at least 1 x 11 px (height x width), and this one has 9 x 9", lambda tmp: picture(tmp / "x.png")),
    Mistake("unknown padding", ["filter", "x.png", "--kernel", "blur", "--padding", "same"], 2, "'same' is no padding (allowed: zero, reflect, none)"),
    Mistake("image to filter unreadable", ["filter", "{tmp}/x.png", "--kernel", "blur"], 3, "x.png: not an image", lambda tmp: (tmp / "x.png").write_text("x")),
    Mistake("a range of rates the wrong way round", ["lr-find", "digits_lenet", "--min", "1", "--max", "0.1"], 2, "--min must be above 0 and below --max (got --min 1, --max 0.1)"),
    Mistake("a range of rates from zero", ["lr-find", "digits_lenet", "--min", "0"], 2, "--min must be above 0 and below --max (got --min 0, --max 10)"),
    Mistake("a range test of few steps", ["lr-find", "digits_lenet", "--steps", "3"], 2, "error: cnntrain lr-find: --steps 3: must be greater than or equal to 20"),
    Mistake("a plot of an odd kind", ["lr-find", "digits_lenet", "--out", "{tmp}/x.gif"], 2, "x.gif: a plot ends with .png, .svg, .pdf"),
    Mistake("a plot over a picture", ["lr-find", "digits_lenet", "--out", "{tmp}/x.png"], 2, "x.png exists already, is no plot of lr-find, and is left as it is; say where with --out", lambda tmp: picture(tmp / "x.png")),
    Mistake("a plot into no folder", ["lr-find", "digits_lenet", "--out", "{tmp}/no/x.png"], 7, "no/x.png cannot be written: "),
    Mistake("a range test of an unknown configuration", ["lr-find", "digit_lenet"], 2, "did you mean the shipped 'digits_lenet'?"),
    Mistake("neither a folder nor a configuration to look at", ["data", "check", "gone"], 2, "there is no folder gone, and no configuration"),
    Mistake("overrides of a plain folder", ["data", "check", "{tmp}", "--set", "data.val_fraction=0.2"], 2, "is a folder; --set and --data-root go with a CONFIG"),
    Mistake("a page that is no page", ["data", "check", "{tmp}", "--page", "{tmp}/x.jpg"], 2, "x.jpg: name an .html file in a folder that exists"),
    Mistake("a page in no folder", ["data", "check", "{tmp}", "--page", "{tmp}/gone/x.html"], 2, "x.html: name an .html file in a folder that exists"),
    Mistake("no images to look at where the configuration says", ["data", "check", "{tmp}/my.yaml", "--data-root", "{tmp}"], 3, "photos: no such folder", config(FOLDER)),
    Mistake("a preview of a later epoch", ["data", "preview", "digits_lenet", "--epoch", "999"], 2, "there is no epoch 999: recipe.epochs is 60"),
    Mistake("a preview that is no PNG", ["data", "preview", "digits_lenet", "--out", "{tmp}/x.jpg"], 2, "x.jpg: the preview is a PNG"),
    Mistake("a preview over a photo", ["data", "preview", "digits_lenet", "--out", "{tmp}/x.png"], 2, "x.png exists and is no preview of ours", lambda tmp: picture(tmp / "x.png")),
    Mistake("an unknown command of data", ["data", "chekc"], 2, "chekc"),
    Mistake("check of a folder that is not there", ["data", "check", "{tmp}/phtos"], 2, "there is no folder"),
    Mistake("an index of thousands of digits", ["train", "digits_lenet", "--set", "data.augment." + "9" * 4400 + "=1"], 2, "(got '999"),
    Mistake("a huge index", ["train", "digits_lenet", "--set", "data.augment=[mixup]", "--set", "data.augment.1000000000.alpha=1"], 2, "data.augment is a list with items 0 to 0 (got '1000000000')"),
    Mistake("a negative index", ["train", "digits_lenet", "--set", "data.augment=[mixup]", "--set", "data.augment.-1=cutmix"], 2, "data.augment is a list with items 0 to 0 (got '-1')"),
    Mistake("an index of no item", ["train", "digits_lenet", "--set", "data.augment=[]", "--set", "data.augment.0=mixup"], 2, "data.augment is an empty list (got '0')"),
    Mistake("a whole number of thousands of digits", ["train", "digits_lenet", "--set", "recipe.epochs=" + "9" * 4400], 2, "recipe.epochs: a whole number of 4,400 digits is too large (at most 9,223,372,036,854,775,807)"),
    Mistake("a whole number that is too large", TRAIN, 2, "my.yaml:3: run.seed: 9,999,999,999,999,999,999 is too large for a whole number", config(DIGITS + "run: {seed: 9999999999999999999}\n")),
    Mistake("a large number among numbers", ["train", "digits_lenet", "--set", "data.mean=[" + "1" * 500 + "]"], 2, "data.mean.0: a whole number of 500 digits is too large"),
    Mistake("a key of many parts", ["train", "digits_lenet", "--set", "data." + ".".join("a" * 3000) + "=1"], 2, "nested too deeply (at most 40 levels)"),
    Mistake("a value of many levels", ["train", "digits_lenet", "--set", "data.augment=" + "[" * 50 + "]" * 50], 2, "too deep or too large (at most 40 levels"),
    Mistake("a null character", ["train", "digits_lenet", "--set", 'run.output="a\\0b"'], 2, "run.output: a character that no file and no name can hold (got \\x00)"),
    Mistake("half a character", TRAIN, 2, "my.yaml:3: run.data_root: a character that no file and no name can hold (got \\ud800)", config(DIGITS + 'run: {data_root: "\\ud800"}\n')),
    Mistake("std that checkpoints do not hold", ["train", "digits_lenet", "--set", "data.mean=[0.5]", "--set", "data.std=[5e-5]"], 2, "mean and std are of images in [0, 1], std at least 0.0001 (got (0.5,) and (5e-05,))"),
    Mistake("images that checkpoints do not hold", ["train", "digits_lenet", "--set", "data.image_size=10001"], 2, "data.image_size: must be at most 10000 (got 10001)"),
    Mistake("no threads", TRAIN, 2, "my.yaml:3: run.threads: must be above 0 (got 0)", config(DIGITS + "run: {threads: 0}\n")),
    Mistake("more threads than can be", ["train", "digits_lenet", "--set", "run.threads=100000"], 2, "run.threads: must be at most 1024 (got 100000)"),
    Mistake("a command that is misspelt", ["trian", "digits_lenet"], 2, "there is no command 'trian'; did you mean `cnntrain train`?"),
    Mistake("a command of other programs", ["eval"], 2, "did you mean `cnntrain evaluate`?"),
    Mistake("no command at all", ["my.yaml"], 2, "to train a configuration: cnntrain train my.yaml"),
    Mistake("help for a command that is misspelt", ["help", "evalute"], 2, "did you mean `cnntrain evaluate`?"),
    Mistake("a GPU as other programs have it", ["train", "digits_lenet", "--gpu", "0"], 2, "cnntrain train has no option --gpu; here it is `cnntrain train ... --device cuda`"),
    Mistake("a GPU with =", ["evaluate", "--gpu=0"], 2, "here it is `cnntrain evaluate ... --device cuda`"),
    Mistake("an option that is misspelt", ["train", "digits_lenet", "--epohcs", "3"], 2, "cnntrain train has no option --epohcs; did you mean --epochs?"),
    Mistake("an option that is a key", ["train", "digits_lenet", "--optimizer", "adam"], 2, "`cnntrain train ... --set recipe.optimizer=adamw`"),
    Mistake("an option that is an argument", ["train", "--config", "my.yaml"], 2, "CONFIG is an argument, without an option: cnntrain train CONFIG"),
    Mistake("a run as an option", ["evaluate", "--checkpoint", "x"], 2, "RUN is an argument, without an option: cnntrain evaluate RUN"),
    Mistake("predict without an image", ["predict"], 2, "cnntrain predict needs IMAGE..., such as: cnntrain predict photo.jpg"),
    Mistake("filter without a kernel", ["filter", "x.png"], 2, "cnntrain filter needs --kernel, such as: cnntrain filter photo.jpg --kernel sobel-x"),
    Mistake("resume with =", ["train", "--resume=runs/x"], 2, "--resume is followed by the run, without =: cnntrain train --resume runs/x"),
    Mistake("a batch of nothing", ["train", "digits_lenet", "--batch-size", "0"], 2, "--batch-size 0: recipe.batch_size: must be above 0"),
    Mistake("a rate that is none", ["check", "digits_lenet", "--lr", "-1"], 2, "--lr -1.0: recipe.optimizer.lr: must be above 0"),
    Mistake("fewer workers than none", ["train", "digits_lenet", "--workers", "-1"], 2, "--workers -1: data.num_workers: must be at least 0"),
    Mistake("a folder of images to train on", ["train", "{tmp}/photos"], 2, "cnntrain train image_folder_resnet18 --set data.root={tmp}/photos", lambda tmp: write_photos(tmp / "photos", {"train": 1})),
    Mistake("a run to train", ["train", "{run}"], 2, "is the folder of a run, not a configuration; to go on with it: cnntrain train --resume {run}"),
    Mistake("a folder of runs to train", ["train", "{run}/../.."], 2, "cnntrain train --resume {run}/../.."),
    Mistake("a folder with a configuration in it", ["check", "{tmp}"], 2, "did you mean the configuration '{tmp}/my.yaml' in it?", config("")),
    Mistake("the other end of .yaml", ["train", "{tmp}/my.yml"], 2, "did you mean '{tmp}/my.yaml'?", config("")),
    Mistake("no end of .yaml", ["train", "{tmp}/my"], 2, "did you mean '{tmp}/my.yaml'?", config("")),
    Mistake("weights to train", ["train", "{run}/checkpoints/best.safetensors"], 2, "holds weights and is no configuration; to start from them: `--set model.weights="),
    Mistake("evaluating a configuration", ["evaluate", "{tmp}/my.yaml"], 4, "train it first: cnntrain train {tmp}/my.yaml", config("")),
    Mistake("evaluating a configuration that was trained", ["evaluate", "digits_lenet.yaml", "--output", "{run}/../.."], 4, "did you mean its run {run}"),
    Mistake("evaluating a shipped configuration", ["export", "cifar10_lenet"], 4, "to be trained first: cnntrain train cifar10_lenet"),
    Mistake("a run whose name is nearly right", ["report", "{run}1", "--output", "{run}/../.."], 4, "did you mean "),
    Mistake("a folder of data that is nowhere", ["data", "check", "/nowhere"], 2, "there is no folder /nowhere, and no configuration; the nearest folder that there is: /"),
    Mistake("a folder of data that is misspelt", ["data", "check", "{tmp}/phtos"], 2, "did you mean {tmp}/photos?", lambda tmp: write_photos(tmp / "photos", {"train": 1})),
    Mistake("runs of a folder that is not there", ["runs", "{tmp}/nothing"], 4, "there is no folder of runs {tmp}/nothing"),
    Mistake("completion for another shell", ["--show-completion", "tcsh"], 2, "there is completion for bash, zsh, fish"),
]  # fmt: skip


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", no_network)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_is_explained(
    mistake: Mistake, cli: Cli, tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "CUDA" in mistake.name and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    mistake.prepare(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    outcome = cli(*[argument.format(tmp=tmp_path, run=trained_run) for argument in mistake.arguments])
    assert mistake.message.replace("{tmp}", str(tmp_path)).replace("{run}", str(trained_run)) in outcome.err
    assert outcome.code == mistake.code
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not list(work.iterdir()), "a half-made run was left behind"


def test_debug_shows_the_traceback(cli: Cli) -> None:
    for arguments in (["train", "gone.yaml", "--debug"], ["--debug", "train", "gone.yaml"]):
        outcome = cli(*arguments)
        assert outcome.code == 2
        assert "Traceback" in outcome.err
        assert outcome.err.rstrip().splitlines()[-1].startswith("error: gone.yaml")


def test_ctrl_c_exits_with_130_and_leaves_nothing_half_made(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnntrain.training.loop.train_step", interrupt)
    outcome = cli("train", "digits_lenet", "--output", tmp_path / "runs")
    assert outcome.code == 130
    assert outcome.err.endswith("error: interrupted\ntraining had not begun; start it again with the same command\n")
    assert not (tmp_path / "runs").exists()


def test_a_failed_run_leaves_a_folder_that_was_there(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    wild = ["--set", "recipe.optimizer.lr=1e30", "--set", "recipe.schedule=constant"]
    assert cli("train", "digits_lenet", "--output", tmp_path / "mine", *wild).code == 6
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"]
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError()])
def test_out_of_memory_says_what_to_lower(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("cnntrain.training.loop.train_step", no_memory)
    outcome = cli("train", "digits_lenet", "--output", tmp_path / "runs")
    assert outcome.code == 5
    assert "recipe.batch_size is 64, and images have 32 px: set recipe.micro_batch to 32" in outcome.err


def test_the_recorded_data_root_wins_over_the_environment(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text(FOLDER + "recipe: {epochs: 1}\n")
    monkeypatch.chdir(tmp_path)
    assert cli("train", "my.yaml", "--set", "run.data_root=.").code == 0
    monkeypatch.chdir("/")
    monkeypatch.setenv("CNNTRAIN_DATA", str(tmp_path / "elsewhere"))
    output = ["--output", tmp_path / "runs"]
    assert cli("evaluate", *output).code == 0
    assert cli("train", tmp_path / "runs/latest/config.yaml", *output).code == 0
    assert "elsewhere/photos: no such folder" in cli("evaluate", *output, "--data-root", tmp_path / "elsewhere").err


@pytest.mark.parametrize("root", ["photos", "{tmp}/photos"])
def test_photos_that_moved_can_be_evaluated_where_they_are(cli: Cli, tmp_path: Path, root: str) -> None:
    write_photos(tmp_path / "photos", {"train": 12, "test": 2})
    (tmp_path / "my.yaml").write_text(FOLDER.replace("photos", root.format(tmp=tmp_path)) + "recipe: {epochs: 1}\n")
    output = ["--output", tmp_path / "runs"]
    assert cli("train", tmp_path / "my.yaml", "--data-root", tmp_path, *output).code == 0
    (tmp_path / "photos").rename(tmp_path / "moved")
    assert cli("evaluate", *output).code == 3
    found = cli("evaluate", *output, "--data-root", tmp_path / "moved")
    assert found.code == 0, found.err
    assert "sha256 differs" not in found.err


def test_what_an_interrupted_run_learnt_is_kept_and_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step_until_the_second_epoch(state: TrainingState, *rest: Any, **more: Any) -> Any:
        if state.step == 30:
            raise KeyboardInterrupt
        return train_step(state, *rest, **more)

    monkeypatch.setattr("cnntrain.training.loop.train_step", step_until_the_second_epoch)
    outcome = cli("train", "digits_lenet", "--output", tmp_path / "runs")
    assert outcome.code == 130
    assert "error: interrupted\ngo on with it: cnntrain train --resume" in outcome.err
    assert "what was learnt until then is kept: cnntrain evaluate" in outcome.err
    outcome = cli("evaluate", "--output", tmp_path / "runs")
    assert outcome.code == 0
    assert "(note: this run has not finished)" in outcome.err


def test_the_kind_of_a_checkpoint_is_told_by_its_content(cli: Cli, tmp_path: Path, trained_run: Path) -> None:
    shutil.copy(trained_run / "checkpoints/best.safetensors", tmp_path / "a.pt")
    shutil.copy(sorted(trained_run.glob("checkpoints/step-*.pt"))[-1], tmp_path / "b.safetensors")
    shutil.copy(sorted(trained_run.glob("checkpoints/step-*.json"))[-1], tmp_path / "b.json")
    for name in ("a.pt", "b.safetensors"):
        assert cli("evaluate", tmp_path / name).code == 0
    torch.save(Path(), tmp_path / "evil.pt")
    outcome = cli("evaluate", tmp_path / "evil.pt")
    assert outcome.code == 4
    assert "weights_only" not in outcome.err


def test_a_failed_run_keeps_latest_on_the_last_good_one(
    cli: Cli, tmp_path: Path, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "runs"
    shutil.copytree(trained_run.parents[1], output, symlinks=True)
    monkeypatch.setattr("cnntrain.training.loop.train_step", lambda *_, **__: 1 / 0)
    failed = cli("train", "digits_lenet", "--output", output)
    assert failed.code == 1
    assert "error: a bug of cnntrain: ZeroDivisionError: division by zero\nits traceback is in" in failed.err
    log = Path(failed.err.partition("its traceback is in ")[2].partition(";")[0]).read_text()
    assert "Traceback" in log
    assert "cnntrain train digits_lenet --output" in log
    assert (output / "latest").resolve() == (output / "digits_lenet" / trained_run.name).resolve()
    assert len(list((output / "digits_lenet").iterdir())) == 1


def test_the_data_must_have_the_networks_classes(cli: Cli, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text(FOLDER + "recipe: {epochs: 1}\n")
    arguments = ["--data-root", tmp_path, "--output", tmp_path / "runs"]
    assert cli("train", tmp_path / "my.yaml", *arguments).code == 0
    (tmp_path / "photos/train/red").rename(tmp_path / "photos/train/violet")
    outcome = cli("evaluate", *arguments)
    assert outcome.code == 3
    assert 'the data have the classes "blue", "green", "violet"; the network of' in outcome.err


def test_other_test_images_than_in_training_are_pointed_out(cli: Cli, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", {"train": 12})
    (tmp_path / "my.yaml").write_text(FOLDER + "recipe: {epochs: 1}\n")
    arguments = ["--data-root", tmp_path, "--output", tmp_path / "runs"]
    assert cli("train", tmp_path / "my.yaml", *arguments).code == 0
    assert "sha256 differs" not in cli("evaluate", *arguments).err
    shutil.copy(tmp_path / "photos/train/red/train 00.png", tmp_path / "photos/train/red/train 99.png")
    assert "these are not the test images that the run recorded" in cli("evaluate", *arguments).err
