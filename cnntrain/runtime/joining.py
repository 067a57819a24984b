"""How the processes that a launcher has started find each other, and part."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from cnntrain.errors import DeviceError
from cnntrain.runtime.launchers import Launched, launched
from cnntrain.runtime.processes import ALONE, Processes
from cnntrain.runtime.together import LONG, Together
from cnntrain.runtime.watch import Watch

_MEETING = timedelta(minutes=10)  # that the processes of a job may begin after one another


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
    own_group = not dist.is_initialized()
    hosts = launch.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    store = _meet(launch, hosts=hosts)
    if own_group:
        dist.init_process_group(
            "gloo", store=dist.PrefixStore("group", store), rank=launch.rank, world_size=launch.num_processes,
            timeout=LONG,
        )  # fmt: skip
    watch = Watch(dist.PrefixStore("watch", store), launch.rank, launch.num_processes, hosts=hosts)
    watch.start()
    try:
        yield Together(_hosts(launch))
        watch.close()  # all have done their part before the first closes its connections
    except BaseException as error:
        explained = watch.explain(error)
        if explained is error:
            raise
        raise explained from error
    finally:
        if own_group:
            dist.destroy_process_group()  # whoever waits for this process in vain is told
        watch.close()


def _meet(launch: Launched, *, hosts: bool) -> dist.Store:
    """A store that all processes share, empty at the beginning, however often they have met before."""
    host, port = launch.address
    try:
        store = dist.TCPStore(
            host, port, launch.num_processes, is_master=hosts, timeout=_MEETING, multi_tenant=True,
        )  # fmt: skip
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(
            f"process {launch.rank} of {launch.num_processes} does not reach the others at {host}:{port} ({reason}); "
            f"is the port free, and open between the machines?"
        ) from error
    number = store.add(f"cnntrain/{launch.restarts}/{launch.rank}", 1)
    return dist.PrefixStore(f"cnntrain/{launch.restarts}/{number}", store)


def _hosts(launch: Launched) -> list[str]:
    """The name of each process's machine; where two share a name, their network namespaces tell them apart."""
    try:
        namespace = str(Path("/proc/self/ns/net").stat().st_ino)
    except OSError:
        namespace = ""
    hosts: list[str] = [""] * launch.num_processes
    dist.all_gather_object(hosts, f"{socket.gethostname()} {namespace}")
    return hosts
