"""Two checkouts of cnntrain side by side: commands run with each, what they leave behind as text, and differences."""

from __future__ import annotations

import difflib
import functools
import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Texts = dict[str, str]  # what was seen, by name; times, speeds and paths are taken out when two are compared

# Keys of records that differ from run to run on one machine, and whose values mean time, place or load.
MEASURED = {
    "seconds", "data_seconds", "train_seconds", "total_seconds", "images_per_second", "data_share", "contention_share",
    "time", "versions", "platform", "processor", "commit",
}  # fmt: skip

# In texts for people: what is measured, and the name of a run's folder.
_TIMED = [
    (r"/[\w./-]*/work-\w{8}\b", "WORK"),  # where a run was made that is used now
    (r"\b\d{8}-\d{6}(-\d+)?\b", "TIME"),
    (r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z| UTC|\+00:00)?", "DATE"),
    (r" *[\d,.]+ images/s", " SPEED"),
    (r"[\d,.]+ images per second", "SPEED"),
    (r"data +\d+ ?%", "data SHARE"),
    (r"[\d.,]+\s?% of that time", "SHARE of that time"),
    (r"\b[\d.,]+(e-\d+)? (s|ms|min|h|seconds|minutes|hours)\b", "SECONDS"),
    (r"\([\d.,]+ \w+ free\)", "(SPACE free)"),
    (r'"num_bytes": \d+,\s*"sha256": "\w+"', "FILE"),  # of an exported file, which is compared itself
    (r'"seconds": ?[\d.e-]+', '"seconds": SECONDS'),
    (r"events\.out\.tfevents\.[\w.]+", "EVENTS"),
    (r"(?m)^ .*: [\d,]+ of [\d,]+.*\n", ""),  # progress, said after so many seconds
    (r"(?m)^.*other processes held the processor.*\n", ""),
    (r"(?m)^ *note: .*(is busy|speeds are low).*\n", ""),
]


class Side:
    """One checkout, and a process of it that runs commands (see forking.py)."""

    def __init__(self, checkout: Path, work: Path) -> None:
        """Nothing is started yet; `work` is emptied for each case."""
        self.checkout, self.work = checkout.resolve(), work

    @property
    def environment(self) -> dict[str, str]:
        """Of its processes: its code, one thread, and none of the user's folders."""
        home = str(self.work / "home")
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("CNNTRAIN", "XDG", "OMP"))},
            **{"PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "TERM": "dumb", "TZ": "UTC"},
            **{"HOME": home, "XDG_CACHE_HOME": home, "XDG_STATE_HOME": home, "LC_ALL": "C.UTF-8"},
        }

    @functools.cached_property
    def _process(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "forking.py")]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment, cwd="/"
        )

    def run(
        self, *arguments: object, folder: Path, stop: tuple[int, int] | None = None, poison: Sequence[int] = ()
    ) -> Texts:
        """Its exit code, stdout and stderr."""
        outputs = [self.work / "stdout", self.work / "stderr"]
        order = {
            **{"arguments": [str(argument) for argument in arguments], "folder": str(folder)},
            **{"outputs": [str(path) for path in outputs], "stop": stop, "poison": list(poison)},
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        code = self._process.stdout.readline().strip() or "the process that runs commands has ended"
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in outputs)
        return {"exit code": code, "stdout": out, "stderr": err}

    def emptied(self, name: str) -> Path:
        """A new folder to work in, and no caches."""
        shutil.rmtree(self.work, ignore_errors=True)
        folder = self.work / re.sub(r"\W+", "-", name)
        (self.work / "home").mkdir(parents=True)
        folder.mkdir()
        return folder

    def without_paths(self, texts: Texts) -> Texts:
        """The texts with this side's folders called WORK and CHECKOUT."""
        named = ((str(self.work), "WORK"), (str(self.checkout), "CHECKOUT"))
        for path, word in named:
            texts = {name: text.replace(path, word) for name, text in texts.items()}
        return texts

    def end(self) -> None:
        """Ends the process, where there is one."""
        if "_process" in vars(self):
            self._process.communicate()


class Case(NamedTuple):
    """Something to do with each checkout: a function of a side and these arguments."""

    name: str
    function: Callable[..., Texts]
    arguments: tuple[Any, ...]

    def watch(self, side: Side) -> Texts:
        """What was seen, without its paths."""
        return side.without_paths(self.function(side, *self.arguments))

    def key(self) -> str:
        """Another one when another thing is done."""
        done = inspect.getsource(self.function) + repr(self.arguments)
        return re.sub(r"\W+", "-", self.name)[:60] + "-" + _digest(done.encode())[:12]


def within(part: str, texts: Texts) -> Texts:
    """The texts under longer names."""
    return {f"{part}: {name}": text for name, text in texts.items()}


def differences(before: Texts, after: Texts) -> Iterator[tuple[str, list[str]]]:
    """What was seen differently: its name, and the lines that differ."""
    for name in sorted({*before, *after}):
        a, b = (_normalised(texts.get(name, "(nothing)\n")).splitlines() for texts in (before, after))
        if a != b:
            lines = difflib.unified_diff(a, b, "other", "this", n=0, lineterm="")
            yield name, [line for line in lines if not line.startswith(("---", "+++", "@@"))]


def _normalised(text: str) -> str:
    for pattern, word in _TIMED:
        text = re.sub(pattern, word, text)
    return text


def folder_contents(folder: Path) -> Texts:
    """All files below, each as text: records without what is measured, tensors as digests."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    texts = {"names of files": "".join(f"{path.relative_to(folder)}\n" for path in files)}
    for path in files:
        if path.is_file() and not path.is_symlink() and not path.name.startswith("step-"):
            texts[_normalised(str(path.relative_to(folder)))] = file_contents(path)
    if states := [path for path in files if re.fullmatch(r"step-\d+\.pt", path.name)]:
        texts["newest training checkpoint"] = file_contents(max(states, key=lambda path: path.name))
    return texts


def file_contents(path: Path) -> str:
    """A file as text that two checkouts share; what is broken stays so."""
    try:
        return _file_contents(path)
    except Exception as error:  # each library that reads has its own
        return f"{type(error).__name__}: {error}"


def _file_contents(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".safetensors":
        return _safetensors(content)
    if path.suffix == ".pt":
        return _training_checkpoint(path)
    if path.suffix == ".json":
        return _without_times(json.loads(content))
    if path.suffix == ".jsonl":
        return "\n".join(json.dumps(_kept(json.loads(line))) for line in content.splitlines())
    if path.suffix == ".pt2":
        return _exported_program(path)
    if "tfevents" in path.name:
        return _events(path)
    if path.suffix in (".yaml", ".csv", ".txt"):
        return content.decode()
    if path.suffix == ".html":
        return _page(content.decode())
    return f"{len(content)} bytes, {_digest(content)}"


def _page(text: str) -> str:
    """HTML with its pictures as digests, so that a difference can be read, and without the chart of speeds."""
    text = re.sub(r'(?s)<svg[^>]*aria-label="Images per second.*?</svg>', "<svg of speeds>", text)
    text = re.sub(r"data:[\w/+-]+;base64,[^\"')]+", lambda picture: _digest(picture[0].encode()), text)
    text = re.sub(r"(?s)(<svg[^>]*>)(.*?)</svg>", lambda svg: svg[1] + _digest(svg[2].encode()), text)
    return text.replace("><", ">\n<")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items() if key not in MEASURED}
    return [_kept(item) for item in value] if isinstance(value, list) else value


def _without_times(value: Any) -> str:
    return json.dumps(_kept(value), indent=1)


def _safetensors(content: bytes) -> str:
    from safetensors.torch import load

    length = int.from_bytes(content[:8], "little")
    header = dict(sorted(json.loads(content[8 : 8 + length]).get("__metadata__", {}).items()))  # written in any order
    if "cnntrain" in header:
        header["cnntrain"] = json.loads(header["cnntrain"])
        header.pop("cnntrain_sha256", None)  # of all that is in it, so of paths too
    return _without_times(header) + "\n" + _leaves(load(content))


def _exported_program(path: Path) -> str:
    """The parts of a .pt2, without the places in the code that each of its nodes comes from."""

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items() if key != "metadata"}
        return [bare(item) for item in value] if isinstance(value, list) else value

    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if not name.endswith("serialization_id")}
    bared = {
        name: json.dumps(bare(json.loads(part))).encode() for name, part in parts.items() if name.endswith(".json")
    }
    return "".join(f"{name} {_digest(part)}\n" for name, part in sorted((parts | bared).items()))


def _training_checkpoint(path: Path) -> str:
    import torch

    return _leaves(torch.load(path, map_location="cpu", weights_only=True))


def _leaves(value: Any, name: str = "") -> str:
    """A line for each value in nested records: tensors by type, shape and digest."""
    import torch

    if isinstance(value, torch.Tensor):
        if name.endswith("/best"):  # a file in a file
            return _safetensors(value.numpy().tobytes())
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return f"{name} {value.dtype} {tuple(value.shape)} {_digest(content)}\n"
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        kept = {str(key): item for key, item in value.items() if key not in MEASURED and "tfevents" not in str(key)}
        return "".join(_leaves(item, f"{name}/{key}") for key, item in sorted(kept.items())) or f"{name} empty\n"
    return f"{name} {value!r}\n"


def _events(path: Path) -> str:
    """TensorBoard's records without their times, nor what is measured."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    lines = []
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if not any(word in value.tag for word in ("second", "speed", "time", "share", "memory", "session_start")):
                lines.append(f"{event.step} {value.tag} {_digest(value.SerializeToString(deterministic=True))}")
    return "\n".join(lines)
