"""The kit's own proxy in memory: it forwards, applies filters, keeps time, and finds what leaks."""

from __future__ import annotations

import re

import attrs
import pytest
import trio
from trio.testing import MockClock

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.opaque.plugin import PLUGIN as OPAQUE
from xproxy.config.schema import TimeoutsConfig
from xproxy.model.frames import Head
from xproxy.model.limits import DEFAULT_LIMITS, Duration
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.testing import END
from xproxy.testing.fakes import LINES, PIECES
from xproxy.testing.proxy import proxy_pair

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


@attrs.frozen
class Mark:
    """Write a name behind the method of each request."""

    name: str

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        request.head = attrs.evolve(request.head, method=request.head.method + self.name)
        return await call_next(request)


async def test_http_goes_through(autojump_clock: MockClock) -> None:
    async with proxy_pair(HTTP1, filters=[Mark("A"), Mark("B")]) as pair:
        await pair.client.send(GET)
        upstream = await pair.accept()
        await upstream.expect(re.compile(rb"GETAB /a HTTP/1\.1\r\n(?s:.*?)\r\n\r\n"))
        await upstream.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        await pair.client.expect(re.compile(rb"HTTP/1\.1 204 (?s:.*?)\r\n\r\n"))
        assert pair.stats.statuses == {Status.OK: 1}


@pytest.mark.parametrize("plugin", [LINES, PIECES, BOLT])
async def test_shared_connections_go_through(
    plugin: CodecPlugin, autojump_clock: MockClock
) -> None:
    client, server = (plugin.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER))
    async with proxy_pair(plugin) as pair:
        head = RequestHead(service="s", method="m")
        await pair.client.send(client.send(Head(1, head, b"ask", True)))
        upstream = await pair.accept()
        [asked, *_] = server.receive(bytes(await upstream.raw.receive_some()))
        assert isinstance(asked, Head)
        answer = Head(asked.stream_id, ResponseHead(status=Status.OK), b"answer", True)
        await upstream.send(server.send(answer))
        [answered, *_] = client.receive(bytes(await pair.client.raw.receive_some()))
        assert isinstance(answered, Head)
        assert answered.stream_id == 1


async def test_l4_goes_through(autojump_clock: MockClock) -> None:
    async with proxy_pair(OPAQUE) as pair:
        await pair.client.send(b"ping")
        upstream = await pair.accept()
        await upstream.expect(b"ping")
        await upstream.send(b"pong")
        await pair.client.expect(b"pong")
        await upstream.send_eof()
        await pair.client.expect(END)


async def test_timeouts_take_virtual_time(autojump_clock: MockClock) -> None:
    limits = TimeoutsConfig(idle=Duration(60.0))
    async with proxy_pair(HTTP1, timeouts=limits) as pair:
        await trio.sleep(61)
        await pair.client.expect(END)
        assert pair.ended.is_set()


async def test_a_handler_can_stand_in_for_the_upstream(autojump_clock: MockClock) -> None:
    async def handle(_request: Request) -> Response:
        return Response(ResponseHead(status=Status.OK, native_status=200), BytesBody(b"here"))

    async with proxy_pair(HTTP1, handler=handle, first=GET) as pair:
        await pair.client.expect(re.compile(rb"HTTP/1\.1 200 OK\r\n(?s:.*?)\r\n\r\nhere"))


async def test_what_stays_counted_is_found(autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="still leased"):
        async with proxy_pair(HTTP1) as pair:
            pair.connector.leased += 1
    with pytest.raises(AssertionError, match="still counted as active"):
        async with proxy_pair(HTTP1) as pair:
            pair.stats.downstream_rq_active += 1
