"""What tests of HTTP/1.1 connections have in common: messages, patterns, handlers."""

from __future__ import annotations

import re
from typing import Final

import trio

from xproxy.config.schema import TimeoutsConfig
from xproxy.model.limits import Duration
from xproxy.model.message import ResponseHead
from xproxy.model.status import Status
from xproxy.stream.body import Body, BytesBody
from xproxy.stream.exchange import Handler, Request, Response
from xproxy.testing.proxy import ProxyPair

GET: Final = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST_10: Final = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n"
POST_CHUNKED: Final = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
OK: Final = ResponseHead(status=Status.OK, native_status=200)
OK_2: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def response(code: int) -> re.Pattern[bytes]:
    """Match a whole response of this code, whose body is one line."""
    return re.compile(rb"HTTP/1\.1 %d [^\r]*(?s:.*?)\r\n\r\n(?:(?!HTTP/1)[^\r])*" % code)


def head(code: int) -> re.Pattern[bytes]:
    return re.compile(rb"HTTP/1\.1 %d [^\r]*(?s:.*?)\r\n\r\n" % code)


REQUEST_HEAD: Final = re.compile(rb"[A-Z]+ /a HTTP/1\.1\r\n(?s:.*?)\r\n\r\n")


def timeouts(**seconds: float) -> TimeoutsConfig:
    return TimeoutsConfig(**{name: Duration(value) for name, value in seconds.items()})


async def ok(_request: Request) -> Response:
    return Response(OK, BytesBody(b"ok"))


class Holding:
    """A handler that waits until it is let go, and notes how it ended."""

    def __init__(self) -> None:
        self.entered = 0
        self.cancelled = 0
        self.go = trio.Event()

    async def __call__(self, request: Request) -> Response:
        self.entered += 1
        try:
            await self.go.wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return await ok(request)


def answering(body: Body, head_: ResponseHead = OK) -> Handler:
    async def handle(_request: Request) -> Response:
        return Response(head_, body)

    return handle


async def broken_message(pair: ProxyPair, *, code: int = 200) -> bytes:
    """Return what the client got behind a head of this code; the connection must have ended then."""
    await pair.client.expect(head(code))
    got = bytes(pair.client.received)
    pair.client.received.clear()
    try:
        while piece := await pair.client.raw.receive_some():
            got += piece
    except trio.BrokenResourceError:
        pass
    await pair.ended.wait()
    return got


def limited(seconds: float, then: Handler) -> Handler:
    async def handle(request: Request) -> Response:
        request.stream.limit(request.started + seconds)
        return await then(request)

    return handle
