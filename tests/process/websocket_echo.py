"""A WebSocket server of the process tests: ``python websocket_echo.py`` prints its port and sends back what it gets.

``/close`` closes with a code of its own, ``/refuse`` answers 403, ``/ping`` says which pings of its were answered.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Sequence

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

LARGEST = 32 << 20
GONE = 4001


async def _talk(connection: ServerConnection) -> None:
    request = connection.request
    path = request.path if request is not None else ""
    if path == "/close":
        await connection.close(GONE, "enough")
        return
    if path == "/ping":
        answered = await connection.ping(b"are you there")
        await connection.send(f"{await answered >= 0}")
    async for message in connection:
        await connection.send(message)


def _refuse(connection: ServerConnection, request: Request) -> Response | None:
    if request.path != "/refuse":
        return None
    return connection.respond(http.HTTPStatus.FORBIDDEN, "not you\n")


def _select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    wanted = Subprotocol("first")
    return wanted if wanted in offered else None


def _port(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


async def _main() -> None:
    async with serve(
        _talk,
        "127.0.0.1",
        0,
        max_size=LARGEST,
        ping_interval=None,  # a busy machine may be late
        select_subprotocol=_select,
        process_request=_refuse,
    ) as server:
        print(_port(server), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main())
