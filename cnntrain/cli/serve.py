"""`cnntrain serve`: lets people and programs use a trained network through a browser or HTTP."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cnntrain.cli.options import DeviceOption, OutputOption, QuietOption, RunArgument
from cnntrain.cli.output import complain, show, silent_libraries


def serve(
    run: RunArgument = None,
    host: Annotated[
        str, typer.Option(help="127.0.0.1 is this machine alone; 0.0.0.0 lets the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    max_mib: Annotated[int, typer.Option(min=1, help="Size of a request, at most.")] = 10,
    max_seconds: Annotated[int, typer.Option(min=1, help="Time of a request, its upload included, at most.")] = 30,
    device: DeviceOption = None,
    output: OutputOption = Path("runs"),
    quiet: QuietOption = False,
) -> None:
    """Serve a trained network as a page in the browser, and to programs; without RUN, the newest run.

    Examples:
        cnntrain serve
        cnntrain serve runs/digits_lenet/20260131-120000 --port 0
        curl -F image=@photo.jpg 'http://127.0.0.1:8000/predict?top=3'
    """
    from cnntrain.runtime.extras import need

    need("serve", "cnntrain serve")

    from cnntrain.runs.console import Console
    from cnntrain.runs.run_folder import find_checkpoint, unfinished
    from cnntrain.runtime.device import resolve_device
    from cnntrain.serve.app import Limits
    from cnntrain.serve.running import address_of, is_local, listen
    from cnntrain.serve.running import serve as serve_network
    from cnntrain.trained import load

    console = Console(quiet=quiet)
    path = find_checkpoint(run, output)
    with listen(host, port) as listener:
        trained = load(path, resolve_device(device or "auto"))
        if not is_local(listener):
            complain(f"warning: with --host {host} anyone on the network can use this server")

        def tell() -> None:
            console.say(f"serving {path}{unfinished(path)}; Ctrl-C ends it; open in a browser:")
            show(address_of(listener))
            sys.stdout.flush()

        limits = Limits(max_bytes=max_mib * 2**20, max_seconds=max_seconds)
        with silent_libraries():
            serve_network(trained, listener, limits=limits, when_ready=tell)
    console.say("stopped")
