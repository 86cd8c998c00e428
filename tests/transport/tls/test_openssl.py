"""OpenSSL's cipher alone, where a whole stream would hide what happens. The rest: ``test_stream``."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator

import pytest
import trio

from tests.transport.tls.kit import (
    NAME,
    SUITES,
    SUITES13,
    SslPeer,
    client_context,
    connection,
    server_context,
)
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.handshake import Handshake
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.openssl import OpenSslCipher
from xproxy.transport.tls.session import MAX_IDLE_RECORDS


@contextlib.asynccontextmanager
async def cipher_pair(
    suite: str | None = None, *, movable: bool = True, tickets: bool = True
) -> AsyncIterator[tuple[OpenSslCipher, SslPeer]]:
    """Give a server's cipher just after its handshake, and its client; tickets would stand before what it reads."""
    log = KeyLog() if movable else None
    context = server_context()
    if log is not None:
        log.use_in(context)
    if not tickets:
        context.num_tickets = 0
    async with connection() as pair:
        handshake = Handshake(context, log, server=True)
        peer = SslPeer(pair.socket, client_context(suite), server_name=NAME)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.handshake)
            assert await handshake.run(pair.under, b"", HandshakeGate()) == b""
        yield handshake.cipher(), peer


@pytest.mark.parametrize("suite", SUITES)
async def test_every_record_is_counted(suite: str) -> None:
    async with cipher_pair(suite) as (cipher, peer):
        start = cipher.export()
        assert cipher.decrypt(peer.seal(b"one")) == b"one"
        assert cipher.decrypt(b"".join(peer.seal(b"x" * 100) for _ in range(5))) == b"x" * 500
        cipher.encrypt(b"one")
        cipher.encrypt(b"y" * 16384)
        cipher.encrypt(b"y" * 16385)
        cipher.encrypt(b"y" * 100_000)
        end = cipher.export()
        assert end.read.count - start.read.count == 6
        assert end.write.count - start.write.count == 1 + 1 + 2 + 7


async def test_a_write_leaves_nothing_behind() -> None:
    async with cipher_pair(tickets=False) as (cipher, peer):
        sealed = cipher.encrypt(memoryview(b"z" * 40_000))
        assert cipher.owed() == b""
        peer.incoming(sealed)
        assert b"".join(peer.object.read(16384) for _ in range(3)) == b"z" * 40_000


async def test_records_without_data_are_bounded() -> None:
    async with cipher_pair(SUITES13[0], tickets=False) as (cipher, peer):
        for _ in range(MAX_IDLE_RECORDS):
            peer.ask_for_update(answer=False)
            peer.object.do_handshake()
            assert cipher.decrypt(peer.outgoing()) == b""
        assert cipher.decrypt(peer.seal(b"data")) == b"data"
        updates = b""
        for _ in range(MAX_IDLE_RECORDS + 1):
            peer.ask_for_update(answer=False)
            peer.object.do_handshake()
            updates += peer.outgoing()
        with pytest.raises(TlsError, match="too many records") as caught:
            cipher.decrypt(updates)
        assert caught.value.alert is Alert.UNEXPECTED_MESSAGE
        peer.incoming(cipher.owed())
        with pytest.raises(ssl.SSLError, match=r"(?i)unexpected.message"):
            peer.object.read(1)


async def test_a_refusal_is_the_sessions_last_record() -> None:
    async with cipher_pair(tickets=False) as (cipher, peer):
        peer.incoming(cipher.refusal(Alert.ACCESS_DENIED))
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            peer.object.read(1)
    async with cipher_pair(movable=False) as (cipher, _):
        assert cipher.refusal(Alert.ACCESS_DENIED) == b""
