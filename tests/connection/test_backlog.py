"""Calls that are whole, and that their codec is busy with: they are neither half, nor idle, nor uncounted."""

from __future__ import annotations

import random
import zlib

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.codecs.thrift.header import wrap
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.model.limits import MIB
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.stream.held import Share
from xproxy.testing import proxy_pair
from xproxy.testing.subject import Subject


def packed(size: int) -> bytes:
    """Return a call whose payload is packed, and unpacks to so many bytes."""
    struct = b"\x0b\0\1" + size.to_bytes(4) + random.Random(1).randbytes(size) + b"\0"
    call = b"\x80\1\0\1" + (1).to_bytes(4) + b"m" + (1).to_bytes(4) + struct
    return wrap(zlib.compress(call), 0, 1, b"\0\1\1\0")


async def test_a_packed_call_that_was_answered_leaves_an_idle_connection(
    autojump_clock: MockClock,
) -> None:
    shares: list[Share] = []

    async def handle(request: Request) -> Response:
        shares.append(request.connection.share)
        return Response(Subject(THRIFT).response, BytesBody(b"\0"))

    async with proxy_pair(THRIFT, handler=handle) as pair:
        await pair.client.raw.send_all(packed(3 * MIB))
        assert await pair.client.raw.receive_some(65536)
        await wait_all_tasks_blocked()
        (share,) = shares
        assert share.held == 0
        begun = trio.current_time()
        assert not await pair.client.raw.receive_some(65536)
        assert trio.current_time() - begun >= 3600
        assert pair.stats.downstream_cx_head_timeout == 0
        assert pair.stats.downstream_cx_idle_timeout == 1
