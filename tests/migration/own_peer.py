"""A TLS client by our own cipher: it can be declined a renegotiation and go on, which OpenSSL's cannot."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from xproxy.transport.tls.aead import AeadCipher
from xproxy.transport.tls.keys import suite_of
from xproxy.transport.tls.records import HANDSHAKE, whole
from xproxy.transport.tls.state import load
from xproxy.transport.tls.stream import TlsStream

_WISH: Final = b"\x01\0\0\0"
"""An empty ClientHello."""


class OwnPeer(trio.abc.HalfCloseableStream):
    """The other end of a session that was agreed on for it."""

    def __init__(self, transport: trio.SocketStream, served: TlsStream) -> None:
        self.transport = transport
        state = load(served.export())
        suite = suite_of(state.facts.version, state.facts.cipher)
        assert suite is not None
        theirs = state.session
        self._cipher = AeadCipher(suite, attrs.evolve(theirs, read=theirs.write, write=theirs.read))
        self._rest = b""

    def wish(self) -> bytes:
        """Return a sealed wish to renegotiate."""
        return self._cipher._write.seal(HANDSHAKE, _WISH)

    def seal(self, data: bytes) -> bytes:
        """Return what would be sent for ``data``."""
        return self._cipher.encrypt(data)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.transport.send_all(self._cipher.encrypt(bytes(data)))

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        while not self._cipher.ended:
            data = await self.transport.receive_some(max_bytes)
            if not data:
                raise trio.BrokenResourceError("no close_notify")
            data = self._rest + data
            end = whole(data)
            self._rest = data[end:]
            if plain := self._cipher.decrypt(data[:end]):
                return plain
        return b""

    async def send_eof(self) -> None:
        await self.transport.send_all(self._cipher.farewell())
        await self.transport.send_eof()

    async def aclose(self) -> None:
        await self.transport.aclose()
