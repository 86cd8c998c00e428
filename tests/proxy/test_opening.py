"""A connection before its protocol is known: TLS ended here or passed through, silence, and what is refused."""

from __future__ import annotations

import re
import ssl
import struct
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    GET,
    PATIENCE,
    Live,
    eventually,
    finish,
    http_response,
    running,
    upstream,
    web,
)
from tests.proxy.test_serve_connection import BOLT, HEAD, V1, V2
from tests.secure import NAME, ca, context, hello, pair, party, peer, tls
from tests.transport.tls.kit import authority, issued
from xproxy.testing import END, NOTHING, Party, play

OK = http_response(b"ok")
FALLBACK = "    fallback: {cluster: raw}\n"


def with_raw(text: str, port: int) -> str:
    return f"{text}  raw:\n    endpoints: [127.0.0.1:{port}]\n"


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [m for m in caplog.messages if "TLS handshake failed" in m]


# ---- TLS that is ended here


@pytest.mark.parametrize("high", ["TLSv1_2", "TLSv1_3"])
async def test_tls_and_plaintext_share_a_port(high: str) -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        secure, plain = await party(live, context(high=high)), await live.client()
        await secure.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, secure << OK)
        await play(plain >> GET, server << HEAD, server >> OK, plain << OK)
        stats = live.stats()
        assert (stats.downstream_tls_handshakes, stats.downstream_tls_failed) == (1, {})
        live.hang_up_all()
        await live.settled()


async def test_the_first_bytes_of_tls_may_come_one_by_one() -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        transport = await live.connect()
        found = hello()
        for at in range(len(found)):
            await transport.send_all(found[at : at + 1])
            if at < 10:
                await wait_all_tasks_blocked()
        assert (await transport.receive_some(1)) == b"\x16"


@pytest.mark.parametrize("size", [1, 2, 3, 5])
async def test_a_hello_in_tiny_records_is_a_hello(size: int) -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        transport = await live.connect()
        whole = hello()[5:]
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
        tiny = b"".join(b"\x16\x03\x01" + len(p).to_bytes(2) + p for p in pieces)
        for at in range(0, len(tiny), 7):  # records are cut, too
            await transport.send_all(tiny[at : at + 7])
        assert (await transport.receive_some(1)) == b"\x16", "a handshake record: the ServerHello"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("edge.test", "edge.test"), ("a.wild.test", "*.wild.test"), ("other.test", "edge.test")],
)
async def test_the_certificate_is_the_names(name: str, expected: str) -> None:
    certificates = f"{pair()}, {pair('*.wild.test')}"
    async with running(web(1, listener=tls(certificates=certificates))) as live:
        made = context()
        made.check_hostname = False
        client = await peer(live, made, name=name)
        certificate: dict[str, Any] = client.object.getpeercert() or {}
        assert certificate["subjectAltName"] == (("DNS", expected),)


async def test_what_tls_knows_is_for_routes_filters_and_logs() -> None:
    log = "{name: headers, request: {set: {x-tls: '%sni% %alpn% %tls_version% %peer_identity%'}}}"
    client_certificates = (
        f"client_certificates: {{mode: require, ca: {ca()}, sans: ['*.clients.test']}}"
    )
    listener = tls(client_certificates) + f"    filters: [{log}, forwarded]\n"
    match = "{tls: true, sni: edge.test, alpn: http/1.1, peer_identity: {suffix: .clients.test}}"
    async with upstream() as up:
        text = web(up.port, listener=listener).replace(
            "- cluster: web", f"- {{match: {match}, cluster: web}}"
        )
        async with running(text) as live:
            client = await party(live, context("http/1.1", client="one.clients.test"))
            await client.send(GET)
            server = Party("upstream", await up.accept())
            head = await server.expect(HEAD)
            assert b"x-tls: edge.test http/1.1 TLSv1.3 one.clients.test\r\n" in head
            assert b"x-forwarded-proto: https\r\n" in head
            plain = await live.client()
            await play(plain >> GET, plain << re.compile(rb"HTTP/1.1 403 .*", re.DOTALL))


async def test_a_common_name_is_no_name_that_is_asked_for() -> None:
    """A certificate that has only that is refused where names are asked for (RFC 9525 §2)."""
    wanted = f"client_certificates: {{mode: require, ca: {ca()}, sans: ['*.clients.test']}}"
    found = authority().issue(common_name="one.clients.test", file="common-only")
    made = context()
    made.load_cert_chain(found.cert, found.key)
    async with upstream() as up, running(web(up.port, listener=tls(wanted))) as live:
        client = await peer(live, made)
        with pytest.raises(ssl.SSLError, match="alert"), trio.fail_after(PATIENCE):
            await client.receive_some()
        await live.settled(clients=0)


async def test_alpn_decides_and_the_servers_side_may_speak_first() -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        client = await peer(live, context("h2", "http/1.1"))
        assert client.object.selected_alpn_protocol() == "h2"
        with trio.fail_after(PATIENCE):
            first = await client.receive_some()
        assert first[3:5] == b"\x04\x00", "SETTINGS, though the client is silent"
        assert live.runtime.detections.recognised == {}


async def test_other_protocols_are_recognised_inside() -> None:
    async with upstream() as up, running(web(up.port, listener=tls())) as live:
        client = await party(live)
        await client.send(BOLT[:1])
        await wait_all_tasks_blocked()
        await client.send(BOLT[1:])
        server = Party("upstream", await up.accept())
        await server.expect(re.compile(rb"\x01\x01\x00\x01\x01.{4}\x01.{12}", re.DOTALL))


async def test_what_nobody_recognises_inside_reaches_the_fallback_in_clear() -> None:
    async with upstream() as up, upstream() as raw:
        text = with_raw(web(up.port, listener=FALLBACK + tls()), raw.port)
        async with running(text) as live:
            client = await party(live)
            await client.send(b"\xff\xfe neither")
            server = Party("raw", await raw.accept())
            await play(server << b"\xff\xfe neither", server >> b"ok", client << b"ok")


async def test_an_l4_listener_ends_tls_too() -> None:
    text = (
        "listeners:\n"
        "  - name: edge\n"
        "    address: 127.0.0.1:0\n"
        f"{FALLBACK}{tls('mode: strict')}"
        "clusters:\n"
        "  raw: {endpoints: ['127.0.0.1:%d']}\n"
    )
    async with upstream() as raw, running(text % raw.port) as live:
        client = await party(live)
        server = Party("raw", await raw.accept())
        await play(
            server >> b"who first?", client << b"who first?", client >> b"me", server << b"me"
        )


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
async def test_the_proxy_header_comes_before_tls(header: bytes) -> None:
    listener = tls("mode: strict") + "    proxy_protocol: true\n"
    async with (
        upstream() as up,
        running(web(up.port, listener=listener, proxy_protocol="v1")) as live,
    ):
        client = await party(live, first=header)  # type: ignore[arg-type]  # handed on as it is
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << V1, server << HEAD, server >> OK, client << OK)


# ---- handshakes that fail: the alert, the count, and one line


@pytest.mark.parametrize(
    ("made", "name", "alert"),
    [
        (context("nothing-of-ours"), NAME, "no_application_protocol"),
        (context(), "other.test", "unrecognized_name"),
        (context(high="TLSv1_2"), NAME, "protocol_version"),
    ],
)
async def test_a_refused_handshake(
    made: ssl.SSLContext, name: str, alert: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    listener = tls("unknown_names: refuse", "min_version: TLSv1.3")
    async with running(web(1, listener=listener)) as live:
        with pytest.raises(ssl.SSLError) as caught:
            await peer(live, made, name=name)
        words = str(caught.value).lower().replace("_", " ")
        assert alert.replace("_", " ") in words
        live.hang_up_all()
        await live.settled()
        assert live.stats().downstream_tls_failed == {alert: 1}
        assert len(failures(caplog)) == 1
        assert f"(told the client: {alert})" in caplog.text


async def test_a_client_without_the_certificate_it_needs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    listener = tls(f"client_certificates: {{mode: require, ca: {ca()}}}")
    async with running(web(1, listener=listener)) as live:
        client = await peer(
            live
        )  # under TLS 1.3 the client's part is over before the server has judged it
        with pytest.raises(ssl.SSLError) as caught:
            await client.receive_some()
        assert "CERTIFICATE_REQUIRED" in str(caught.value.reason)
        live.hang_up_all()
        await live.settled()
        assert live.stats().downstream_tls_failed == {"certificate_required": 1}
        assert len(failures(caplog)) == 1


@pytest.mark.parametrize("more", ["", "    fallback: {cluster: web}\n    server_first: true\n"])
@pytest.mark.parametrize(
    "said", [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"\x00\x01nobody knows this\r\n\r\n", b""]
)
async def test_where_certificates_are_required_nothing_is_served_without(
    said: bytes, more: str
) -> None:
    listener = tls(f"client_certificates: {{mode: require, ca: {ca()}}}") + more
    async with (
        upstream() as up,
        running(web(up.port, listener=listener, timeouts="{detect: 500ms}")) as live,
    ):
        client = await live.client()
        if said:
            await client.send(said)
        if said.startswith(b"GET"):
            await client.expect(b"HTTP/1.1 403 ")
        elif not said:
            await eventually(
                lambda: live.stats().downstream_cx_unknown_protocol == 1, "the end of patience"
            )
        live.hang_up_all()
        await live.settled()
        assert up.accepted == 0
        assert live.stats().downstream_cx_silent == 0
        assert live.stats().downstream_tls_plaintext_refused == bool(said)


async def test_a_client_that_does_not_trust_us_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener=tls())) as live:
        with pytest.raises(ssl.SSLCertVerificationError):
            await peer(live, ssl.create_default_context())
        live.hang_up_all()
        await live.settled()
        assert live.stats().downstream_tls_failed == {"unknown_ca": 1}
        assert "(told by the client: unknown_ca)" in caplog.text


@pytest.mark.parametrize(("sent", "reason"), [(len(hello()), "timeout"), (40, "hello")])
async def test_a_handshake_that_takes_too_long(
    sent: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    listener = tls("handshake_timeout: 100ms")
    async with running(web(1, listener=listener, timeouts="{detect: 100ms}")) as live:
        transport = await live.connect()
        await transport.send_all(hello()[:sent])
        await live.settled()
        assert live.stats().downstream_tls_failed == {reason: 1}
        assert len(failures(caplog)) == 1


@pytest.mark.parametrize(("sent", "reason"), [(None, "ended"), (40, "hello")])
async def test_a_client_that_leaves_in_the_middle(sent: int | None, reason: str) -> None:
    async with running(web(1, listener=tls())) as live:
        client = await live.client()
        await client.send(hello()[:sent])
        await wait_all_tasks_blocked()
        await finish(client)
        await live.settled()
        assert live.stats().downstream_tls_failed == {reason: 1}


async def test_a_hello_that_is_none_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener=tls())) as live:
        client = await live.client()
        await client.send(b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x00\x00")
        await play(client << b"\x15\x03\x03\x00\x02\x02\x32", client << END)
        assert live.stats().downstream_tls_failed == {"decode_error": 1}
        assert len(failures(caplog)) == 1


async def test_who_breaks_a_hello_and_the_connection_is_counted_and_no_failure_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener=tls())) as live:
        transport = await live.connect()
        # At once a reset behind it: nobody is there to be told.
        transport.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        await transport.send_all(b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x00\x00")
        transport.socket.close()
        await live.settled()
        stats = live.stats()
        # The reset may overtake the hello.
        assert (
            stats.downstream_tls_failed.get("decode_error", 0) + stats.downstream_cx_ended_early
            == 1
        )
        assert [one for one in caplog.records if one.levelname == "ERROR"] == []


async def test_handshakes_are_bounded_and_the_others_wait_their_turn() -> None:
    async with upstream() as up, running(web(up.port, listener=tls("max_handshakes: 1"))) as live:
        stalled = await live.connect()
        await stalled.send_all(hello())
        await stalled.receive_some()
        waits, refused = await live.connect(), await live.connect()
        for one in (waits, refused):
            await one.send_all(hello())
            await wait_all_tasks_blocked()
        assert await refused.receive_some() == b"\x15\x03\x03\x00\x02\x02\x50"
        await eventually(
            lambda: live.stats().downstream_tls_failed == {"overflow": 1}, "one is refused"
        )
        plain = await live.client()  # and who needs none is served
        await plain.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, plain << OK)
        stalled.socket.close()
        assert (await waits.receive_some(1)) == b"\x16", "its turn has come"


async def test_many_hellos_at_once_are_all_answered() -> None:
    async with running(web(1, listener=tls())) as live:
        clients = [await live.connect() for _ in range(100)]
        for one in clients:
            await one.send_all(hello())
        for one in clients:
            with trio.fail_after(PATIENCE):
                assert await one.receive_some(1) == b"\x16"


async def test_a_drain_waits_for_a_handshake_as_long_as_for_any_first_word() -> None:
    text = web(1, listener=tls(), timeouts="{linger: 100ms}")
    async with running(text) as live:
        client = await live.client()
        await client.send(hello())
        await eventually(lambda: live.stats().downstream_tls_handshakes_active == 1, "begun")
        listener = live.runtime.listeners["edge"]
        listener.stop()
        with trio.fail_after(PATIENCE):
            await listener.ended.wait()
        assert listener.stats.downstream_tls_failed == {}


# ---- plaintext where only TLS is wanted


async def test_strict_refuses_plaintext_in_its_own_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener=tls("mode: strict"))) as live:
        client = await live.client()
        await client.send(GET)
        answer = await client.expect(re.compile(rb".*TLS only\n?", re.DOTALL))
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert b"connection: close" in answer.lower()
        await client.expect(END)
        await live.settled()
        assert live.stats().downstream_tls_plaintext_refused == 1
        assert caplog.text.count("plaintext refused") == 1


@pytest.mark.parametrize("sent", [b"\xff\xfe neither", b"GE"])
async def test_strict_keeps_plaintext_from_the_fallback(sent: bytes) -> None:
    async with upstream() as raw:
        listener = FALLBACK + tls("mode: strict")
        text = with_raw(web(1, listener=listener, timeouts="{detect: 100ms}"), raw.port)
        async with running(text) as live:
            client = await live.client()
            await client.send(sent)
            await client.expect(END)
            assert raw.accepted == 0
            assert live.stats().downstream_tls_plaintext_refused == 1


async def test_strict_keeps_silence_from_the_fallback_too() -> None:
    async with upstream() as raw:
        listener = FALLBACK + tls("mode: strict")
        text = with_raw(web(1, listener=listener, timeouts="{detect: 100ms}"), raw.port)
        async with running(text) as live:
            await (await live.client()).expect(END)
            assert raw.accepted == 0
            assert live.stats().downstream_cx_unknown_protocol == 1
            assert live.stats().downstream_tls_plaintext_refused == 0


async def test_bulk_in_tls_is_whole_both_ways() -> None:
    # Such bytes go through our hands: what the kernel moves by itself would be ciphertext on one side.
    text = (
        "listeners:\n"
        "  - name: edge\n"
        "    address: 127.0.0.1:0\n"
        f"{FALLBACK}{tls()}"
        "clusters:\n"
        "  raw: {endpoints: ['127.0.0.1:%d']}\n"
    )
    bulk = bytes(range(256)) * 8192

    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with upstream() as raw, trio.open_nursery() as nursery:
        nursery.start_soon(raw.serve, echo)
        async with running(text % raw.port) as live:
            client = await peer(live)
            nursery.start_soon(client.send_all, bulk)
            received = bytearray()
            with trio.fail_after(PATIENCE):
                while len(received) < len(bulk):
                    received += await client.receive_some()
            assert received == bulk
        nursery.cancel_scope.cancel()


# ---- TLS that is passed through


def passing(port: int, *more: str, certificates: bool = True) -> str:
    names = "passthrough: [pass.test, '*.pass.test']"
    keys = tls(names, *more) if certificates else f"    tls: {{{names}}}\n"
    return with_raw(web(1, listener=keys), port).replace(
        "    - cluster: web\n",
        "    - {match: {sni: {suffix: pass.test}, alpn: h2}, cluster: raw}\n    - cluster: web\n",
    )


@pytest.mark.parametrize("name", ["pass.test", "a.pass.test"])
@pytest.mark.parametrize("certificates", [True, False])
async def test_the_very_bytes_are_passed_on(name: str, certificates: bool) -> None:
    async with upstream() as raw, running(passing(raw.port, certificates=certificates)) as live:
        client = await live.client()
        sent = hello(name, "h2", "http/1.1")
        await client.send(sent[:70])
        await wait_all_tasks_blocked()
        await client.send(sent[70:])
        server = Party("raw", await raw.accept())
        await play(server << sent, server >> b"\x16", client << b"\x16")
        stats = live.stats()
        assert (stats.downstream_tls_passthrough, stats.downstream_tls_handshakes) == (1, 0)


async def test_both_ends_speak_tls_through_us() -> None:
    async with upstream() as raw, running(passing(raw.port)) as live:
        served = served_context("pass.test")
        answers: list[bytes] = []

        async def serve() -> None:
            server = trio.SSLStream(await raw.accept(), served, server_side=True)
            await server.do_handshake()
            answers.append(bytes(await server.receive_some()))
            await server.send_all(b"pong")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            client = await peer(live, context("h2"), name="pass.test")
            await client.send_all(b"ping")
            assert await client.receive_some() == b"pong"
        assert answers == [b"ping"]


def served_context(name: str) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(issued(name).cert, issued(name).key)
    made.set_alpn_protocols(["h2"])
    return made


@pytest.mark.parametrize("name", ["other.test", None])
async def test_who_is_not_passed_on_needs_a_certificate(
    name: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(passing(1, certificates=False)) as live:
        client = await live.client()
        await client.send(hello(name))
        await play(client << b"\x15\x03\x03\x00\x02\x02\x70")
        await live.settled()
        assert live.stats().downstream_tls_failed == {"unrecognized_name": 1}
        assert len(failures(caplog)) == 1


# ---- servers that speak first

SILENT = "    server_first: {wait: 500ms, cluster: raw}\n"


def silent(web_port: int, raw_port: int, more: str = "", server_first: str = SILENT) -> str:
    return with_raw(web(web_port, listener=server_first + more), raw_port)


async def greeted(live: Live, raw: Any, client: Party) -> None:  # Any: tests.live.Upstream
    server = Party("mail", await raw.accept())
    await play(server >> b"220 hello\r\n", client << b"220 hello\r\n")
    await play(client >> b"QUIT\r\n", server << b"QUIT\r\n")


async def test_a_silent_client_hears_the_server_that_speaks_first() -> None:
    async with upstream() as up, upstream() as raw, running(silent(up.port, raw.port)) as live:
        client = await live.client()
        await greeted(live, raw, client)
        assert live.stats().downstream_cx_silent == 1


async def test_one_that_speaks_on_the_same_port_gets_its_protocol() -> None:
    async with upstream() as up, upstream() as raw, running(silent(up.port, raw.port)) as live:
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        await greeted(live, raw, await live.client())
        client = await live.client()  # also where silent clients are known
        await play(client >> GET, server << HEAD, server >> OK, client << OK)
        assert raw.accepted == 1


async def test_a_destination_is_remembered_and_nobody_waits_there() -> None:
    waits = "    server_first: {wait: %s, known_wait: 0, cluster: raw}\n"
    async with upstream() as raw:
        text = silent(1, raw.port, server_first=waits % "200ms")
        async with running(text) as live:
            began = trio.current_time()
            await greeted(live, raw, await live.client())
            assert trio.current_time() - began >= 0.2
            # From here on a client that is not known to listen first would wait for longer than this test may take.
            await live.reload(text.replace("wait: 200ms", "wait: 1h"))
            for _ in range(3):
                await greeted(live, raw, await live.client())


async def test_the_fallback_serves_silent_clients_where_nobody_else_is_named() -> None:
    text = silent(1, 2, server_first="    server_first: true\n" + FALLBACK)
    async with (
        upstream() as raw,
        running(text.replace("127.0.0.1:2]", f"127.0.0.1:{raw.port}]")) as live,
    ):
        await greeted(live, raw, await live.client())


async def test_silence_inside_tls_counts_likewise() -> None:
    async with upstream() as raw, running(silent(1, raw.port, tls("mode: strict"))) as live:
        await greeted(live, raw, await party(live))
        plain = await live.client()
        await play(plain << NOTHING)
        assert raw.accepted == 1, "strict: silence in plaintext is nobody's"


async def test_a_client_that_ends_at_once_is_not_silent() -> None:
    async with upstream() as raw, running(silent(1, raw.port)) as live:
        client = await live.client()
        await finish(client)
        await live.settled()
        assert live.stats().downstream_cx_ended_early == 1
        assert raw.accepted == 0


# ---- probes


@pytest.mark.parametrize("way", ["close", "finish", "reset"])
@pytest.mark.parametrize("listener", ["    proxy_protocol: true\n", tls(), ""])
async def test_who_comes_and_goes_without_a_word_is_counted_and_not_logged(
    way: str, listener: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener=listener)) as live:
        probe = await live.connect()
        if way == "finish":
            await probe.send_eof()
        elif way == "reset":
            probe.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            probe.socket.close()
        else:
            await probe.aclose()
        await eventually(lambda: live.stats().downstream_cx_ended_early == 1, "it is counted")
        await live.settled()
        assert live.stats().downstream_cx_proxy_protocol_error == 0
        assert live.stats().downstream_cx_unknown_protocol == 0
    assert [r for r in caplog.records if r.name.startswith("xproxy.proxy")] == []


async def test_half_a_proxy_header_is_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with running(web(1, listener="    proxy_protocol: true\n")) as live:
        client = await live.client()
        await client.send(b"PROXY TCP4")
        await finish(client)
        await play(client << END)
        assert live.stats().downstream_cx_proxy_protocol_error == 1
    assert "within its PROXY header" in caplog.text
