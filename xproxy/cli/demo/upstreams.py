"""The demo's upstreams: small servers on loopback, one a protocol."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from xproxy.cli.demo.forms import form_of
from xproxy.codecs.api import CodecPlugin, SupportsNativeStatus
from xproxy.model.address import Address
from xproxy.model.frames import Head, Reply, Violation
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.status import Status
from xproxy.model.traits import Role

_CHUNK: Final = 65536
_MAX_HEAD: Final = 16 * 1024

Serve = Callable[[trio.SocketStream], Awaitable[None]]


async def start(nursery: trio.Nursery, serve: Serve) -> Address:
    """Serve on a free port of loopback until ``nursery`` ends; returns where."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(functools.partial(trio.serve_listeners, _quietly(serve), listeners))
    host, port = listeners[0].socket.getsockname()
    return Address(host, port)


def _quietly(serve: Serve) -> Serve:
    async def guarded(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await serve(stream)
            except trio.BrokenResourceError:
                return  # the proxy has hung up; that is its right

    return guarded


async def echo(stream: trio.SocketStream) -> None:
    """Give back every byte."""
    async for data in stream:
        await stream.send_all(data)


async def web(name: str, stream: trio.SocketStream) -> None:
    """Answer HTTP/1.1 requests without bodies: who answers, and what was asked."""
    buffer = b""
    async for data in stream:
        buffer += data
        while b"\r\n\r\n" in buffer:
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            asked = head.partition(b"\r\n")[0].decode("latin-1")
            body = f"{name} got {asked}\n".encode()
            lines = (
                "HTTP/1.1 200 OK",
                "content-type: text/plain",
                f"content-length: {len(body)}",
            )
            await stream.send_all("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        if len(buffer) > _MAX_HEAD:
            return


async def rpc(plugin: CodecPlugin, name: str, stream: trio.SocketStream) -> None:
    """Answer the calls of any protocol whose messages come whole: who answers, and what was sent."""
    codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    success = native_success(plugin)
    form = form_of(plugin.name)
    async for data in stream:
        for frame in codec.receive(bytes(data)):
            match frame:
                case Head(stream_id, RequestHead() as asked, body) if not asked.oneway:
                    answer = ResponseHead(status=Status.OK, native_status=success)
                    told = f"{name} got {asked.service}.{asked.method} ".encode() + form.read(body)
                    await stream.send_all(
                        codec.send(Head(stream_id, answer, form.write(told), end=True))
                    )
                case Reply(owed):
                    await stream.send_all(owed)
                case Violation():
                    return


def native_success(plugin: CodecPlugin) -> int | None:
    """Return the protocol's own code for success, or None if it does not say."""
    if not isinstance(plugin, SupportsNativeStatus):
        return None
    return next((code for code in range(256) if plugin.status_of(code) is Status.OK), None)
