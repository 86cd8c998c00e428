"""Nothing of a message outlives its stream, in any protocol; with the collector off, so that no cycle keeps one.

Large messages go both ways on connections that stay open; afterwards the process holds next to nothing of them.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import attrs
import pytest
import trio

from tests.live import Live, eventually, reset, running, upstream
from xproxy.codecs.api import Codec, CodecPlugin, SupportsFlow, SupportsStreamIds, supports
from xproxy.model.frames import Data, Frame, GoAway, Head, Reply, Trailers, Violation
from xproxy.model.limits import DEFAULT_LIMITS, KIB, MIB
from xproxy.model.message import RequestHead, ResponseHead
from xproxy.model.traits import Role, Sharing
from xproxy.registry import default_registry
from xproxy.testing import Party
from xproxy.testing.subject import Subject
from xproxy.testing.traffic import greet

_LARGE: Final = 2 * MIB
_CALLS: Final = 3
_CLIENTS: Final = 4
_ALLOWED: Final = 1 * MIB
"""Less than one message of the 2 × 12 that went through; what connections themselves take is far below it."""

_PLUGINS: Final = [
    plugin for plugin in default_registry().codecs() if not plugin.traits.server_first
]


@attrs.define(eq=False)
class Peer:
    """One end of a connection, by frames; waiting, it holds nothing."""

    stream: trio.SocketStream
    codec: Codec
    frames: list[Frame] = attrs.field(factory=list)

    async def greet(self) -> None:
        """Say what the protocol says first."""
        for frame in self.codec.receive(b""):
            assert isinstance(frame, Reply)
            await self.stream.send_all(frame.data)

    async def next(self) -> Frame:
        """Return the next frame; replies are written. Raises EndOfChannel."""
        while not self.frames:
            data = bytes(await self.stream.receive_some(256 * KIB))
            if not data:
                raise trio.EndOfChannel
            for frame in self.codec.receive(data):
                if isinstance(
                    frame, Reply
                ):  # at once: an acknowledgement goes before what it permits
                    await self.stream.send_all(frame.data)
                else:
                    assert not isinstance(frame, Violation | GoAway), frame
                    self.frames.append(frame)
        return self.frames.pop(0)

    async def hear(self) -> tuple[Head, int]:
        """Return the head of the next message, without data, and how long its body was."""
        head, size, over = None, 0, False
        while not over:
            frame = await self.next()
            if isinstance(frame, Head):
                head = Head(frame.stream_id, frame.message)
                size, over = len(frame.data), frame.end
                await self.stream.send_all(self.consumed(frame.stream_id, len(frame.data)))
            elif isinstance(frame, Data):
                size, over = size + len(frame.data), frame.end
                await self.stream.send_all(self.consumed(frame.stream_id, len(frame.data)))
            elif isinstance(frame, Trailers):
                over = True
        assert head is not None
        return head, size

    def consumed(self, stream_id: int, count: int) -> bytes:
        """Give credit back, where there is such a thing."""
        if supports(self.codec, SupportsFlow) and count:
            return self.codec.consumed(stream_id, count)
        return b""

    async def say(self, head: Head, body: bytes, *, pieces: bool) -> None:
        """Send a message."""
        if not pieces:
            await self.stream.send_all(self.codec.send(attrs.evolve(head, data=body, end=True)))
            return
        await self.stream.send_all(self.codec.send(head))
        while body:
            size = 64 * KIB
            if supports(self.codec, SupportsFlow):
                size = min(size, self.codec.sendable(head.stream_id))
            if not size:
                found = await self.next()
                assert not isinstance(found, Head | Data), found
                continue
            piece, body = body[:size], body[size:]
            sent = self.codec.send(Data(head.stream_id, piece, not body))
            await self.stream.send_all(sent)


@contextmanager
def without_collector() -> Iterator[None]:
    """Nothing but the count of references frees anything in here."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()
        gc.collect()


def configuration(protocol: str, port: int) -> str:
    # Routes that look at heads, and a filter that changes them: whatever remembers heads is there.
    return f"""
listeners:
  - name: edge
    address: 127.0.0.1:0
    codecs: [{protocol}]
    filters: [{{name: access_log, path: /dev/null}}]
    routes: main
routes:
  main:
    - match: {{headers: {{x-never: "1"}}}}
      cluster: up
    - match: {{method: nobody}}
      cluster: up
    - cluster: up
      timeout: 60s
clusters:
  up:
    codec: {protocol}
    endpoints: [127.0.0.1:{port}]
"""


async def _serve(plugin: CodecPlugin, answer: ResponseHead, stream: trio.SocketStream) -> None:
    peer = Peer(stream, plugin.open(Role.SERVER, DEFAULT_LIMITS))
    pieces = plugin.traits.sharing is not Sharing.MESSAGES
    await peer.greet()
    while True:
        try:
            asked, _ = await peer.hear()
        except trio.EndOfChannel:
            return
        await peer.say(Head(asked.stream_id, answer), bytes(_LARGE), pieces=pieces)


async def _call(
    live: Live, plugin: CodecPlugin, request: RequestHead, peers: list[Peer], calls: int
) -> None:
    peer = Peer(await live.connect(), plugin.open(Role.CLIENT, DEFAULT_LIMITS))
    peers.append(peer)
    await peer.greet()
    pieces = plugin.traits.sharing is not Sharing.MESSAGES
    for number in range(calls):
        stream_id = 1 if plugin.traits.sharing is Sharing.SERIAL else 2 * number + 1
        if supports(peer.codec, SupportsStreamIds):
            stream_id = peer.codec.next_stream_id()
        await peer.say(Head(stream_id, request), bytes(_LARGE), pieces=pieces)
        head, size = await peer.hear()
        assert isinstance(head.message, ResponseHead)
        assert size >= _LARGE


def cut(plugin: CodecPlugin, request: RequestHead) -> list[bytes]:
    """Return what a client of the protocol sends up to the middle of a large request."""
    client, server = (plugin.open(role, DEFAULT_LIMITS) for role in (Role.CLIENT, Role.SERVER))
    pieces = [greet(client, server)]
    stream_id = client.next_stream_id() if supports(client, SupportsStreamIds) else 1
    if plugin.traits.sharing is Sharing.MESSAGES:
        pieces.append(client.send(Head(stream_id, request, bytes(_LARGE), True))[: _LARGE // 2])
        return pieces
    pieces.append(client.send(Head(stream_id, request)))
    room = client.sendable(stream_id) if supports(client, SupportsFlow) else _LARGE // 2
    pieces += [
        client.send(Data(stream_id, bytes(16 * KIB)))
        for _ in range(min(room, _LARGE // 2) // (16 * KIB))
    ]
    return pieces


def held() -> int:
    """Return the bytes that Python has allocated since the start of the trace."""
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize(
    "plugin", [p for p in _PLUGINS if not p.traits.headless], ids=lambda plugin: str(plugin.name)
)
async def test_idle_connections_hold_nothing_of_what_went_through(plugin: CodecPlugin) -> None:
    subject = Subject(plugin)
    async with upstream() as server, running(configuration(plugin.name, server.port)) as live:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:

                async def serve(stream: trio.SocketStream) -> None:
                    await _serve(plugin, subject.response, stream)

                nursery.start_soon(server.serve, serve)
                peers: list[Peer] = []
                await _call(live, plugin, subject.request, peers, 1)  # what is made once
                with without_collector():
                    for _ in range(_CLIENTS):
                        await _call(live, plugin, subject.request, peers, _CALLS)
                    await eventually(
                        lambda: held() < _ALLOWED, f"less than {_ALLOWED} bytes, not {held()}"
                    )
                assert live.stats().downstream_cx_active == len(peers)
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "plugin", [p for p in _PLUGINS if not p.traits.headless], ids=lambda plugin: str(plugin.name)
)
@pytest.mark.parametrize("breaks", ["client", "upstream"])
async def test_what_broke_off_leaves_nothing(plugin: CodecPlugin, breaks: str) -> None:
    subject = Subject(plugin)
    pieces = cut(plugin, subject.request)
    sent = sum(map(len, pieces))

    async def serve(stream: trio.SocketStream) -> None:
        size = 0
        while breaks == "client" or size < sent // 2:
            data = await stream.receive_some(64 * KIB)
            size += len(data)
            if not data:
                return
        reset(Party("peer", stream))

    async def half(live: Live) -> None:
        before = live.stats().downstream_cx_total
        stream = await live.connect()
        with suppress(trio.BrokenResourceError):
            for piece in pieces:
                await stream.send_all(piece)
        await eventually(lambda: live.stats().downstream_cx_total > before, "the connection")
        reset(Party("peer", stream))

    async with upstream() as server, running(configuration(plugin.name, server.port)) as live:
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.serve, serve)
                await half(live)
                with without_collector():
                    for _ in range(2 * _CLIENTS):
                        await half(live)
                    await live.settled()
                    await eventually(
                        lambda: held() < _ALLOWED, f"less than {_ALLOWED} bytes, not {held()}"
                    )
                nursery.cancel_scope.cancel()
