"""OpenSSL's cipher alone, where a whole stream would hide what happens. The rest: ``test_stream``."""

from __future__ import annotations

import ssl

import pytest

from tests.transport.tls.kit import NAME, SUITES, SUITES13, SslPeer, tls_pair
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.openssl import OpenSslCipher
from xproxy.transport.tls.session import MAX_IDLE_RECORDS
from xproxy.transport.tls.stream import TlsStream
from xproxy.transport.tls.tickets import Tickets

NONE = Tickets(enabled=False)  # they would stand before what the peer is to read


def inside(stream: TlsStream) -> OpenSslCipher:
    cipher = stream._cipher
    assert isinstance(cipher, OpenSslCipher)
    return cipher


def said(peer: SslPeer, data: bytes) -> bytes:
    peer.object.write(data)
    return peer._out.read()


@pytest.mark.parametrize("suite", SUITES)
async def test_every_record_is_counted(suite: str) -> None:
    async with tls_pair(suite) as (stream, peer):
        cipher = inside(stream)
        start = cipher.export()
        assert cipher.decrypt(said(peer, b"one")) == b"one"
        assert cipher.decrypt(b"".join(said(peer, b"x" * 100) for _ in range(5))) == b"x" * 500
        cipher.encrypt(b"one")
        cipher.encrypt(b"y" * 16384)
        cipher.encrypt(b"y" * 16385)
        cipher.encrypt(b"y" * 100_000)
        end = cipher.export()
        assert end.read.count - start.read.count == 6
        assert end.write.count - start.write.count == 1 + 1 + 2 + 7


async def test_a_write_leaves_nothing_behind() -> None:
    async with tls_pair() as (stream, _):
        cipher = inside(stream)
        cipher.encrypt(memoryview(b"z" * 40_000))
        assert cipher._out.pending == cipher._into.pending == 0
        assert cipher.owed() == b""


async def test_records_without_data_are_bounded() -> None:
    async with tls_pair(SUITES13[0], tickets=NONE) as (stream, peer):
        cipher = inside(stream)
        for _ in range(MAX_IDLE_RECORDS):
            peer.ask_for_update(answer=False)
            peer.object.do_handshake()
            assert cipher.decrypt(peer._out.read()) == b""
        assert cipher.decrypt(said(peer, b"data")) == b"data"
        updates = b""
        for _ in range(MAX_IDLE_RECORDS + 1):
            peer.ask_for_update(answer=False)
            peer.object.do_handshake()
            updates += peer._out.read()
        with pytest.raises(TlsError, match="too many records") as caught:
            cipher.decrypt(updates)
        assert caught.value.alert is Alert.UNEXPECTED_MESSAGE
        peer._into.write(cipher.owed())
        with pytest.raises(ssl.SSLError, match=r"(?i)unexpected.message"):
            peer.object.read(1)


async def test_a_refusal_is_the_sessions_last_record() -> None:
    async with tls_pair(tickets=NONE) as (stream, peer):
        peer._into.write(inside(stream).refusal(Alert.ACCESS_DENIED))
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            peer.object.read(1)
    async with tls_pair(movable=False) as (stream, _):
        assert inside(stream).refusal(Alert.ACCESS_DENIED) == b""
        assert stream.facts.sni == NAME
