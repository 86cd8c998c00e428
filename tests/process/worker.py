"""A proxy that can take over from another one and be taken over, without a supervisor: for tests of just that.

``worker.py FILE [--listen ADDRESS=FD]... [--take FD] [--give FD]``: sockets are inherited. It prints a JSON object a
line: ``ready``, and what a takeover reports. ``give`` on standard input begins one; its end ends the process.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import trio

HERE: Final = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.process.given_sockets import GivenSockets  # noqa: E402  # the path comes first
from xproxy.config.load import load_file  # noqa: E402
from xproxy.migration.giver import give  # noqa: E402
from xproxy.migration.pace import Pace  # noqa: E402
from xproxy.migration.taker import take  # noqa: E402
from xproxy.proxy.memory import give_back_freed_memory  # noqa: E402
from xproxy.proxy.runtime import Runtime  # noqa: E402
from xproxy.registry import default_registry  # noqa: E402
from xproxy.transport.descriptors import raise_limit  # noqa: E402


def report(said: Mapping[str, object]) -> None:
    """Say it on standard output."""
    print(json.dumps(said), flush=True)


async def main(options: argparse.Namespace) -> None:
    """Serve until everything has been given away, or standard input ends."""
    registry = default_registry()
    source = GivenSockets(dict(one.rsplit("=", 1) for one in options.listen))
    runtime = Runtime(registry, source=source)
    if options.take is not None:
        runtime.hold()
    config = load_file(options.file, registry)
    pace = Pace(patience=options.patience, canary=options.canary)
    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.run, config)
        report({"step": "ready"})
        if options.take is not None:
            nursery.start_soon(take, runtime, socket.socket(fileno=options.take), report)

        async def obey() -> None:
            said = b""
            async with trio.lowlevel.FdStream(os.dup(0)) as commands:
                async for piece in commands:
                    said += piece
                    while b"\n" in said:
                        command, _, said = said.partition(b"\n")
                        assert command == b"give"
                        sock = socket.socket(fileno=options.give)
                        await give(runtime, sock, report, pace=pace)
            nursery.cancel_scope.cancel()

        nursery.start_soon(obey)
        await runtime.ended.wait()
        nursery.cancel_scope.cancel()


def run(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says, or ``arguments``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--take", type=int)
    parser.add_argument("--give", type=int)
    parser.add_argument("--patience", type=float, default=60.0)
    parser.add_argument("--canary", type=float, default=0.2)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    raise_limit()
    give_back_freed_memory()
    trio.run(main, parser.parse_args(arguments))


if __name__ == "__main__":
    run()
