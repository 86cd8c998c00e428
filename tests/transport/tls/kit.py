"""TLS for tests: certificates made once, and an OpenSSL peer that shares no code with what is tested."""

from __future__ import annotations

import _ssl
import atexit
import contextlib
import ctypes
import functools
import shutil
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import attrs
import trio

from tests.certificates import Authority, Issued
from tests.live import PATIENCE
from xproxy.model.address import Address
from xproxy.transport.poller import PolledSocket, Poller
from xproxy.transport.tls.contexts import Certificate
from xproxy.transport.tls.libssl import Context, libssl
from xproxy.transport.tls.server import ServerTls, accept
from xproxy.transport.tls.stream import TlsStream, resume

NAME: Final = "edge.test"
SUITES13: Final = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
SUITES12: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
)
SUITES: Final = SUITES13 + SUITES12
_HERE: Final = Address("127.0.0.1", 1)
_THERE: Final = Address("127.0.0.1", 2)
_OPENSSL: Final = ctypes.CDLL(_ssl.__file__)


@functools.cache
def folder() -> Path:
    """Return a folder that lasts as long as the tests."""
    made = tempfile.mkdtemp(prefix="xproxy-tls-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return Path(made)


@functools.cache
def authority() -> Authority:
    return Authority(folder())


@functools.cache
def issued(*names: str) -> Issued:
    return authority().issue(*(names or (NAME,)))


def certificate(*names: str) -> Certificate:
    found = issued(*names)
    return Certificate(str(found.cert), str(found.key))


def server_tls(**options: object) -> ServerTls:
    """Return a server for NAME."""
    options.setdefault("certificates", [certificate()])
    return ServerTls(**options)  # type: ignore[arg-type]  # whatever a test wants to try


def use_suite(context: ssl.SSLContext, suite: str) -> None:
    """Let a context know this suite alone; Python has no name for it where TLS 1.3 is meant."""
    if suite in SUITES13:
        address = ctypes.c_void_p(libssl().address_of(context))
        assert _OPENSSL.SSL_CTX_set_ciphersuites(address, suite.encode()) == 1
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suite)


def client_context(suite: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority().ca))
    if suite is not None:
        use_suite(context, suite)
    return context


def server_context(suite: str | None = None) -> Context:
    context = Context(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued().cert, issued().key)
    if suite is not None:
        use_suite(context, suite)
    return context


class SslPeer(trio.abc.HalfCloseableStream):
    """TLS over a Trio socket by the standard library; an end without close_notify is an error here."""

    def __init__(
        self,
        transport: trio.SocketStream,
        context: ssl.SSLContext,
        *,
        server_name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self.transport = transport
        self._into = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        server = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self.object = context.wrap_bio(
            self._into, self._out, server_side=server, server_hostname=server_name, session=session
        )
        self._ended = False
        self._early = b""
        """Read before anybody asked."""

    def outgoing(self) -> bytes:
        """Take what is to be sent."""
        return self._out.read()

    def incoming(self, data: bytes) -> None:
        """Let it come from the other end."""
        self._into.write(data)

    def seal(self, data: bytes) -> bytes:
        """Take what would be sent for ``data``."""
        self.object.write(data)
        return self.outgoing()

    async def flush(self) -> None:
        """Send what is to be sent."""
        if data := self.outgoing():
            await self.transport.send_all(data)

    async def handshake(self, *, whole: bool = True) -> None:
        """Shake hands; not ``whole``: what is to be sent last is left to whoever takes it."""
        while True:
            try:
                self.object.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self.fill()
            except ssl.SSLError:
                await self.flush()
                raise
            else:
                if whole:
                    await self.flush()
                return

    async def fill(self) -> None:
        """Wait for more from the other end."""
        data = await self.transport.receive_some(65536)
        if not data:
            raise trio.BrokenResourceError("no close_notify")
        self.incoming(bytes(data))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with memoryview(data) as view:
            at = 0
            while at < len(view):
                at += self.object.write(view[at:])
                await self.flush()

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._early:
            early, self._early = self._early, b""
            await trio.lowlevel.checkpoint()
            return early
        if self._ended:
            await trio.lowlevel.checkpoint()
            return b""
        while True:
            try:
                data = self.object.read(max_bytes or 65536)
            except ssl.SSLWantReadError:
                await self.fill()
                continue
            except ssl.SSLZeroReturnError:  # close_notify, once we have said ours
                data = b""
            self._ended = not data
            await trio.lowlevel.checkpoint()
            return data

    async def send_notify(self) -> None:
        """Say close_notify and leave the connection open."""
        # OpenSSL takes what is to be read for an error, and drops it, once it is about to close.
        with contextlib.suppress(ssl.SSLError):
            while data := self.object.read(65536):
                self._early += data
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        await self.flush()

    async def send_eof(self) -> None:
        await self.send_notify()
        await self.transport.send_eof()

    async def aclose(self) -> None:
        await self.transport.aclose()

    def ask_for_update(self, *, answer: bool) -> None:
        """Let the next write begin with a KeyUpdate."""
        inner = self.object._sslobj  # type: ignore[attr-defined]  # there is no other way to it
        address = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + 8)
        assert _OPENSSL.SSL_key_update(address, int(answer)) == 1

    def ask_to_renegotiate(self) -> None:
        """Begin a handshake within the session (TLS 1.2)."""
        inner = self.object._sslobj  # type: ignore[attr-defined]  # as above
        address = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + 8)
        assert _OPENSSL.SSL_renegotiate(address) == 1
        with contextlib.suppress(ssl.SSLWantReadError):
            self.object.do_handshake()


def sockets() -> tuple[socket.socket, socket.socket]:
    """Return a connected TCP pair with small buffers; ours does not block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    for one in (ours, theirs):
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ours.setblocking(False)
    return ours, theirs


@attrs.define(eq=False)
class Pair:
    """Our end below TLS, and the peer's socket."""

    under: PolledSocket
    socket: trio.SocketStream
    poller: Poller


@contextlib.asynccontextmanager
async def connection() -> AsyncIterator[Pair]:
    """Give a connection on which nothing has been said."""
    poller = Poller()
    try:
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(poller.run)
                ours, theirs = sockets()
                under = poller.add(ours, _THERE, _HERE)
                peer = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
                try:
                    yield Pair(under, peer, poller)
                finally:
                    under.close()
                    peer.socket.close()
                    nursery.cancel_scope.cancel()
        assert len(poller) == 0
    finally:
        poller.close()


async def served(pair: Pair, tls: ServerTls, peer: SslPeer) -> TlsStream:
    """Shake hands as the server."""
    made: list[TlsStream] = []

    async def ours() -> None:
        made.append(await accept(pair.under, b"", tls))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours)
        nursery.start_soon(peer.handshake)
    return made[0]


@contextlib.asynccontextmanager
async def tls_pair(
    suite: str | None = None, *, resumed: bool = False, **options: object
) -> AsyncIterator[tuple[TlsStream, SslPeer]]:
    """Give a served stream and its client; ``resumed``: the stream goes on from an exported state."""
    async with movable_pair(suite, **options) as (stream, peer, under):
        yield resume(under, stream.export()) if resumed else stream, peer


@contextlib.asynccontextmanager
async def movable_pair(
    suite: str | None = None, **options: object
) -> AsyncIterator[tuple[TlsStream, SslPeer, PolledSocket]]:
    """Give a served stream, its client, and the stream below, on which another object may go on."""
    async with connection() as pair:
        peer = SslPeer(pair.socket, client_context(suite), server_name=NAME)
        yield await served(pair, server_tls(**options), peer), peer, pair.under
