"""Detection for every prefix, and the kit's whole list of rules."""

from __future__ import annotations

import pytest

from tests.codecs.http2.driving import plugin_with, recordings, replies
from xproxy.codecs.api import (
    NO,
    NO_HINT,
    YES,
    Hint,
    RestoringPlugin,
    SupportsFlow,
    SupportsGoAway,
    SupportsHeartbeat,
    SupportsLocalReply,
    SupportsNativeStatus,
    SupportsSnapshot,
    VerdictKind,
)
from xproxy.codecs.http1.plugin import PLUGIN as HTTP1
from xproxy.codecs.http2.limits import Http2Limits
from xproxy.codecs.http2.plugin import PLUGIN
from xproxy.codecs.http2.wire import PREFACE
from xproxy.model.frames import Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS, Size
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role
from xproxy.testing import Samples, check_codec

ANSWERED_TOO_SOON = ("grpc-cancel", "grpc-deadline", "grpc-unary")
"""The kit answers at once what these clients reset later, or what they should not have sent."""


def test_the_preface_decides() -> None:
    wire = PREFACE + b"\0\0\0\x04"
    for size in range(len(wire) + 1):
        verdict = PLUGIN.detect(wire[:size], NO_HINT)
        if size < 24:
            assert verdict.kind is VerdictKind.MORE
            assert size < verdict.at_least <= 24
        else:
            assert verdict is YES


@pytest.mark.parametrize("size", range(1, 25))
def test_any_other_byte_decides_at_once(size: int) -> None:
    assert PLUGIN.detect(PREFACE[: size - 1] + b"\x01", NO_HINT) is NO


def test_an_agreed_protocol_settles_it() -> None:
    assert PLUGIN.detect(b"", Hint(tls=True, alpn="h2")) is YES
    assert PLUGIN.detect(PREFACE, Hint(tls=True, alpn="http/1.1")) is NO


def test_all_rules_of_the_kit_hold() -> None:
    recorded = [r.requests for r in recordings() if not r.name.startswith(ANSWERED_TOO_SOON)]
    assert len(recorded) >= 11
    check_codec(PLUGIN, samples=Samples(recorded=tuple(recorded)))


def test_all_rules_hold_with_tight_limits_of_its_own() -> None:
    own = Http2Limits(
        max_concurrent_streams=None,
        stream_window_bytes=Size(1000),
        connection_window_bytes=Size(70_000),
        table_bytes=Size(100),
        extended_connect=True,
    )
    check_codec(plugin_with(own))


def test_the_plugin_says_what_it_can_do() -> None:
    assert isinstance(PLUGIN, RestoringPlugin)
    assert isinstance(PLUGIN, SupportsNativeStatus)
    assert isinstance(PLUGIN, SupportsLocalReply)
    assert PLUGIN.traits.alpn == ("h2",)
    assert PLUGIN.traits.family == HTTP1.traits.family
    for role in Role:
        codec = PLUGIN.open(role, DEFAULT_LIMITS)
        for can in (SupportsFlow, SupportsGoAway, SupportsHeartbeat, SupportsSnapshot):
            assert isinstance(codec, can)


def test_codes_are_those_of_the_family() -> None:
    for code in range(-1, 1000):
        assert PLUGIN.status_of(code) is HTTP1.status_of(code)
    for status in Status:
        head = ResponseHead(status=status)
        assert PLUGIN.code_of(head) == HTTP1.code_of(head)


class TestConversion:
    """What one version read the other one writes, with nothing lost that is end to end."""

    def test_from_1_to_2_and_back(self) -> None:
        wire = (
            b"POST /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nConnection: x-hop, te\r\nX-Hop: 1\r\n"
            b"TE: trailers\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nX-End: to end\r\nCookie: a=b; c=d\r\n"
            b"Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
        )
        first = HTTP1.open(Role.SERVER, DEFAULT_LIMITS).receive(wire)
        client, server = (PLUGIN.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER))
        second = server.receive(b"".join(client.send(frame) for frame in first))
        (head,) = [f for f in second if isinstance(f, Head)]
        message = head.message
        assert isinstance(message, RequestHead)
        assert message.extra == Target(path="/a?b=c", scheme="http", version="2")
        assert dict(message.headers) == {
            "te": "trailers",
            "x-end": "to end",
            "cookie": "a=b; c=d",
            "trailer": "x-sum",
        }
        back = HTTP1.open(Role.CLIENT, DEFAULT_LIMITS)
        told = [f for f in second if not isinstance(f, Reply)]
        raw = b"".join(back.send(f) for f in told)
        assert raw.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\n")
        assert raw.endswith(b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
        assert b"TE: trailers\r\nConnection: TE\r\n" in raw

    def test_a_response_from_1_to_2(self) -> None:
        upstream = HTTP1.open(Role.CLIENT, DEFAULT_LIMITS)
        client, server = (PLUGIN.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER))
        request = RequestHead(service="a", method="GET", extra=Target(path="/"))
        upstream.send(Head(1, request, b"", True))
        greeting = replies(server.receive(client.send(Head(1, request, b"", True))))
        (head,) = upstream.receive(
            b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: keep-alive\r\nDate: now\r\n\r\nhi"
        )
        frames = client.receive(greeting + server.send(head))
        (got,) = [f for f in frames if isinstance(f, Head)]
        assert isinstance(got.message, ResponseHead)
        assert got.message.native_status == 200
        assert got.message.headers.pairs == (("content-length", "2"), ("date", "now"))
        assert (got.data, got.end) == (b"hi", True)
