"""TLS to endpoints: who is trusted, by which name, and what a failure says."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.certificates import Authority
from tests.live import GET, Live, eventually, http_response, running, upstream, web
from tests.secure import ca
from tests.transport.tls.kit import authority, issued
from xproxy.testing import play

OK = http_response(b"ok")


def served(
    *names: str, client_ca: Path | None = None, alpn: tuple[str, ...] = ()
) -> ssl.SSLContext:
    """Return an upstream's context."""
    found = issued(*names)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(found.cert, found.key)
    if client_ca is not None:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(client_ca)
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


class Secure:
    """An upstream that speaks TLS, and answers each request without a body with ok."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.names: list[str | None] = []
        """What was asked for."""
        self.identities: list[object] = []
        """Who asked."""
        context.sni_callback = self._note

    def _note(self, _: object, name: str | None, __: object) -> None:
        self.names.append(name)

    async def serve(self, stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, self.context, server_side=True)
        await secure.do_handshake()
        certificate = secure.getpeercert()
        self.identities.append(certificate and certificate["subjectAltName"])
        buffer = b""
        while data := await secure.receive_some():
            buffer += data
            while b"\r\n\r\n" in buffer:
                _, _, buffer = buffer.partition(b"\r\n\r\n")
                await secure.send_all(OK)


@asynccontextmanager
async def proxied(
    context: ssl.SSLContext, tls: str, **more: str
) -> AsyncIterator[tuple[Live, Secure]]:
    secure = Secure(context)
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, secure.serve)
        async with running(web(up.port, tls=tls, **more)) as live:
            yield live, secure
        nursery.cancel_scope.cancel()


async def asked(live: Live, *, fine: bool = True) -> None:
    client = await live.client()
    await client.send(GET)
    if fine:
        await play(client << OK)
    else:
        await client.expect(re.compile(rb"HTTP/1.1 503 .*cannot be reached\n?", re.DOTALL))


async def test_an_endpoint_given_by_its_address_must_have_it_in_its_certificate() -> None:
    async with proxied(served("127.0.0.1"), f"{{ca: {ca()}}}") as (live, secure):
        await asked(live)
        assert secure.names == [None]
        assert live.cluster().stats.upstream_tls_handshakes == 1


async def test_a_name_is_asked_for_and_checked() -> None:
    async with proxied(served("web.test"), f"{{ca: {ca()}, sni: web.test}}") as (live, secure):
        await asked(live)
        assert secure.names == ["web.test"]


async def test_other_names_may_do() -> None:
    tls = f"{{ca: {ca()}, sni: web.test, sans: ['spiffe://mesh/ns/*']}}"
    async with proxied(served("spiffe://mesh/ns/shop"), tls) as (live, secure):
        await asked(live)
        assert secure.names == ["web.test"]


async def test_our_certificate_is_shown_where_it_is_asked_for() -> None:
    ours = issued("proxy.test")
    tls = f"{{ca: {ca()}, cert: {ours.cert}, key: {ours.key}}}"
    async with proxied(served("127.0.0.1", client_ca=ca()), tls) as (live, secure):
        await asked(live)
        assert secure.identities == [(("DNS", "proxy.test"),)]


async def test_without_verification_anybody_will_do() -> None:
    async with proxied(served("whoever.test"), "{verify: false}") as (live, _):
        await asked(live)


@pytest.mark.parametrize(
    ("tls", "why"),
    [
        ("true", "self-signed certificate in certificate chain"),
        ("{ca: CA, sni: web.test}", "Hostname mismatch"),
        ("{ca: CA}", "IP address mismatch"),
        ("{ca: CA, sni: web.test, sans: [b.test]}", "none of the names wanted"),
    ],
)
async def test_who_is_not_whom_we_want_is_told_apart_in_the_log(
    tls: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    log = "    filters: [access_log]\n"
    context = served("other.test")
    async with proxied(context, tls.replace("CA", str(ca())), timeouts="{}", listener=log) as (
        live,
        _,
    ):
        await asked(live, fine=False)
        assert live.cluster().stats.upstream_cx_connect_fail == 1
        await live.settled(clients=None, upstreams=0)
    said = capfd.readouterr()
    assert why in said.out + said.err
    assert " UF " in said.out + said.err


async def test_a_common_name_is_no_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """RFC 9525 §6.3: only subject alternative names are; a common name may be anything."""
    authority = Authority(tmp_path)
    found = authority.issue(file="nameless", common_name="web.test")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(found.cert, found.key)
    log = "    filters: [access_log]\n"
    tls = f"{{ca: {authority.ca}, sni: web.test}}"
    async with proxied(made, tls, timeouts="{}", listener=log) as (live, _):
        await asked(live, fine=False)
        await live.settled(clients=None, upstreams=0)
    said = capfd.readouterr()
    assert "Hostname mismatch" in said.out + said.err


async def test_a_handshake_counts_with_the_connect_timeout() -> None:
    async with upstream() as up, running(web(up.port, tls="true", connect_timeout="100ms")) as live:
        await asked(live, fine=False)
        await live.settled(clients=None, upstreams=0)


async def test_an_endpoint_that_speaks_no_tls(capfd: pytest.CaptureFixture[str]) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, plain)
        log = "    filters: [access_log]\n"
        async with running(web(up.port, tls="true", listener=log)) as live:
            await asked(live, fine=False)
            await live.settled(clients=None, upstreams=0)
        said = capfd.readouterr()
        assert "does not speak TLS" in said.out + said.err
        assert "remove `tls` from cluster web?" in said.out + said.err
        nursery.cancel_scope.cancel()


async def test_a_request_that_is_cancelled_in_the_handshake_leaves_nothing() -> None:
    async with upstream() as up, running(web(up.port, tls="true")) as live:
        client = await live.connect()
        await client.send_all(GET)
        stalled = await up.accept()
        assert await stalled.receive_some(1) == b"\x16"
        client.socket.close()
        await live.settled(clients=0, upstreams=0)


async def test_the_proxy_header_comes_before_tls() -> None:
    secure = Secure(served("127.0.0.1"))
    heads: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n"):
            head += await stream.receive_some(1)
        heads.append(head)
        await secure.serve(stream)

    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, serve)
        async with running(web(up.port, tls=f"{{ca: {ca()}}}", proxy_protocol="v1")) as live:
            await asked(live)
        nursery.cancel_scope.cancel()
    assert heads[0].startswith(b"PROXY TCP4 127.0.0.1 127.0.0.1 ")


async def test_a_new_authority_is_taken_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(Authority(tmp_path, "another").ca.read_bytes())
    tls = f"{{ca: {bundle}, reload_interval: 1s}}"
    async with proxied(served("127.0.0.1"), tls) as (live, _):
        await asked(live, fine=False)
        bundle.write_bytes(authority().ca.read_bytes())
        await eventually(lambda: "certificates have been read again" in caplog.text, "taken up")
        await asked(live)


async def test_raw_tcp_is_carried_in_tls_too() -> None:
    text = (
        "listeners: [{name: edge, address: '127.0.0.1:0', fallback: {cluster: web}}]\n"
        "clusters:\n  web:\n    endpoints: ['127.0.0.1:%d']\n    tls: {ca: %s}\n"
    )
    secure = Secure(served("127.0.0.1"))
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, secure.serve)
        async with running(text % (up.port, ca())) as live:
            await asked(live)
        nursery.cancel_scope.cancel()


async def test_the_host_name_of_an_endpoint_is_asked_for_and_verified() -> None:
    secure = Secure(served("a.test"))
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, secure.serve)
        text = web(up.port, tls=f"{{ca: {ca()}}}")
        for name, fine in (("a.test", True), ("b.test", False)):
            named = f"{{address: '127.0.0.1:{up.port}', hostname: {name}}}"
            async with running(text.replace(f"127.0.0.1:{up.port}", named)) as live:
                await asked(live, fine=fine)
        assert secure.names == ["a.test", "b.test"]
        nursery.cancel_scope.cancel()
