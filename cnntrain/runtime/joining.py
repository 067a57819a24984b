"""How the processes that a launcher has started find each other, and part."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from cnntrain.errors import DeviceError
from cnntrain.runtime.launchers import Launched, is_abandoned, launched
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.together import LONG, Together
from cnntrain.runtime.watch import Watch

_MEETING_SECONDS = 600.0  # that the processes of a job may begin after one another
_TRY_SECONDS = 2.0  # to reach the place where they meet


@contextmanager
def joined() -> Iterator[Processes]:
    """Connects this process with the others that a launcher has started; alone it is all there are.

    What goes wrong in one of them ends all, with one message and one exit code: see `watch`.

    Raises:
        ConfigError: Nobody says where they meet.
        DeviceError: They do not find each other.
        OtherProcessError: Another one has failed, or is gone.
    """
    launch = launched()
    if launch is None:
        yield ALONE
        return
    rank, count, together = launch.rank, launch.num_processes, None
    own_group = not dist.is_initialized()
    agent_hosts = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    base, store = _meet(launch, hosts=rank == 0 and not agent_hosts)
    watch = Watch(
        store,
        rank,
        count,
        host=_own_host(launch.address),
        hosts=rank == 0 and not agent_hosts,
        speaks=launch.local_rank == 0 or (rank == 1 and not agent_hosts),
    )
    try:
        machines = _of_all(store, "machine", _machine(), launch)
        watch.start()
        if own_group:
            dist.init_process_group(
                "gloo", store=dist.PrefixStore("group", store), rank=rank, world_size=count, timeout=LONG
            )
        together = Together(machines, _Keepsake(base), watch.is_over)
        yield together
        watch.close()  # all have done their part before the first closes its connections
    except BaseException as error:
        explained = watch.explain(error)
        if explained is error:
            raise
        raise explained from error
    finally:
        if together:
            together.leave()
        if own_group and dist.is_initialized():
            dist.destroy_process_group()
        watch.close()


class _Keepsake:
    """What outlives these processes, where torchrun starts others in their place: its store.

    Each time that a script trains has its own.
    """

    def __init__(self, store: dist.Store) -> None:
        number = store.add(f"joined/{socket.gethostname()}/{os.getpid()}", 1)
        self._store, self._key = store, f"remembered/{number}"

    def set(self, text: str) -> None:
        """In place of what was set before."""
        self._store.set(self._key, text)

    def get(self) -> str:
        """What was set last, by this process or the one before it; else nothing."""
        return self._store.get(self._key).decode() if self._store.check([self._key]) else ""


def _meet(launch: Launched, *, hosts: bool) -> tuple[dist.Store, dist.Store]:
    """A store that outlives these processes, if torchrun hosts it; in it, one for these alone.

    Raises:
        DeviceError: One of them does not come.
    """
    (host, port), until = launch.address, time.monotonic() + _MEETING_SECONDS
    while True:
        try:
            if not hosts:  # for PyTorch hears no signal while it waits, and prints a stack dump where it gives up
                socket.create_connection((host, port), timeout=_TRY_SECONDS).close()
            whole = dist.TCPStore(
                host, port, is_master=hosts, wait_for_workers=False, multi_tenant=True,
                timeout=timedelta(seconds=_MEETING_SECONDS),
            )  # fmt: skip
            base = dist.PrefixStore(f"cnntrain/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", whole)
            return base, dist.PrefixStore(_meeting(base, launch, until), base)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            if hosts or time.monotonic() > until:
                raise DeviceError(
                    f"process {launch.rank} of {launch.num_processes} does not reach the others at {host}:{port} "
                    f"({reason}); is the port free, and open between the machines?"
                ) from error
            _pause(0.1)  # nobody is there yet, or that was the store of an earlier meeting, which was about to end


def _meeting(store: dist.Store, launch: Launched, until: float) -> str:
    """The name of a meeting of all processes, of which no one that is no more alive takes part.

    The first one invites whoever has left a name, until all have come.
    """
    ranks, own = range(launch.num_processes), uuid.uuid4().hex
    store.set(f"here/{launch.rank}", own)
    if launch.rank > 0:
        _wait(store, [f"invited/{own}"], until, "the first process")
        meeting = store.get(f"invited/{own}").decode()
        store.set(f"{meeting}/{launch.rank}", "")
        return meeting
    came = [f"{own}/{rank}" for rank in ranks[1:]]
    while not store.check(came):
        names = [store.get(f"here/{rank}").decode() for rank in ranks if store.check([f"here/{rank}"])]
        for name in names:
            store.set(f"invited/{name}", own)
        if time.monotonic() > until:
            late = ", ".join(str(rank) for rank in ranks[1:] if not store.check([f"{own}/{rank}"]))
            _did_not_come(f"process {late}")
        _pause(0.05)
    return own


def _of_all(store: dist.Store, key: str, value: str, launch: Launched) -> list[str]:
    """What each process has under this key."""
    keys = [f"{key}/{rank}" for rank in range(launch.num_processes)]
    store.set(keys[launch.rank], value)
    _wait(store, keys, time.monotonic() + _MEETING_SECONDS, "another process")
    return [text.decode() for text in store.multi_get(keys)]


def _wait(store: dist.Store, keys: list[str], until: float, whom: str) -> None:
    while not store.check(keys):  # not `store.wait`, which hears no signal
        if time.monotonic() > until:
            _did_not_come(whom)
        _pause(0.02)


def _pause(seconds: float) -> None:
    if is_abandoned():
        raise DeviceError("the command that started this process has ended, killed perhaps")
    time.sleep(seconds)


def _did_not_come(whom: str) -> None:
    raise DeviceError(f"{whom} did not come within {_MEETING_SECONDS / 60:.0f} min; was it started?")


def _own_host(address: tuple[str, int]) -> str:
    """Under which the others reach this machine, as the way to their meeting shows."""
    family, kind, _, _, where = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(where)  # sends nothing
        own = str(probe.getsockname()[0])
    is_here = own == "::1" or own.startswith("127.")  # at the meeting itself, whose name all know
    return address[0] if is_here else own


def _machine() -> str:
    """The name of this machine; where two share one, their network namespaces tell them apart."""
    try:
        namespace = str(Path("/proc/self/ns/net").stat().st_ino)
    except OSError:
        namespace = ""
    return f"{socket.gethostname()} {namespace}"
