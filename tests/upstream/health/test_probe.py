"""The connection of a check: kept as long as it is good, and another one where it is not."""

from __future__ import annotations

import pytest
import trio

from tests.health_checks.kit import REGISTRY, bench, scripted
from tests.live import eventually, refusing_port, running, upstream, web
from tests.secure import ca
from xproxy.model.address import Address
from xproxy.model.errors import ConnectFailed
from xproxy.transport.stream import write_all
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.health.probe import EndpointProbe


async def test_a_connection_is_kept_until_it_is_closed() -> None:
    async with bench(scripted(b"a", b"b", b"c")) as (by, up):
        probe = by.probe(up.port)
        first = await probe.connect()
        assert await probe.connect() is first
        probe.close()
        second = await probe.connect()
        assert second is not first
        probe.close()
        probe.close()


async def test_one_that_the_endpoint_has_closed_is_not_used() -> None:
    async with bench(scripted()) as (by, up):
        probe = by.probe(up.port)
        first = await probe.connect()
        await eventually(lambda: first.hung_up or first.pending, "it is closed")
        assert await probe.connect() is not first
        probe.close()


async def test_one_with_an_answer_to_nothing_is_not_used() -> None:
    async with bench(scripted(b"twice", b"")) as (by, up):
        probe = by.probe(up.port)
        first = await probe.connect()
        await write_all(first, b"x")
        await eventually(lambda: first.pending, "something came")
        assert await probe.connect() is not first
        probe.close()


async def test_talk_is_kept_per_codec() -> None:
    async with bench(scripted(b"", b"")) as (by, up):
        probe = by.probe(up.port)
        talk = await probe.converse(REGISTRY.codec("http1"))
        assert await probe.converse(REGISTRY.codec("http1")) is talk
        assert await probe.converse(REGISTRY.codec("http2")) is not talk
        assert await probe.connect() is not talk.stream
        probe.close()


async def test_an_endpoint_may_have_a_port_for_checks() -> None:
    async with bench(scripted(b"")) as (by, up):
        probe = by.probe(up.port)
        other = Endpoint(Address("127.0.0.1", 1), check_port=up.port)
        elsewhere = EndpointProbe(probe._probing, other)
        assert elsewhere.address == Address("127.0.0.1", up.port)
        assert (await elsewhere.connect()).peer.port == up.port
        elsewhere.close()


async def test_another_port_for_checks_is_another_connection() -> None:
    async with bench(scripted(b"")) as (by, up), upstream() as other:
        probe = by.probe(up.port)
        stream = await probe.connect()
        assert await probe.connect() is stream
        probe._endpoint.check_port = other.port
        assert (await probe.connect()).peer.port == other.port
        await probe.converse(REGISTRY.codec("http1"))
        probe._endpoint.check_port = 0
        assert (await probe.converse(REGISTRY.codec("http1"))).stream.peer.port == up.port
        probe.close()


@pytest.mark.parametrize(
    ("version", "said"), [("v1", b"PROXY UNKNOWN\r\n"), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
)
async def test_a_proxy_header_on_nobodys_behalf(version: str, said: bytes) -> None:
    heard: list[bytes] = []
    async with bench(scripted(b"+", hear=heard)) as (by, up):
        probe = by.probe(up.port, proxy_protocol=version)
        stream = await probe.connect()
        assert await stream.read() == b"+"
        probe.close()
    assert heard == [said]


async def test_tls_as_requests_have_it() -> None:
    """An endpoint that cannot be trusted is unhealthy."""
    check = (
        "[{timeout: 9s, interval: 9s, unhealthy_threshold: 1, healthy_threshold: 1, check: tcp}]"
    )
    async with upstream() as up, trio.open_nursery() as nursery:

        async def plain(stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(b"no TLS here\r\n")

        nursery.start_soon(up.serve, plain)
        text = web(up.port, tls=f"{{ca: '{ca()}'}}", health_checks=check)
        async with running(text) as live:
            (endpoint,) = live.cluster().endpoints
            await eventually(lambda: not endpoint.checks[0].pending, "checked")
            assert endpoint.checks[0].failed
            assert "TLS" in endpoint.checks[0].detail
        nursery.cancel_scope.cancel()


async def test_who_does_not_listen_cannot_be_checked() -> None:
    async with bench(scripted()) as (by, _):
        probe = by.probe(refusing_port())
        with pytest.raises(ConnectFailed):
            await probe.connect()
