"""A proxy in a process of its own that gives, or takes, over a socket that it inherits: ``worker.py ROLE FD``.

The configuration is on standard input, in JSON. Each line that follows there asks for something: ``give`` everything,
or the page of a path. Each answer is a line of JSON; the first is the port that the listener ``edge`` has.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping

import trio

from xproxy.admin.pages import PAGES
from xproxy.config.load import load_text
from xproxy.migration.giver import give
from xproxy.migration.pace import Pace
from xproxy.migration.taker import take
from xproxy.proxy.runtime import Runtime
from xproxy.registry import default_registry


def _say(what: object) -> None:
    print(json.dumps(what), flush=True)


async def _ask() -> str:
    line: str = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line.strip()


async def main(role: str, sock: socket.socket) -> None:
    """Do as the module says, until standard input ends or everything has gone."""
    registry = default_registry()
    runtime = Runtime(registry)
    config = load_text(json.loads(await _ask()), "test.yaml", registry)

    def nobody(_report: Mapping[str, object]) -> None:
        return

    if role == "new":
        runtime.hold()
    async with trio.open_nursery() as nursery:
        await nursery.start(runtime.run, config)
        _say(runtime.listeners["edge"].address.port)
        if role == "new":
            taken = await take(runtime, sock, nobody)
            _say([taken.serve, taken.why])
        while (asked := await _ask()) != "":
            if asked == "give":
                given = await give(runtime, sock, nobody, pace=Pace(canary=0.05))
                _say([given.gone, given.why])
            else:
                _say(PAGES[asked](runtime).body.decode())
        runtime.stop()
        runtime.cut()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
