"""The demo's clients: each asks over a connection of its own, once and again."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import trio

from xproxy.cli.demo.forms import form_of
from xproxy.codecs.api import CodecPlugin, SupportsStreamIds
from xproxy.model.frames import Data, Head, Reply, Reset, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

PATIENCE: Final = 5.0
"""Seconds until a demo request counts as failed."""


class CallFailed(Exception):
    """The answer was not what it should be."""


@attrs.frozen(kw_only=True)
class Call:
    """One request of the demo."""

    protocol: str
    """As people call it."""
    asks: str
    """The request in few words."""
    first_bytes: bytes
    """What the client sends, from the first byte."""
    again: Callable[[], bytes]
    """Gives what it sends on the same connection to ask once more."""
    finish: Callable[[trio.SocketStream], Awaitable[str]]
    """Reads the answer and says what it was. Raises CallFailed."""


async def ask(call: Call, stream: trio.SocketStream, request: bytes) -> str:
    """Send a request of the call and return its result. Raises CallFailed, also when it takes too long."""
    try:
        with trio.fail_after(PATIENCE):
            await stream.send_all(request)
            return await call.finish(stream)
    except trio.TooSlowError as exc:
        raise CallFailed(f"no answer in {PATIENCE:.0f} s") from exc
    except (OSError, trio.BrokenResourceError) as exc:
        raise CallFailed(f"the connection broke: {exc}") from exc


def http_get(path: str) -> Call:
    """Return a GET."""
    request = f"GET {path} HTTP/1.1\r\nhost: demo.local\r\nuser-agent: xproxy-demo\r\n\r\n".encode()

    async def finish(stream: trio.SocketStream) -> str:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await more(stream)
        head, _, body = data.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        length = next(
            (int(f.partition(":")[2]) for f in fields if f.lower().startswith("content-length:")), 0
        )
        while len(body) < length:
            body += await more(stream)
        code = status.split()[1]
        return judge(code, code == "200", body, f"GET {path} HTTP/1.1")

    return Call(
        protocol="HTTP/1.1",
        asks=f"GET {path}",
        first_bytes=request,
        again=lambda: request,
        finish=finish,
    )


def frames_get(plugin: CodecPlugin, label: str, path: str) -> Call:
    """Return a GET in a protocol that carries web requests in frames."""
    codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    first = b"".join(frame.data for frame in codec.receive(b"") if isinstance(frame, Reply))
    head = RequestHead(service="demo.local", method="GET", extra=Target(path=path))

    def request() -> bytes:
        stream_id = codec.next_stream_id() if isinstance(codec, SupportsStreamIds) else 1
        return codec.send(Head(stream_id, head, end=True))

    async def finish(stream: trio.SocketStream) -> str:
        status, body = "", b""
        while True:
            for frame in codec.receive(await more(stream)):
                match frame:
                    case Head(message=ResponseHead() as answer):
                        status = str(answer.native_status)
                        body += frame.data
                    case Data():
                        body += frame.data
                    case Reply(owed):
                        await stream.send_all(owed)
                    case Violation() | Reset():
                        raise CallFailed(f"the answer is broken: {frame}")
                if isinstance(frame, Head | Data) and frame.end:
                    return judge(status, status == "200", body, f"GET {path} HTTP/1.1")

    return Call(
        protocol=label,
        asks=f"GET {path}",
        first_bytes=first + request(),
        again=request,
        finish=finish,
    )


def rpc_call(plugin: CodecPlugin, label: str, service: str, method: str, content: bytes) -> Call:
    """Return a call in any protocol whose messages come whole."""
    codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    headers = Headers((("service", service), ("method", method)))
    head = RequestHead(service=service, method=method, headers=headers, deadline=PATIENCE)
    form = form_of(plugin.name)
    numbers = itertools.count(1)

    def request() -> bytes:
        return codec.send(Head(next(numbers), head, form.write(content), end=True))

    async def finish(stream: trio.SocketStream) -> str:
        while True:
            for frame in codec.receive(await more(stream)):
                match frame:
                    case Head(message=ResponseHead() as answer, data=body):
                        ok = answer.status is Status.OK
                        sent = f"{service}.{method} {_text(content)}"
                        return judge(answer.status.label, ok, form.read(body), sent)
                    case Violation():
                        raise CallFailed(f"the answer is broken: {frame.detail}")

    return Call(
        protocol=label,
        asks=f"{service.rpartition('.')[2]}.{method}",
        first_bytes=request(),
        again=request,
        finish=finish,
    )


def tcp_echo(content: bytes) -> Call:
    """Return bytes of no protocol at all, which must come back as they are."""

    async def finish(stream: trio.SocketStream) -> str:
        data = b""
        while len(data) < len(content):
            data += await more(stream)
        if data != content:
            raise CallFailed(f"{len(content)} bytes went out, {len(data)} other ones came back")
        return f"{len(data)} bytes back"

    asks = f"{len(content)} bytes"
    return Call(
        protocol="raw TCP",
        asks=asks,
        first_bytes=content,
        again=lambda: content,
        finish=finish,
    )


def judge(status: str, ok: bool, body: bytes, sent: str) -> str:
    """Return who answered. Raises CallFailed unless an upstream says that it got what was sent."""
    name, _, got = _text(body).partition(" got ")
    if not ok or got != sent:
        raise CallFailed(f"{status}: {_text(body)}")
    return f"{status} from {name}"


async def more(stream: trio.SocketStream) -> bytes:
    """Return the next bytes. Raises CallFailed where there are none."""
    data = await stream.receive_some()
    if not data:
        raise CallFailed("the connection was closed before the answer was complete")
    return bytes(data)


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "replace").strip()
    return text if len(text) <= 100 else text[:97] + "…"
