"""What a handshake remembers of its records. What it does with peers: ``test_server`` and ``test_client``."""

from __future__ import annotations

import ssl

import pytest
import trio

from tests.transport.tls.kit import (
    NAME,
    SUITES13,
    SslPeer,
    client_context,
    connection,
    server_context,
    server_tls,
)
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.handshake import Handshake
from xproxy.transport.tls.keylog import KeyLog
from xproxy.transport.tls.server import accept


async def test_secrets_are_taken_from_the_log_at_once() -> None:
    log = KeyLog()
    context = server_context(SUITES13[0])
    log.use_in(context)
    async with connection() as pair, trio.open_nursery() as nursery:
        handshake = Handshake(context, log, server=True)
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)
        nursery.start_soon(peer.handshake)
        assert await handshake.run(pair.under, b"", HandshakeGate()) == b""
        assert log.take() == b""
        state = handshake.cipher().export()
        assert (state.read.count, state.write.count) == (0, 2)  # two tickets
        assert len(state.read.secret) == 32


async def test_a_handshake_in_single_bytes() -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        ours = SslPeer(pair.socket, client_context(), server_name=NAME)

        async def theirs() -> None:
            while True:
                try:
                    ours.object.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                else:
                    await send()
                    return
                await send()
                await ours.fill()

        async def send() -> None:
            for byte in ours.outgoing():
                await ours.transport.send_all(bytes((byte,)))

        async def x() -> None:
            await theirs()
            await ours.send_all(b"x")

        nursery.start_soon(x)
        stream = await accept(pair.under, b"", server_tls())
        assert await stream.read() == b"x"


@pytest.mark.parametrize(
    "said", [b"\x17\3\3\0\1x", b"GET / HTTP/1.1", b"\x16\3\3\0\4\x0b\0\0\0", b"\x16\0s{("]
)
async def test_an_answer_that_is_none(said: bytes) -> None:
    async with connection() as pair:
        handshake = Handshake(client_context(), None, server_name=NAME, server=False)
        await pair.socket.send_all(said)
        with pytest.raises(TlsError) as caught:
            await handshake.run(pair.under, b"", HandshakeGate())
        assert caught.value.alert in (Alert.UNEXPECTED_MESSAGE, Alert.PROTOCOL_VERSION, None)


async def test_a_flight_without_end_is_cut_off() -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        handshake = Handshake(client_context(), None, server_name=NAME, server=False)

        async def flood() -> None:
            # A ServerHello of 16 MiB, as its length says, in many records.
            await pair.socket.send_all(b"\x16\3\3\x40\0\2\xff\xff\xff" + b"x" * 16380)
            while True:
                await pair.socket.send_all(b"\x16\3\3\x40\0" + b"x" * 16384)

        nursery.start_soon(flood)
        with pytest.raises(TlsError):
            await handshake.run(pair.under, b"", HandshakeGate())
        nursery.cancel_scope.cancel()


async def test_a_peer_that_goes() -> None:
    async with connection() as pair:
        handshake = Handshake(client_context(), None, server_name=NAME, server=False)
        await pair.socket.send_eof()
        with pytest.raises(TlsError, match="ended the connection within the handshake"):
            await handshake.run(pair.under, b"", HandshakeGate())


def test_a_server_name_that_cannot_be() -> None:
    with pytest.raises(TlsError, match="server name"):
        Handshake(client_context(), None, server_name="a\0b", server=False)
