"""The demo's clients against the demo's upstreams, without a proxy between them."""

from __future__ import annotations

import functools

import pytest
import trio

from xproxy.cli.demo.calls import (
    Call,
    CallFailed,
    ask,
    frames_get,
    http_get,
    rpc_call,
    tcp_echo,
)
from xproxy.cli.demo.upstreams import Serve, echo, rpc, start, web
from xproxy.codecs.bolt.plugin import PLUGIN as BOLT
from xproxy.codecs.http2.plugin import PLUGIN as HTTP2
from xproxy.model.frames import Data, Head, Reply
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role


async def _call(call: Call, serve: Serve) -> tuple[str, str]:
    """Ask on one connection, and again."""
    async with trio.open_nursery() as nursery:
        address = await start(nursery, serve)
        try:
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                first = await ask(call, stream, call.first_bytes)
                return first, await ask(call, stream, call.again())
        finally:
            nursery.cancel_scope.cancel()
    raise AssertionError("not reached")


async def frames(stream: trio.SocketStream) -> None:
    """Answer as ``web`` does, in HTTP/2."""
    codec = HTTP2.open(Role.SERVER, DEFAULT_LIMITS)
    async for data in stream:
        for frame in codec.receive(bytes(data)):
            if isinstance(frame, Reply):
                await stream.send_all(frame.data)
            elif isinstance(frame, Head):
                assert isinstance(frame.message, RequestHead)
                head = Head(frame.stream_id, ResponseHead(status=Status.OK))
                body = f"w got GET {frame.message.path} HTTP/1.1".encode()
                await stream.send_all(codec.send(head))
                await stream.send_all(codec.send(Data(frame.stream_id, body, end=True)))


async def test_each_protocol() -> None:
    assert await _call(http_get("/x"), functools.partial(web, "w")) == ("200 from w",) * 2
    call = rpc_call(BOLT, "Bolt", "a.B", "c", b"hi")
    assert (call.asks, call.protocol) == ("B.c", "Bolt")
    assert await _call(call, functools.partial(rpc, BOLT, "b")) == ("ok from b",) * 2
    assert await _call(frames_get(HTTP2, "h2", "/x"), frames) == ("200 from w",) * 2
    assert await _call(tcp_echo(b"raw"), echo) == ("3 bytes back",) * 2


@pytest.mark.parametrize(
    ("call", "answer", "reason"),
    [
        (http_get("/x"), b"", "closed before the answer was complete"),
        (http_get("/x"), b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "200: hi"),
        (http_get("/x"), b"HTTP/1.1 404 Not Found\r\n\r\n", "404: "),
        (rpc_call(BOLT, "Bolt", "a.B", "c", b""), b"what", "the answer is broken: "),
        (frames_get(HTTP2, "h2", "/x"), b"HTTP/1.1 200 OK", "the answer is broken: "),
        (tcp_echo(b"raw"), b"cooked", "3 bytes went out, 6 other ones came back"),
    ],
)
async def test_wrong_answers_are_failures(call: Call, answer: bytes, reason: str) -> None:
    async def lie(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    with pytest.raises(ExceptionGroup) as caught:
        await _call(call, lie)
    (failure,) = caught.value.exceptions
    assert isinstance(failure, CallFailed)
    assert reason in str(failure)
