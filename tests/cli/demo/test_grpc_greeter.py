"""The demo's call of gRPC: by our client and by grpcio's, to our server; and what is no answer."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import trio

from xproxy.cli.demo.calls import CallFailed, ask
from xproxy.cli.demo.grpc_greeter import greeter, grpc_call
from xproxy.cli.demo.upstreams import start
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.model.address import Address

SERVE = functools.partial(greeter, PLUGIN, "g")
GRPCIO = """
import sys, grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    print(channel.unary_unary("/a.B/c")(b"hi", timeout=60).decode())
"""


async def _call(address: Address) -> list[str]:
    """Ask on one connection, and again."""
    call = grpc_call(PLUGIN, "a.B", "c", b"hi")
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        return [await ask(call, stream, data) for data in (call.first_bytes, call.again())]


async def test_a_call(nursery: trio.Nursery) -> None:
    address = await start(nursery, SERVE)
    assert await _call(address) == ["ok from g"] * 2


@pytest.mark.slow
async def test_the_server_to_another_client(nursery: trio.Nursery) -> None:
    address = await start(nursery, SERVE)
    command = [sys.executable, "-c", GRPCIO, str(address)]
    done = await trio.run_process(command, capture_stdout=True, stderr=subprocess.DEVNULL)
    assert done.stdout == b"g got a.B.c hi\n"


async def test_an_answer_that_is_none(nursery: trio.Nursery) -> None:
    async def lie(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")

    address: Address = await start(nursery, lie)
    with pytest.raises(CallFailed, match="the answer is broken"):
        await _call(address)
