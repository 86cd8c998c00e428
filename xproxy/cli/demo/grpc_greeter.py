"""The demo's call of gRPC, and the server that answers it: one message there, one back, over the codec ``http2``."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from xproxy.cli.demo.calls import PATIENCE, Call, CallFailed, judge, more
from xproxy.codecs.api import CodecPlugin, SupportsStreamIds
from xproxy.model.frames import Data, Head, Reply, Reset, Trailers, Violation
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import RequestHead, ResponseHead, Rpc, Target
from xproxy.model.status import Status
from xproxy.model.traits import Role

_TYPE: Final = ("content-type", "application/grpc")
_PREFIX_BYTES: Final = 5


def _message(text: bytes) -> bytes:
    # Not compressed, and how long it is (grpc/doc/PROTOCOL-HTTP2.md, Length-Prefixed-Message).
    return b"\x00" + len(text).to_bytes(4) + text


def grpc_call(plugin: CodecPlugin, service: str, method: str, content: bytes) -> Call:
    """Return a unary call."""
    codec = plugin.open(Role.CLIENT, DEFAULT_LIMITS)
    first = b"".join(frame.data for frame in codec.receive(b"") if isinstance(frame, Reply))
    head = RequestHead(
        service="demo.local",
        method="POST",
        headers=Headers((_TYPE, ("te", "trailers"))),
        deadline=PATIENCE,
        extra=Target(path=f"/{service}/{method}", rpc=Rpc("grpc", service, method)),
    )

    def request() -> bytes:
        stream_id = codec.next_stream_id() if isinstance(codec, SupportsStreamIds) else 1
        return codec.send(Head(stream_id, head, _message(content), end=True))

    async def finish(stream: trio.SocketStream) -> str:
        body = b""
        while True:
            for frame in codec.receive(await more(stream)):
                match frame:
                    case Head(message=ResponseHead(status=status)) if frame.end:
                        raise CallFailed(status.label)
                    case Head() | Data():
                        body += frame.data
                    case Trailers(status=Status() as status):
                        sent = f"{service}.{method} {content.decode()}"
                        return judge(status.label, status is Status.OK, body[_PREFIX_BYTES:], sent)
                    case Reply(owed):
                        await stream.send_all(owed)
                    case Violation() | Reset():
                        raise CallFailed(f"the answer is broken: {frame}")

    return Call(
        protocol="gRPC",
        asks=f"{service.rpartition('.')[2]}.{method}",
        first_bytes=first + request(),
        again=request,
        finish=finish,
    )


@attrs.define
class _Asked:
    """A call whose message has not come whole."""

    head: RequestHead
    body: bytes = b""


async def greeter(plugin: CodecPlugin, name: str, stream: trio.SocketStream) -> None:
    """Answer calls of gRPC: who answers, and what was sent."""
    codec = plugin.open(Role.SERVER, DEFAULT_LIMITS)
    calls: dict[int, _Asked] = {}
    async for data in stream:
        for frame in codec.receive(bytes(data)):
            match frame:
                case Reply(owed):
                    await stream.send_all(owed)
                case Head(stream_id, RequestHead() as head):
                    calls[stream_id] = _Asked(head, frame.data)
                case Data(stream_id, piece) if stream_id in calls:
                    calls[stream_id].body += piece
                case Reset(stream_id):
                    calls.pop(stream_id, None)
                case Violation():
                    return
            if isinstance(frame, Head | Data) and frame.end:
                asked = calls.pop(frame.stream_id)
                rpc = asked.head.rpc
                called = f"{rpc.service}.{rpc.method}" if rpc is not None else asked.head.path
                told = f"{name} got {called} ".encode() + asked.body[_PREFIX_BYTES:]
                answer = ResponseHead(
                    status=Status.OK, native_status=200, headers=Headers((_TYPE,))
                )
                for part in (
                    Head(frame.stream_id, answer),
                    Data(frame.stream_id, _message(told)),
                    Trailers(frame.stream_id, Headers((("grpc-status", "0"),))),
                ):
                    await stream.send_all(codec.send(part))
