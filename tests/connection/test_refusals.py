"""What a codec refuses by itself is counted, and is in the access log: in every protocol of shared connections."""

from __future__ import annotations

import hpack
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xproxy.codecs.api import CodecPlugin
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.dubbo.plugin import PLUGIN as DUBBO
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.codecs.http2.wire import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    frame,
    settings,
)
from xproxy.codecs.thrift.plugin import PLUGIN as THRIFT
from xproxy.filters.access_log import AccessLog
from xproxy.model.frames import Head
from xproxy.model.limits import Limits
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import Request, Response
from xproxy.testing import proxy_pair
from xproxy.testing.subject import Subject
from xproxy.testing.traffic import greet

LOG = AccessLog(template='%protocol% %response_code% %status% %response_flags% "%detail%"')
FEW = Limits(max_streams=2)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(
        "xproxy.observe.log_writer.LineWriter.write", lambda _self, line: found.append(line)
    )
    return found


def block(*pairs: tuple[str, str]) -> bytes:
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in pairs])


def headers(stream_id: int, *pairs: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block(*pairs))


GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"))


@pytest.mark.parametrize(
    ("pairs", "line"),
    [
        ((*GET, (":path", "/x")), 'http2 0 invalid-argument DPE "'),
        ((*GET, ("connection", "close")), 'http2 0 invalid-argument DPE "'),
        ((*GET, ("content-length", "5")), 'http2 0 invalid-argument DPE "no body'),
        ((*GET, *((f"x-{i}", "y") for i in range(300))), 'http2 431 invalid-argument DPE "'),
    ],
)
async def test_http2(
    pairs: tuple[tuple[str, str], ...], line: str, autojump_clock: MockClock, logged: list[str]
) -> None:
    async with proxy_pair(HTTP2, filters=[LOG]) as pair:
        await pair.client.raw.send_all(PREFACE + settings([]) + headers(1, *pairs))
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_rq_refused == 1
        assert pair.stats.statuses == {Status.INVALID_ARGUMENT: 1}
        assert len(logged) == 1
        assert logged[0].startswith(line)


async def hold(_request: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


@pytest.mark.parametrize("plugin", [HTTP2, BOLT, DUBBO, THRIFT], ids=lambda p: p.name)
async def test_too_many_at_a_time(
    plugin: CodecPlugin, autojump_clock: MockClock, logged: list[str]
) -> None:
    subject = Subject(plugin)
    client, server = subject.open(Role.CLIENT), subject.open(Role.SERVER)
    wire = greet(client, server)
    for number in range(5):
        wire += client.send(Head(2 * number + 1, subject.request, b"", True))
    async with proxy_pair(plugin, handler=hold, filters=[LOG], limits=FEW, max_streams=2) as pair:
        await pair.client.raw.send_all(wire)
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_rq_active == 2
        assert pair.stats.downstream_rq_refused == 3
        assert sum(pair.stats.statuses.values()) == 3
        assert len(logged) == 3
        assert all(plugin.name in line for line in logged)


@pytest.mark.parametrize(
    ("plugin", "wire"),
    [
        # A request whose id can be read, and whose rest cannot.
        (BOLT, bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 7FFFFFFF")),
        (HTTP1, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ],
    ids=["bolt", "http1"],
)
async def test_what_cannot_be_read(
    plugin: CodecPlugin, wire: bytes, autojump_clock: MockClock, logged: list[str]
) -> None:
    async with proxy_pair(plugin, handler=hold, filters=[LOG]) as pair:
        await pair.client.raw.send_all(wire)
        await pair.client.raw.send_eof()
        await pair.ended.wait()
        assert pair.stats.downstream_rq_refused == 1
        assert pair.stats.statuses == {Status.INVALID_ARGUMENT: 1}
        assert len(logged) == 1
        assert "invalid-argument DPE" in logged[0]


async def test_what_was_served_is_no_refusal(autojump_clock: MockClock, logged: list[str]) -> None:
    async def handle(_request: Request) -> Response:
        return Response(Subject(BOLT).response, BytesBody())

    subject = Subject(BOLT)
    wire = subject.open(Role.CLIENT).send(Head(1, subject.request, b"", True))
    async with proxy_pair(BOLT, handler=handle, filters=[LOG]) as pair:
        await pair.client.raw.send_all(wire)
        await wait_all_tasks_blocked()
        assert pair.stats.downstream_rq_refused == 0
    assert len(logged) == 1
