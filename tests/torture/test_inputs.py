"""Nothing that comes from outside crashes, hangs, or runs."""

import io
import json
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from harness import HERE, amount, report
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cnntrain.config.loading import load_config
from cnntrain.config.shipped import shipped_configs
from cnntrain.errors import CheckpointError, CnntrainError
from cnntrain.models.weights_file import read_tensors
from cnntrain.runs.checkpoints import newest_training

SHIPPED = [path.read_text() for path in shipped_configs().values()]
ODD = [
    "2026-02-30", "2026-13-45T25:61:61Z", "!!python/object/apply:os.system [true]", "!!binary x", "*nowhere", "&a [*a]",
    "0x", "1e999", "-.inf", ".nan", "99999999999999999999999", "''", "\"\\ud800\"", "~", "{}", "[]", "- - - -", "? x : y",
    "<<: *a", "\t", "\0", "\ufeff", "é́", "%YAML 9.9", "---\n---", "yes", "0o17", "1_000", "12:30:45", "|\n  x", ">-\n",
    "[" * 60 + "]" * 60, "{a: " * 60 + "1" + "}" * 60, "x" * 5000,
]  # fmt: skip


@st.composite
def mutated_configurations(draw: st.DrawFn) -> str:
    """A shipped configuration in which lines and values were changed, moved, doubled or lost."""
    lines = draw(st.sampled_from(SHIPPED)).splitlines()
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        odd = draw(st.one_of(st.sampled_from(ODD), st.text(max_size=20), st.integers().map(str), st.floats().map(str)))
        match draw(st.integers(0, 6)):
            case 0:
                lines[at] = lines[at].partition(":")[0] + ": " + odd
            case 1:
                lines.insert(at, lines[at])
            case 2:
                lines[at] = "  " * draw(st.integers(0, 8)) + lines[at].strip()
            case 3:
                lines.insert(at, odd)
            case 4:
                lines[at] = odd + lines[at]
            case 5:
                cut = draw(st.integers(0, len(lines[at])))
                lines[at] = lines[at][:cut] + odd + lines[at][cut:]
            case _:
                lines = lines[:at] or [odd]
    return "\n".join(lines)


def test_no_configuration_gives_a_traceback_or_takes_a_second(tmp_path: Path) -> None:
    path, count, slowest = tmp_path / "mutated.yaml", 0, 0.0
    messages = list[str]()

    @settings(
        max_examples=amount(150, 2000),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated_configurations())
    def attempt(text: str) -> None:
        nonlocal count, slowest
        path.write_bytes(text.encode(errors="surrogatepass"))
        started = time.perf_counter()
        try:
            load_config(str(path))
        except CnntrainError as error:
            messages.append(str(error))
        seconds = time.perf_counter() - started
        assert seconds < 1, text
        count, slowest = count + 1, max(slowest, seconds)

    attempt()
    assert all(path.name in message for message in messages)
    report("mutated configurations", f"{count} ({len(messages)} refused): no traceback, at most {slowest:.2f} s")


def test_no_image_crashes_the_reader_and_each_is_named(tmp_path: Path) -> None:
    count = amount(300, 5000)
    done = subprocess.run(
        [sys.executable, str(HERE / "mutated_images.py"), str(count)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == found["images"] >= count
    assert found["unnamed"] == 0
    assert found["refused"] > count // 10
    report("mutated images", f"{found['images']}: {found['refused']} refused by name, {found['read']} read, no crash")


def test_each_flipped_bit_and_each_truncation_of_a_checkpoint_is_detected(trained_run: Path, tmp_path: Path) -> None:
    rng, count = random.Random(4), amount(120, 5000)
    checkpoints = trained_run / "checkpoints"
    step = max(checkpoints.glob("step-*.pt"))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    best = (checkpoints / "best.safetensors").read_bytes()
    training, listed = step.read_bytes(), step.with_suffix(".json").read_bytes()

    def damaged(content: bytes) -> bytes:
        if rng.random() < 0.2:
            return content[: rng.randrange(len(content))]
        at = rng.randrange(len(content)) if rng.random() < 0.7 else rng.randrange(min(2000, len(content)))
        return content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]

    def refused(read: Callable[[], object]) -> bool:
        try:
            return read() is None
        except CheckpointError:
            return True

    for number in range(count):
        kind = number % 3
        (folder / "best.safetensors").write_bytes(damaged(best) if kind == 0 else best)
        (folder / step.name).write_bytes(damaged(training) if kind == 1 else training)
        (folder / step.name).with_suffix(".json").write_bytes(damaged(listed) if kind == 2 else listed)
        if kind == 0:
            assert refused(lambda: ours(folder / "best.safetensors"))
        else:
            assert refused(lambda: newest_training(folder, lambda _: None))
            assert refused(lambda: read_tensors(folder / step.name))
    report("flipped bits and truncations", f"{count} in best, training checkpoint and manifest: all detected")


def ours(path: Path) -> object:
    """The header of a checkpoint of ours; None where the file no longer looks like one, which commands refuse."""
    return read_tensors(path)[1]


class Canary:
    """Runs code where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def malicious(canary: Path) -> dict[str, bytes]:
    """In each of the ways in which PyTorch's files can hold a pickle."""
    found = {"raw": pickle.dumps(Canary(canary))}
    for name, new in (("zip", True), ("legacy", False)):
        buffer = io.BytesIO()
        torch.save({"model": Canary(canary)}, buffer, _use_new_zipfile_serialization=new)
        found[name] = buffer.getvalue()
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # what TorchScript's archives look like
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(canary)))
        archive.writestr("archive/constants.pkl", pickle.dumps(Canary(canary)))
        archive.writestr("archive/code/__torch__.py", "import os\n")
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    found["TorchScript"] = buffer.getvalue()
    return found


@pytest.mark.parametrize("kind", ["raw", "zip", "legacy", "TorchScript"])
def test_a_malicious_pickle_is_refused_by_name_and_runs_nothing(
    kind: str, cli: Cli, tmp_path: Path, trained_run: Path
) -> None:
    canary = tmp_path / "canary"
    content = malicious(canary)[kind]
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists()
    canary.rmdir()
    for name in ("evil.pt", "best.safetensors", "evil.pth"):
        (tmp_path / name).write_bytes(content)
        for arguments in (
            ["evaluate", tmp_path / name],
            ["predict", tmp_path / "x.png", "--run", tmp_path / name],
            ["train", "digits_lenet", "--set", f"model.weights={tmp_path / name}", "--output", tmp_path / "runs"],
        ):
            refused = cli(*arguments)
            assert refused.code == 4, refused.err
            assert name in refused.err
            assert "Traceback" not in refused.err
    import hashlib
    import shutil

    run = tmp_path / "run"
    shutil.copytree(trained_run, run)
    (run / "results.json").unlink()
    for path in (run / "checkpoints").glob("step-*.pt"):  # with a manifest that is right
        path.write_bytes(content)
        path.with_suffix(".json").write_text(json.dumps({"sha256": [hashlib.sha256(content).hexdigest()]}))
    refused = cli("train", "--resume", run)
    assert refused.code == 4
    assert "step-" in refused.err
    assert not canary.exists()
    report(f"malicious pickle ({kind})", "refused by name in evaluate, predict, model.weights and --resume")


def test_a_small_file_that_unfolds_to_a_huge_image_is_refused(cli: Cli, tmp_path: Path, trained_run: Path) -> None:
    from PIL import Image

    bomb = tmp_path / "bomb.png"
    Image.fromarray(np.zeros((34_000, 34_000), np.uint8)).save(bomb)
    assert bomb.stat().st_size < 1_200_000
    started = time.perf_counter()
    refused = cli("predict", bomb, "--run", trained_run)
    assert refused.code == 3
    assert "bomb.png: too large" in refused.err
    assert "at most 1,000; save it with fewer pixels" in refused.err
    assert time.perf_counter() - started < 5
