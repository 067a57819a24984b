"""Which device trains, and in which arithmetic."""

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from cnntrain.errors import DeviceError
from cnntrain.runtime.exhaustion import check_room
from cnntrain.runtime.machine import available_cores
from cnntrain.runtime.processes import ALONE, Processes

DEVICE_PATTERN = r"(auto|cpu|mps|cuda(:\d+)?)"

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

MEMORY_FORMAT = "channels_last"  # of images and weights, as docs/performance.md explains

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def laid_out(network: nn.Module) -> nn.Module:
    """The same network with the weights of its 2-D convolutions in `MEMORY_FORMAT`; others have no such layout."""
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return network


def resolve_device(name: str, processes: Processes = ALONE) -> torch.device:
    """The device meant by `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; each of several processes has a GPU of its own.

    Raises:
        DeviceError: This machine, or this build of PyTorch, does not have it; or `ulimit -v` leaves no memory to it.
    """
    check_room()
    if not re.fullmatch(DEVICE_PATTERN, name):
        raise DeviceError(f"unknown device {name!r} (allowed: auto, cpu, cuda, cuda:N, mps)")
    kind, _, index = name.partition(":")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if kind == "cuda" and not torch.cuda.is_available():
        reason = (
            "no NVIDIA driver or GPU answers (see `nvidia-smi`)"
            if torch.version.cuda
            else "this build of PyTorch has no CUDA (README.md says how to install one that has)"
        )
        raise DeviceError(f"device {name!r} is not available: {reason}; use --device cpu or --device auto")
    if processes.count > 1:
        return _device_among(kind, name, processes)
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        num_devices = torch.cuda.device_count()
        raise DeviceError(f"device {name!r} does not exist: {num_devices} found, cuda:0 to cuda:{num_devices - 1}")
    if torch.get_num_threads() > available_cores():
        torch.set_num_threads(available_cores())  # PyTorch counts the machine's cores, of which a container has a few
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device {name!r} is not available: it needs a Mac with Apple silicon; use --device cpu")
    return torch.device(f"{kind}:{int(index)}" if index else kind)


def _device_among(kind: str, name: str, processes: Processes) -> torch.device:
    """That of one of several processes, whose cores and GPUs are shared."""
    here = processes.local_count
    if kind == "cuda":
        if torch.cuda.device_count() < here:
            raise DeviceError(
                f"{here} processes were started on a machine with {torch.cuda.device_count()} GPUs, and each needs its "
                f"own; start fewer, or use --device cpu"
            )
        return torch.device(f"cuda:{processes.local_rank}")
    if kind == "mps":
        raise DeviceError(f"device {name!r} cannot be shared by {here} processes; use --device cpu, or one process")
    torch.set_num_threads(min(torch.get_num_threads(), max(1, available_cores() // here)))
    return torch.device("cpu")


def use_threads(number: int | None) -> None:
    """Computes with so many threads; None leaves what PyTorch chose: OMP_NUM_THREADS, else one for each core."""
    if number is not None:
        torch.set_num_threads(number)


def compute_alike(num_threads: int | None, device: torch.device, processes: Processes) -> int:
    """Computes with as many threads as a process alone would: the last digits of what comes out depend on them.

    Args:
        num_threads: That are wanted, and taken where there are so many; None takes a thread for each core.
        device: Where this process computes.
        processes: Of several each is a process alone, whatever torchrun made of OMP_NUM_THREADS.

    Returns:
        How many of the processes on this machine have cores enough to compute at once.
    """
    cores = torch.get_num_threads() if processes.count == 1 else available_cores()
    torch.set_num_threads(min(num_threads or cores, cores))
    return processes.local_count if device.type != "cpu" else max(1, cores // torch.get_num_threads())


def resolve_precision(name: str, device: torch.device) -> str:
    """What `auto` means here: bfloat16 where the hardware computes in it, else float32.

    Raises:
        DeviceError: The device cannot compute in the precision asked for.
    """
    if name == "auto":
        return "bfloat16" if _has_fast_bfloat16(device) else "float32"
    if device.type == "cuda" and name == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise DeviceError("this GPU has no bfloat16; set recipe.precision to float16, float32 or auto")
    return name


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision: weights stay float32, convolutions and products compute in `precision`."""
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=precision != "float32")


def choose_fast_arithmetic(device: torch.device) -> None:
    """For training: memory that is kept; on a GPU TF32 where float32 is asked for, and the fastest convolutions.

    TF32 rounds what is multiplied to 10 bits of mantissa, and adds up in float32.
    """
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    if device.type == "cpu" and sys.platform == "linux":
        keep_freed_memory()


def keep_freed_memory(largest: int = 2**30) -> None:
    """Lets glibc keep blocks below so many bytes when they are freed.

    It would give each large activation back to the system, and fault it in again page by page in the next step:
    166,000 faults a step of the small GoogLeNet. docs/performance.md has what it gains.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):  # other C libraries have their own ways
        return
    for threshold in (largest, 32 * 2**20):  # which is as much as older releases of glibc take
        if libc.mallopt(_M_MMAP_THRESHOLD, threshold):
            libc.mallopt(_M_TRIM_THRESHOLD, min(2 * threshold, 2**31 - 1))
            return


@contextmanager
def exact_float32() -> Iterator[None]:
    """On a GPU float32 itself instead of TF32, and convolutions by algorithms that repeat: for evaluation."""
    before = torch.get_float32_matmul_precision()
    if before != "highest":  # setting it to what it is would make torch.compile compile again
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)


@contextmanager
def memory_explained(advice: str) -> Iterator[None]:
    """Turns an allocation that failed into a `DeviceError` that says what to change."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # PyTorch's OutOfMemoryError is a RuntimeError; on a CPU, only that
        text = str(error)
        if not isinstance(error, MemoryError) and "out of memory" not in text and "can't allocate memory" not in text:
            raise
        raise DeviceError(
            f"out of memory ({text.splitlines()[0] if text else 'no more to be had'}); {advice}"
        ) from error


def device_name(device: torch.device) -> str:
    """What to call the device in results: the GPU's name, else the kind and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    return "cpu, 1 thread" if torch.get_num_threads() == 1 else f"cpu, {torch.get_num_threads()} threads"


def _has_fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    # PyTorch offers no public question for this. Without the instructions, bfloat16 is emulated and slow.
    questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, question, lambda: False)()) for question in questions)
