"""What a client counts and what the listener counts is the same, in every protocol and however the bytes are cut."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.model.frames import Data, Head
from xproxy.model.traits import Role, Sharing
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import proxy_pair
from xproxy.testing.fakes import LINES, PIECES
from xproxy.testing.subject import Subject
from xproxy.testing.traffic import greet

PLUGINS = [HTTP1, HTTP2, BOLT, DUBBO, THRIFT, OPAQUE, LINES, PIECES]


def conversation(subject: Subject) -> bytes:
    """Return what a client sends: a request with a body, in pieces where the protocol has them."""
    if subject.traits.headless:
        return b"raw bytes"
    client, server = subject.open(Role.CLIENT), subject.open(Role.SERVER)
    wire = greet(client, server)
    if subject.traits.sharing is Sharing.MESSAGES:
        return wire + client.send(Head(1, subject.request, b"", True))
    wire += client.send(Head(1, subject.request, b""))
    wire += client.send(Data(1, b"some"))
    return wire + client.send(Data(1, b" more", True))


async def received(stream: trio.abc.ReceiveStream) -> int:
    count = 0
    with trio.move_on_after(60):
        while data := await stream.receive_some(65536):
            count += len(data)
    return count


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
async def test_every_byte_is_counted_once(plugin: CodecPlugin, autojump_clock: MockClock) -> None:
    subject = Subject(plugin)
    wire = conversation(subject)

    async def handle(request: Request) -> Response:
        try:
            while isinstance(await request.body.receive(), bytes):
                pass
        except trio.EndOfChannel:
            pass
        return Response(subject.response, BytesBody(b"an answer"))

    for cut in range(len(wire) + 1):
        async with proxy_pair(plugin, handler=handle, first=wire[:cut]) as pair:
            if wire[cut:]:
                await pair.client.raw.send_all(wire[cut:])
            await wait_all_tasks_blocked()
            await pair.client.send_eof()
            there = await received(pair.client.raw)
            stats = pair.stats
            assert (cut, stats.downstream_rx_bytes_total) == (cut, len(wire))
            assert (cut, stats.downstream_tx_bytes_total) == (cut, there)
            assert there


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda plugin: plugin.name)
async def test_half_a_request_is_counted_too(
    plugin: CodecPlugin, autojump_clock: MockClock
) -> None:
    subject = Subject(plugin)
    wire = conversation(subject)

    async def handle(request: Request) -> Response:
        return Response(subject.response, BytesBody(b"early"))

    for cut in range(0, len(wire), 7):
        async with proxy_pair(plugin, handler=handle) as pair:
            await pair.client.raw.send_all(wire[:cut])
            await wait_all_tasks_blocked()
            await pair.client.send_eof()
            there = await received(pair.client.raw)
            assert (cut, pair.stats.downstream_rx_bytes_total) == (cut, cut)
            assert (cut, pair.stats.downstream_tx_bytes_total) == (cut, there)
