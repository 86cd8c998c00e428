"""Connected streams for tests: our end as a ByteStream, the peer's as a plain Trio stream."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeAlias

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from tests.transport.tls.kit import SslPeer, tls_pair
from xproxy.model.address import Address
from xproxy.transport.poller import PolledSocket, Poller
from xproxy.transport.stream import ByteStream
from xproxy.transport.trio_stream import TrioStream
from xproxy.transport.turns import Turns

HERE: Final = Address("127.0.0.1", 1)
THERE: Final = Address("127.0.0.1", 2)
PATIENCE: Final = 60.0
"""Seconds after which a test with real sockets has hung."""

Peer: TypeAlias = trio.abc.HalfCloseableStream


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Return a connected pair with small buffers, so that a peer that does not read is soon noticed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Before connecting: the window is agreed on then.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.setblocking(False)
    return ours, theirs


def unix_pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


def trio_stream_of(sock: socket.socket) -> trio.SocketStream:
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def reset(peer: Peer) -> None:
    """Close the peer's end with RST."""
    if isinstance(peer, SslPeer):
        peer = peer.transport
    assert isinstance(peer, trio.SocketStream)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.socket.close()


@contextlib.asynccontextmanager
async def polling(turns: Callable[[Poller], Turns] | None = None) -> AsyncIterator[Poller]:
    """Run a poller, with ``turns`` of the test's; every socket must be forgotten in the end."""
    poller = Poller()
    if turns is not None:
        poller.turns = turns(poller)
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                yield poller
                nursery.cancel_scope.cancel()
        assert len(poller) == 0
    finally:
        poller.close()


@contextlib.asynccontextmanager
async def polled(
    pair: Callable[[], tuple[socket.socket, socket.socket]] = tcp_pair,
    turns: Callable[[Poller], Turns] | None = None,
) -> AsyncIterator[tuple[PolledSocket, trio.SocketStream]]:
    """Give a polled socket and its peer."""
    async with polling(turns) as poller:
        ours, theirs = pair()
        peer = trio_stream_of(theirs)
        stream = poller.add(ours, THERE, HERE)
        try:
            yield stream, peer
        finally:
            stream.close()
            peer.socket.close()


@contextlib.asynccontextmanager
async def trio_stream(
    pair: Callable[[], tuple[Peer, Peer]],
) -> AsyncIterator[tuple[TrioStream, Peer]]:
    """Give a Trio stream as a ByteStream, and its peer. ``run`` must end once the stream is closed."""
    ours, theirs = pair()
    stream = TrioStream(ours, THERE, HERE)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.run)
            try:
                yield stream, theirs
            finally:
                stream.close()
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(theirs)


def socket_streams() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, theirs = tcp_pair()
    return trio_stream_of(ours), trio_stream_of(theirs)


@contextlib.asynccontextmanager
async def connected(kind: str) -> AsyncIterator[tuple[ByteStream, Peer]]:
    """Give a pair of any of ``KINDS``."""
    if kind == "polled-tcp":
        async with polled(tcp_pair) as pair:
            yield pair
    elif kind == "polled-unix":
        async with polled(unix_pair) as pair:
            yield pair
    elif kind == "trio-tcp":
        async with trio_stream(socket_streams) as trio_pair:
            yield trio_pair
    elif kind == "trio-memory":
        async with trio_stream(memory_stream_pair) as trio_pair:
            yield trio_pair
    elif kind.startswith("tls"):
        async with tls_pair(resumed="resumed" in kind) as tls:
            yield tls
    else:
        async with trio_stream(lockstep_stream_pair) as trio_pair:
            yield trio_pair


KINDS: Final = (
    "polled-tcp",
    "polled-unix",
    "trio-tcp",
    "trio-memory",
    "trio-lockstep",
    "tls-tcp",
    "tls-resumed-tcp",
)
BOUNDED: Final = tuple(kind for kind in KINDS if kind != "trio-memory")
"""Those whose peer can refuse to take more."""
