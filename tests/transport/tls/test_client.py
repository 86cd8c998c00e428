from __future__ import annotations

import ssl
import weakref
from pathlib import Path

import pytest
import trio

from tests.certificates import Authority
from tests.transport.tls.kit import (
    NAME,
    SUITES12,
    SUITES13,
    Pair,
    SslPeer,
    authority,
    connection,
    issued,
    server_context,
)
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.client import MAX_SESSIONS, ClientTls, connect
from xproxy.transport.tls.contexts import TlsOptionsError
from xproxy.transport.tls.stream import TlsStream

CA = str(authority().ca)
CA_TEXT = authority().ca.read_bytes()


async def secured(
    pair: Pair, tls: ClientTls, peer: SslPeer, server_name: str | None = NAME
) -> TlsStream:
    made: list[TlsStream] = []

    async def ours() -> None:
        made.append(await connect(pair.under, tls, server_name))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours)
        nursery.start_soon(peer.handshake)
    return made[0]


async def refused(
    tls: ClientTls, context: ssl.SSLContext, server_name: str | None = NAME
) -> tuple[TlsError, str]:
    """Return what fails here, and what the upstream saw."""
    failures: list[TlsError] = []
    reasons: list[str] = []
    async with connection() as pair:
        peer = SslPeer(pair.socket, context)

        async def ours() -> None:
            with pytest.raises(TlsError) as caught:
                await connect(pair.under, tls, server_name)
            failures.append(caught.value)
            pair.under.close()

        async def theirs() -> None:
            try:
                await peer.handshake()
                await peer.receive_some()
            except ssl.SSLError as exc:
                reasons.append(exc.reason or str(exc))
            except trio.BrokenResourceError as exc:
                reasons.append(str(exc))
            peer.transport.socket.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours)
            nursery.start_soon(theirs)
    return failures[0], reasons[0]


@pytest.mark.parametrize("suite", [SUITES13[0], SUITES12[0]])
async def test_a_verified_upstream(suite: str) -> None:
    async with connection() as pair:
        peer = SslPeer(pair.socket, server_context(suite))
        stream = await secured(pair, ClientTls(ca=CA), peer)
        assert stream.facts.sni == NAME
        assert stream.facts.cipher == suite
        assert stream.facts.peer_identity == NAME
        stream.write_now(b"question")
        assert await peer.receive_some() == b"question"
        await peer.send_all(b"answer")
        assert await stream.read() == b"answer"


async def test_an_upstream_of_an_unknown_authority(tmp_path: Path) -> None:
    other = ClientTls(ca=str(Authority(tmp_path).ca))
    error, reason = await refused(other, server_context())
    assert (error.alert, error.received) == (Alert.UNKNOWN_CA, False)
    assert error.detail.startswith("the peer's certificate is not accepted: ")
    assert reason == "TLSV1_ALERT_UNKNOWN_CA"


async def test_the_systems_authorities_do_not_know_ours() -> None:
    error, _ = await refused(ClientTls(), server_context())
    assert error.alert is Alert.UNKNOWN_CA


async def test_an_upstream_of_another_name() -> None:
    error, reason = await refused(ClientTls(ca=CA), server_context(), "other.test")
    assert (error.alert, reason) == (Alert.BAD_CERTIFICATE, "SSLV3_ALERT_BAD_CERTIFICATE")
    assert "other.test" in error.detail


async def test_verification_can_be_switched_off() -> None:
    async with connection() as pair:
        stream = await secured(
            pair, ClientTls(verify=False), SslPeer(pair.socket, server_context()), "other.test"
        )
        assert stream.facts.peer_identity is None  # nothing is known of it


async def test_the_configured_name_is_asked_for_and_verified() -> None:
    asked: list[str] = []
    context = server_context()
    context.sni_callback = lambda _object, name, _context: asked.append(name or "")
    async with connection() as pair:
        await secured(pair, ClientTls(ca=CA, sni=NAME), SslPeer(pair.socket, context), "10.0.0.1")
    assert asked == [NAME]


async def test_an_address_is_verified_and_not_asked_for() -> None:
    asked: list[str | None] = []
    found = issued("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.cert, found.key)
    context.sni_callback = lambda _object, name, _context: asked.append(name)
    async with connection() as pair:
        await secured(pair, ClientTls(ca=CA), SslPeer(pair.socket, context), "127.0.0.1")
    assert asked in ([], [None])


@pytest.mark.parametrize("server_name", [None, "", "a\0b", "x" * 300])
async def test_a_name_that_cannot_be_asked_for(server_name: str | None) -> None:
    async with connection() as pair:
        with pytest.raises(TlsError, match="server name"):
            await connect(pair.under, ClientTls(ca=CA), server_name)


async def test_names_wanted_instead_of_the_server_name() -> None:
    found = issued("spiffe://mesh/ns/shop/sa/till")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.cert, found.key)
    async with connection() as pair:
        tls = ClientTls(ca=CA, names=["spiffe://mesh/ns/shop/*"])
        stream = await secured(pair, tls, SslPeer(pair.socket, context), "whatever.test")
        assert stream.facts.peer_identity == "spiffe://mesh/ns/shop/sa/till"
    error, reason = await refused(ClientTls(ca=CA, names=["spiffe://mesh/ns/bank/*"]), context)
    assert error.detail == "the peer's certificate has none of the names wanted here"
    assert reason == "SSLV3_ALERT_BAD_CERTIFICATE"


async def test_our_certificate_is_shown_when_asked_for() -> None:
    mine = issued("proxy.test")
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CA)
    async with connection() as pair:
        peer = SslPeer(pair.socket, context)
        await secured(pair, ClientTls(ca=CA, cert=str(mine.cert), key=str(mine.key)), peer)
        shown = peer.object.getpeercert()
        assert shown is not None
        assert ("DNS", "proxy.test") in shown["subjectAltName"]


async def test_an_upstream_that_refuses_us_is_understood() -> None:
    context = server_context(SUITES12[0])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(CA)
    error, _ = await refused(ClientTls(ca=CA), context)
    assert (error.alert, error.received) == (Alert.HANDSHAKE_FAILURE, True)


async def test_the_upstream_chooses_the_protocol() -> None:
    context = server_context()
    context.set_alpn_protocols(["http/1.1"])
    async with connection() as pair:
        tls = ClientTls(ca=CA, alpn=["h2", "http/1.1"])
        stream = await secured(pair, tls, SslPeer(pair.socket, context))
        assert stream.facts.alpn == "http/1.1"


@pytest.mark.parametrize("suite", [SUITES13[0], SUITES12[0]])
async def test_a_session_is_resumed(suite: str, tmp_path: Path) -> None:
    context = server_context(suite)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA_TEXT)
    tls = ClientTls(ca=str(ca))
    resumed = []
    for number in range(4):
        if number == 3:
            ca.write_bytes(CA_TEXT + b"\n")
            assert tls.refresh()  # what was verified by other files is verified anew
        async with connection() as pair:
            peer = SslPeer(pair.socket, context)
            stream = await secured(pair, tls, peer)
            await peer.send_all(b"x")
            assert await stream.read() == b"x"
            resumed.append(stream.facts.resumed)
            assert stream.facts.peer_identity == NAME
    assert resumed == [False, True, True, False]


class Session:
    """Stands for an ``ssl.SSLSession``, to which there are no weak references."""


def test_sessions_are_bounded() -> None:
    tls = ClientTls(ca=CA)
    held: list[weakref.ref[Session]] = []
    for number in range(MAX_SESSIONS + 10):
        _, keep = tls.begin(f"{number}.test")
        session = Session()
        keep(session)  # type: ignore[arg-type]  # it is only kept
        held.append(weakref.ref(session))
    del session
    assert [one() is not None for one in held] == [False] * 10 + [True] * MAX_SESSIONS


def context_of(tls: ClientTls) -> ssl.SSLContext:
    """Return what the next handshake is made with."""
    handshake, _ = tls.begin(NAME)
    return handshake.object.context


def test_files_that_are_broken_change_nothing(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(CA_TEXT)
    tls = ClientTls(ca=str(ca))
    assert not tls.refresh()
    before = context_of(tls)
    ca.write_text("nothing")
    with pytest.raises(TlsOptionsError, match=r"ca\.pem: "):
        tls.refresh()
    assert not tls.refresh()
    assert context_of(tls) is before


def test_mistakes_are_named() -> None:
    with pytest.raises(TlsOptionsError, match=r"missing\.pem: No such file"):
        ClientTls(ca="missing.pem")
    with pytest.raises(TlsOptionsError, match=r"TLS version '1\.1', allowed: 1\.2, 1\.3"):
        ClientTls(min_version="1.1")
    with pytest.raises(TlsOptionsError, match=r"at least 1\.3 and at most 1\.2"):
        ClientTls(min_version="1.3", max_version="1.2")
    with pytest.raises(TlsOptionsError, match="ciphers 'NONE-SUCH': No cipher can be selected"):
        ClientTls(ciphers="NONE-SUCH")
