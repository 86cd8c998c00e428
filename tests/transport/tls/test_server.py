from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.certificates import Authority
from tests.transport.tls.kit import (
    NAME,
    SUITES,
    Pair,
    SslPeer,
    authority,
    certificate,
    client_context,
    connection,
    issued,
    served,
    server_tls,
    tls_pair,
)
from xproxy.codecs.tls.hello import ClientHello
from xproxy.transport.tls.alerts import Alert, TlsError
from xproxy.transport.tls.contexts import Certificate, ClientCertificates, TlsOptionsError
from xproxy.transport.tls.gate import HandshakeGate
from xproxy.transport.tls.server import ServerTls, accept
from xproxy.transport.tls.tickets import Tickets


async def refused(
    tls: ServerTls, context: ssl.SSLContext, server_name: str | None = NAME
) -> tuple[TlsError, str]:
    """Return what a failed handshake raises here, and the reason that the client sees."""
    failures: list[TlsError] = []
    reasons: list[str] = []
    async with connection() as pair:
        peer = SslPeer(pair.socket, context, server_name=server_name)

        async def ours() -> None:
            with pytest.raises(TlsError) as caught:
                await accept(pair.under, b"", tls)
            failures.append(caught.value)
            pair.under.close()

        async def theirs() -> None:
            with pytest.raises(ssl.SSLError) as caught:
                await one_request(peer)
            reasons.append(caught.value.reason or str(caught.value))
            peer.transport.socket.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours)
            nursery.start_soon(theirs)
    return failures[0], reasons[0]


async def one_request(peer: SslPeer) -> None:
    await peer.handshake()
    await peer.send_all(b"the first request")
    await peer.receive_some()


def with_certificate(context: ssl.SSLContext, *names: str, expired: bool = False) -> ssl.SSLContext:
    found = authority().issue(*names, file="client", expired=expired)
    context.load_cert_chain(found.cert, found.key)
    return context


REQUIRE = ClientCertificates(mode="require", ca=str(authority().ca))


@pytest.mark.parametrize("suite", SUITES)
async def test_a_session_of_each_suite(suite: str) -> None:
    async with tls_pair(suite) as (stream, peer):
        assert stream.facts.cipher == suite
        assert stream.facts.version == peer.object.version()
        assert stream.facts.sni == NAME
        assert not stream.facts.resumed
        await peer.send_all(b"question")
        assert await stream.read() == b"question"
        assert stream.write_now(b"answer") == 6
        assert await peer.receive_some() == b"answer"


async def test_a_client_without_a_version_in_common() -> None:
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    error, reason = await refused(server_tls(max_version="1.2"), context)
    assert (error.alert, error.received) == (Alert.PROTOCOL_VERSION, False)
    assert reason == "TLSV1_ALERT_PROTOCOL_VERSION"


async def test_a_client_without_a_cipher_in_common() -> None:
    context = client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    error, reason = await refused(server_tls(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"), context)
    assert (error.alert, reason) == (Alert.HANDSHAKE_FAILURE, "SSLV3_ALERT_HANDSHAKE_FAILURE")


async def test_the_servers_preference_chooses_the_protocol() -> None:
    async with connection() as pair:
        context = client_context()
        context.set_alpn_protocols(["http/1.1", "h2", "other"])
        peer = SslPeer(pair.socket, context, server_name=NAME)
        stream = await served(pair, server_tls(alpn=["h2", "http/1.1"]), peer)
        assert stream.facts.alpn == peer.object.selected_alpn_protocol() == "h2"


async def test_a_client_that_offers_no_protocol_is_served() -> None:
    async with tls_pair(alpn=["h2"]) as (stream, _):
        assert stream.facts.alpn is None


async def test_a_client_without_a_protocol_in_common() -> None:
    context = client_context()
    context.set_alpn_protocols(["spdy/3"])
    error, reason = await refused(server_tls(alpn=["h2"]), context)
    assert error.alert is Alert.NO_APPLICATION_PROTOCOL
    assert "tlsv1 alert no application protocol" in reason  # Python has no name for this one


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("edge.test", "edge.test"),
        ("EDGE.test", "edge.test"),
        ("shop.test", "shop.test"),
        ("a.shop.test", "*.shop.test"),
        ("exact.shop.test", "exact.shop.test"),
        ("a.b.shop.test", "edge.test"),
        ("unknown.test", "edge.test"),
        (None, "edge.test"),
    ],
)
async def test_the_server_name_chooses_the_certificate(asked: str | None, given: str) -> None:
    certificates = [
        certificate(),
        certificate("*.shop.test"),
        certificate("exact.shop.test", "shop.test"),
    ]
    context = client_context()
    context.check_hostname = False
    async with connection() as pair:
        peer = SslPeer(pair.socket, context, server_name=asked)
        stream = await served(pair, server_tls(certificates=certificates), peer)
        shown = peer.object.getpeercert()
        assert shown is not None
        assert ("DNS", given) in shown["subjectAltName"]
        assert stream.facts.sni == (asked.lower() if asked else None)


@pytest.mark.parametrize("asked", ["unknown.test", None])
async def test_an_unknown_name_is_refused_where_asked_for(asked: str | None) -> None:
    context = client_context()
    context.check_hostname = False
    error, reason = await refused(server_tls(unknown_name=False), context, asked)
    assert (error.alert, reason) == (Alert.UNRECOGNIZED_NAME, "TLSV1_UNRECOGNIZED_NAME")


@pytest.mark.parametrize(
    ("version", "alert", "reason"),
    [
        ("1.3", Alert.CERTIFICATE_REQUIRED, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
        ("1.2", Alert.HANDSHAKE_FAILURE, "SSLV3_ALERT_HANDSHAKE_FAILURE"),
    ],
)
async def test_a_client_without_the_certificate_that_is_required(
    version: str, alert: Alert, reason: str
) -> None:
    tls = server_tls(client=REQUIRE, max_version=version)
    error, seen = await refused(tls, client_context())
    assert (error.alert, seen) == (alert, reason)
    assert error.detail == "the peer sent no certificate"


async def test_a_client_with_a_certificate_of_another_authority(tmp_path: Path) -> None:
    foreign = Authority(tmp_path).issue("client.test")
    context = client_context()
    context.load_cert_chain(foreign.cert, foreign.key)
    error, reason = await refused(server_tls(client=REQUIRE), context)
    assert (error.alert, reason) == (Alert.UNKNOWN_CA, "TLSV1_ALERT_UNKNOWN_CA")


async def test_a_client_whose_certificate_has_expired() -> None:
    context = with_certificate(client_context(), "client.test", expired=True)
    error, reason = await refused(server_tls(client=REQUIRE), context)
    assert (error.alert, reason) == (Alert.CERTIFICATE_EXPIRED, "SSLV3_ALERT_CERTIFICATE_EXPIRED")


@pytest.mark.parametrize(
    ("names", "identity"),
    [
        (("client.test",), "client.test"),
        (("client.test", "spiffe://mesh/ns/a/sa/b"), "spiffe://mesh/ns/a/sa/b"),
    ],
)
@pytest.mark.parametrize("mode", ["request", "require"])
async def test_the_clients_identity_is_reported(
    names: tuple[str, ...], identity: str, mode: str
) -> None:
    asks = ClientCertificates(mode=mode, ca=str(authority().ca))  # type: ignore[arg-type]  # one of the two
    async with connection() as pair:
        peer = SslPeer(pair.socket, with_certificate(client_context(), *names), server_name=NAME)
        stream = await served(pair, server_tls(client=asks), peer)
        assert stream.facts.peer_identity == identity


async def test_a_certificate_that_is_only_requested_may_be_missing() -> None:
    asks = ClientCertificates(mode="request", ca=str(authority().ca), names=("a.test",))
    async with tls_pair(client=asks) as (stream, _):
        assert stream.facts.peer_identity is None


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_client_with_a_name_that_is_not_wanted(version: str) -> None:
    wanted = ClientCertificates(
        mode="require", ca=str(authority().ca), names=("spiffe://mesh/ns/shop/*",)
    )
    tls = server_tls(client=wanted, max_version=version)
    context = with_certificate(client_context(), "spiffe://mesh/ns/bank/sa/teller")
    error, reason = await refused(tls, context)
    assert error.detail == "the peer's certificate has none of the names wanted here"
    assert (reason, error.alert) == ("TLSV1_ALERT_ACCESS_DENIED", Alert.ACCESS_DENIED)
    async with connection() as pair:
        context = with_certificate(client_context(), "spiffe://mesh/ns/shop/sa/till")
        stream = await served(pair, tls, SslPeer(pair.socket, context, server_name=NAME))
        assert stream.facts.peer_identity == "spiffe://mesh/ns/shop/sa/till"


@pytest.mark.parametrize("mode", ["request", "require"])
async def test_a_client_with_no_name_at_all_has_none_that_is_wanted(mode: str) -> None:
    asks = ClientCertificates(mode=mode, ca=str(authority().ca), names=("a.test",))  # type: ignore[arg-type]  # one of the two
    found = authority().issue(common_name="", file="nameless")
    context = client_context()
    context.load_cert_chain(found.cert, found.key)
    error, reason = await refused(server_tls(client=asks), context)
    assert (reason, error.alert) == ("TLSV1_ALERT_ACCESS_DENIED", Alert.ACCESS_DENIED)


@pytest.mark.parametrize(
    ("said", "alert"),
    [
        (b"\x16\3\1\0\5\2\0\0\1x", Alert.DECODE_ERROR),
        (b"GET / HTTP/1.1\r\n\r\n", Alert.DECODE_ERROR),
    ],
)
async def test_what_is_no_hello_gets_an_alert(said: bytes, alert: Alert) -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        nursery.start_soon(_fails_with, pair, alert)
        await pair.socket.send_all(said)
        assert await pair.socket.receive_some() == bytes((21, 3, 3, 0, 2, 2, alert))
        assert await pair.socket.receive_some() == b""
        await pair.socket.send_eof()


async def _fails_with(pair: Pair, alert: Alert | None) -> None:
    with pytest.raises(TlsError) as caught:
        await accept(pair.under, b"", server_tls())
    assert caught.value.alert is alert


async def test_a_client_that_goes_within_the_handshake() -> None:
    for said in (0, 3):
        async with connection() as pair, trio.open_nursery() as nursery:
            nursery.start_soon(_fails_with, pair, None)
            await pair.socket.send_all(b"\x16\3\1"[:said])
            await pair.socket.send_eof()


async def test_nothing_is_computed_for_a_client_that_has_gone() -> None:
    gate = HandshakeGate(max_concurrent=1)
    async with connection() as pair, trio.open_nursery() as nursery:
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.object.do_handshake()
        await peer.flush()
        first = await pair.under.read()

        async def theirs() -> None:
            with pytest.raises(TlsError, match="ended the connection") as caught:
                await accept(pair.under, first, server_tls(gate=gate))
            assert caught.value.alert is None

        async with gate.place():  # it leaves while it waits for its turn
            nursery.start_soon(theirs)
            await wait_all_tasks_blocked()
            assert gate.waiting == 1
            await pair.socket.send_eof()
            while not pair.under.hung_up:
                await wait_all_tasks_blocked()
        assert await pair.socket.receive_some() == b"", "and no ServerHello"
        await pair.socket.aclose()
    assert gate.under_way == 0


async def test_a_client_that_refuses_our_certificate_is_understood() -> None:
    context = ssl.create_default_context()  # knows nothing of our authority
    failures: list[TlsError] = []
    async with connection() as pair, trio.open_nursery() as nursery:

        async def ours() -> None:
            with pytest.raises(TlsError) as caught:
                await accept(pair.under, b"", server_tls())
            failures.append(caught.value)

        nursery.start_soon(ours)
        peer = SslPeer(pair.socket, context, server_name=NAME)
        with pytest.raises(ssl.SSLCertVerificationError):
            await peer.handshake()
        await pair.socket.send_eof()
    assert (failures[0].alert, failures[0].received) == (Alert.UNKNOWN_CA, True)


async def test_bytes_read_before_belong_to_the_handshake() -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)
        nursery.start_soon(peer.handshake)
        first = await pair.under.read()
        stream = await accept(pair.under, first, server_tls())
        assert stream.facts.sni == NAME


async def test_a_request_that_comes_with_the_last_flight_is_read() -> None:
    async with connection() as pair, trio.open_nursery() as nursery:
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)

        async def theirs() -> None:
            await peer.handshake(whole=False)
            for number in range(3):
                peer.object.write(b"request %d;" % number)
            await peer.flush()  # Finished and requests in one segment

        nursery.start_soon(theirs)
        stream = await accept(pair.under, b"", server_tls())
        assert stream.pending
        assert await stream.read() == b"request 0;request 1;request 2;"
        assert not stream.pending


async def test_a_cancelled_handshake_leaves_the_gate() -> None:
    gate = HandshakeGate()
    async with connection() as pair:
        with trio.move_on_after(0.01):
            await accept(pair.under, b"", server_tls(gate=gate))
        peer = SslPeer(pair.socket, client_context(), server_name=NAME)
        with contextlib.suppress(ssl.SSLWantReadError):
            peer.object.do_handshake()
        await peer.flush()
        with trio.move_on_after(0.05):
            await accept(pair.under, b"", server_tls(gate=gate))
        assert gate.under_way == 0


# ---- files


def files(folder: Path) -> tuple[Certificate, Callable[[str], None]]:
    def write(name: str) -> None:
        found = authority().issue(name, file="x")
        for source, target in ((found.cert, folder / "cert.pem"), (found.key, folder / "key.pem")):
            fresh = target.with_suffix(".new")
            fresh.write_bytes(source.read_bytes())
            os.replace(fresh, target)

    return Certificate(str(folder / "cert.pem"), str(folder / "key.pem")), write


def shown(tls: ServerTls) -> ssl.SSLContext:
    return tls.choose(ClientHello())


async def test_files_that_changed_are_loaded(tmp_path: Path) -> None:
    mine, write = files(tmp_path)
    write("one.test")
    tls = server_tls(certificates=[mine])
    before = shown(tls)
    assert not tls.refresh()
    assert shown(tls) is before
    write("two.test")
    assert tls.refresh()
    assert not tls.refresh()
    async with connection() as pair:
        await served(pair, tls, SslPeer(pair.socket, client_context(), server_name="two.test"))


def test_files_that_are_broken_change_nothing_and_say_so_once(tmp_path: Path) -> None:
    mine, write = files(tmp_path)
    write("one.test")
    tls = server_tls(certificates=[mine])
    before = shown(tls)
    Path(mine.key).write_text("no key")
    with pytest.raises(TlsOptionsError, match=r"cert\.pem with .*key\.pem: "):
        tls.refresh()
    assert not tls.refresh()
    assert shown(tls) is before
    Path(mine.key).unlink()
    with pytest.raises(TlsOptionsError, match=r"key\.pem: No such file or directory"):
        tls.refresh()
    write("one.test")
    assert tls.refresh()
    assert shown(tls) is not before


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(TlsOptionsError, match="no certificate"):
        ServerTls([])
    with pytest.raises(TlsOptionsError, match=r"missing\.pem: No such file"):
        ServerTls([Certificate(str(tmp_path / "missing.pem"), "key.pem")])
    other = issued("other.test")
    with pytest.raises(TlsOptionsError, match="key values mismatch"):
        ServerTls([Certificate(str(issued().cert), str(other.key))])


# ---- tickets


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_ticket_is_good_in_another_process_with_the_same_keys(
    tmp_path: Path, version: str
) -> None:
    keys = []
    for name in ("new", "old"):
        (tmp_path / name).write_bytes(os.urandom(80))
        keys.append(str(tmp_path / name))
    context = client_context()

    async def again(tickets: Tickets, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        tls = server_tls(tickets=tickets, max_version=version)
        async with connection() as pair:
            peer = SslPeer(pair.socket, context, server_name=NAME, session=session)
            stream = await served(pair, tls, peer)
            stream.write_now(b"x")
            await peer.receive_some()
            assert stream.facts.resumed == peer.object.session_reused
            seen.append(stream.facts.resumed)
            return peer.object.session

    seen: list[bool] = []
    first = await again(Tickets(files=(keys[1],)), None)
    await again(Tickets(files=(keys[1],)), first)
    renewed = await again(Tickets(files=tuple(keys)), first)  # the old one still opens
    await again(Tickets(files=(keys[0],)), renewed)
    await again(Tickets(files=(keys[0],)), first)
    await again(Tickets(), first)
    await again(Tickets(enabled=False), first)
    assert seen == [False, True, True, True, False, False, False]
