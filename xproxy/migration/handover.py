"""How a worker hands over to another one, and takes over: by the configuration that is in force."""

from __future__ import annotations

import socket
from typing import Final

from xproxy.migration.giver import give
from xproxy.migration.pace import pace_of
from xproxy.migration.taker import take
from xproxy.proxy.handover import Handover, Report
from xproxy.proxy.runtime import Runtime


async def _give(runtime: Runtime, sock: socket.socket, report: Report) -> None:
    await give(runtime, sock, report, pace=pace_of(runtime))


async def _rehearse(runtime: Runtime, sock: socket.socket, report: Report) -> None:
    await give(runtime, sock, report, pace=pace_of(runtime), rehearsal=True)


async def _take(runtime: Runtime, sock: socket.socket, report: Report) -> None:
    await take(runtime, sock, report, gives_back=True)


HANDOVER: Final = Handover(give=_give, take=_take, rehearse=_rehearse)
