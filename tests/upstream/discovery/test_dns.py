"""Names are looked up at a real server, again and again; what fails keeps the last answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from tests.dns_server import DnsServer, dns_server, records
from tests.live import (
    GET,
    PATIENCE,
    Live,
    answering,
    eventually,
    http_response,
    registry,
    running,
    unused_port,
    upstream,
    web,
)
from tests.upstream.discovery.kit import get
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text, simple
from xproxy.testing import Party, play
from xproxy.upstream.discovery import finding


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsServer]:
    with dns_server(tmp_path_factory.mktemp("dns")) as found:
        yield found


def looked_up(server: DnsServer, *names: str, **options: object) -> str:
    """Return a configuration whose endpoints are ``names``, with options of the look-up."""
    said = {
        "resolvers": f"['127.0.0.1:{server.port}']",
        "resolv_conf": "/nonexistent",
        "hosts": "''",
        "min_ttl": "100ms",
        "refresh": "100ms",
    } | options
    fields = ", ".join(f"{key}: {value}" for key, value in said.items())
    text = web(type=f"{{name: dns, {fields}}}")
    return text.replace("endpoints: []", f"endpoints: [{', '.join(names)}]")


def addresses(live: Live) -> list[str]:
    return [str(endpoint.address) for endpoint in live.cluster().endpoints]


async def become(live: Live, *expected: str) -> None:
    await eventually(lambda: addresses(live) == list(expected), f"endpoints are {expected}")


async def test_each_address_is_an_endpoint_and_those_that_stay_keep_all(
    server: DnsServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.say(a_test__A=records("127.0.0.2", "127.0.0.1"))
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering(b"ok"))
        async with running(looked_up(server, f"a.test:{up.port}")) as live:
            cluster, stats = live.cluster(), live.cluster().stats
            assert addresses(live) == []
            client = await live.client()
            cluster.discover()
            one, two = f"127.0.0.1:{up.port}", f"127.0.0.2:{up.port}"
            await become(live, one, two)
            assert [endpoint.hostname for endpoint in cluster.endpoints] == ["a.test"] * 2
            kept = cluster.endpoints[0]
            server.say(a_test__A=records("127.0.0.1", ttl=0))
            await become(live, one)
            assert cluster.endpoints == (kept,)
            assert await get(client) == b"200 ok"
            updates = stats.discovery_updates
            server.say(a_test__A={"rcode": "SERVFAIL"})
            with caplog.at_level(logging.WARNING):
                await eventually(lambda: stats.discovery_failed >= 2, "two failures")
                assert await get(client) == b"200 ok"
                server.put({"a.test. TXT": records("x")})
                await eventually(lambda: "has no" in caplog.text, "an empty answer")
                server.say(other__A=records("127.0.0.1"))
                await eventually(lambda: "NXDOMAIN" in caplog.text, "no such name")
            assert addresses(live) == [one], "the last answer stays"
            assert stats.discovery_updates == updates
            assert await get(client) == b"200 ok"
            assert up.accepted == 1
            server.say(a_test__A=records("127.0.0.2", "127.0.0.1"))
            await become(live, one, two)
            assert cluster.endpoints[0] is kept
        nursery.cancel_scope.cancel()


async def test_a_time_without_answer_keeps_the_last_one_too(server: DnsServer) -> None:
    server.say(a_test__A=records("127.0.0.1", ttl=0))
    async with running(
        looked_up(server, "a.test:80", timeout="200ms", lookup_family="v4_only")
    ) as live:
        live.cluster().discover()
        await become(live, "127.0.0.1:80")
        server.say(a_test__A={"drop": True})
        await eventually(lambda: live.cluster().stats.discovery_failed > 0, "no answer")
        assert addresses(live) == ["127.0.0.1:80"]


async def test_the_time_an_answer_holds_is_respected_within_bounds(server: DnsServer) -> None:
    server.say(a_test__A=records("127.0.0.1", ttl=3600), b_test__A=records("127.0.0.1", ttl=3600))
    long, short = looked_up(server, "a.test:80"), looked_up(server, "b.test:80", max_ttl="200ms")
    async with running(long) as one, running(short) as other:
        for live in (one, other):
            live.cluster().discover()
            await become(live, "127.0.0.1:80")
        server.say(a_test__A=records("127.0.0.2"), b_test__A=records("127.0.0.2"))
        await become(other, "127.0.0.2:80")
        assert addresses(one) == ["127.0.0.1:80"], "it holds for an hour"


async def test_an_answer_too_long_for_a_datagram_comes_over_tcp(server: DnsServer) -> None:
    many = sorted((f"127.1.{n // 250}.{n % 250 + 1}" for n in range(500)), key=key)
    server.say(a_test__A={**records(*many), "truncate": True})
    async with running(looked_up(server, "a.test:80")) as live:
        live.cluster().discover()
        await become(live, *(f"{address}:80" for address in many))


def key(address: str) -> list[int]:
    return [int(part) for part in address.split(".")]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("auto", ["[::1]:80"]),
        ("v4_preferred", ["127.0.0.1:80"]),
        ("v4_only", ["127.0.0.1:80"]),
        ("v6_only", ["[::1]:80"]),
        ("all", ["127.0.0.1:80", "[::1]:80"]),
    ],
)
async def test_of_two_families_those_count_that_are_wanted(
    server: DnsServer, family: str, expected: list[str]
) -> None:
    server.say(a_test__A=records("127.0.0.1"), a_test__AAAA=records("::1"))
    async with running(looked_up(server, "a.test:80", lookup_family=family)) as live:
        live.cluster().discover()
        await become(live, *expected)


async def test_a_family_that_a_name_has_no_more_is_not_kept(server: DnsServer) -> None:
    server.say(a_test__A=records("127.0.0.1", ttl=0), a_test__AAAA=records("::1", ttl=0))
    async with running(looked_up(server, "a.test:80")) as live:
        live.cluster().discover()
        await become(live, "[::1]:80")
        server.say(a_test__A=records("127.0.0.1", ttl=0), a_test__AAAA={"rcode": "SERVFAIL"})
        await eventually(lambda: live.cluster().stats.discovery_failed > 0, "one failure")
        assert addresses(live) == ["[::1]:80"]
        server.say(a_test__A=records("127.0.0.1", ttl=0))
        await become(live, "127.0.0.1:80")


async def test_service_records_say_port_weight_and_priority(server: DnsServer) -> None:
    server.put(
        {
            "_web._tcp.a.test. SRV": records(
                "10 3 8001 b.test.", "10 0 8002 c.test.", "20 7 8003 b.test.", "10 1 80 gone.test."
            ),
            "b.test. A": records("127.0.0.1", "127.0.0.2"),
            "c.test. A": records("127.0.0.3"),
        }
    )
    async with running(looked_up(server, srv="_web._tcp.a.test")) as live:
        live.cluster().discover()
        await eventually(lambda: len(live.cluster().endpoints) == 5, "five endpoints")
        found = [
            (str(e.address), e.weight, e.priority, e.hostname) for e in live.cluster().endpoints
        ]
        assert found == [
            ("127.0.0.1:8001", 3, 0, "a.test"),
            ("127.0.0.2:8001", 3, 0, "a.test"),
            ("127.0.0.3:8002", 1, 0, "a.test"),
            ("127.0.0.1:8003", 7, 1, "a.test"),
            ("127.0.0.2:8003", 7, 1, "a.test"),
        ]
        stats = live.cluster().stats
        await eventually(lambda: stats.discovery_failed > 0, "one target is not there")


async def test_a_logical_name_moves_new_connections_only(server: DnsServer) -> None:
    port = unused_port()
    server.say(a_test__A=records("127.0.0.1", ttl=0))
    text = looked_up(server, f"a.test:{port}", mode="logical", lookup_family="v4_only")
    (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.2")
    async with listener, upstream(port) as up, running(text) as live:
        one, two = await live.client("one"), await live.client("two")
        await one.send(GET)
        first = Party("first", await up.accept())
        await first.expect(GET_HEAD)
        (endpoint,) = live.cluster().endpoints
        assert str(endpoint.address) == f"a.test:{port}"
        server.say(a_test__A=records("127.0.0.2", "127.0.0.1", ttl=0))
        await eventually(lambda: f"{endpoint.dial}" == f"127.0.0.2:{port}", "the other answer")
        assert live.cluster().endpoints == (endpoint,)
        await two.send(GET)
        with trio.fail_after(PATIENCE):
            stream = await listener.accept()
        async with stream:
            other = Party("other", stream)
            await play(other << GET_HEAD, other >> OK, two << OK)
            await play(first >> OK, one << OK)
            assert endpoint.connections == 2, "the one that was open stays"


GET_HEAD = re.compile(rb"GET / [^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
OK = http_response(b"ok")


async def test_what_is_in_the_hosts_file_is_not_asked(server: DnsServer, tmp_path: Path) -> None:
    server.say(b_test__A=records("127.0.0.9", ttl=0))
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.7  A.Test other\n")
    text = looked_up(server, "a.test:80", "b.test:81", "localhost:82", "10.0.0.1:83", hosts=hosts)
    async with running(text.replace("refresh", "lookup_family: v4_only, refresh")) as live:
        live.cluster().discover()
        await become(live, "127.0.0.7:80", "127.0.0.9:81", "127.0.0.1:82", "10.0.0.1:83")


async def test_the_first_request_waits_and_then_fails_for_good(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "FIRST_ANSWER_SECONDS", 0.2)
    server.say(a_test__A={"rcode": "SERVFAIL"})
    async with running(looked_up(server, "a.test:80")) as live:
        client = await live.client()
        assert (await get(client)).startswith(b"503 ")
        assert live.cluster().stats.upstream_cx_none_healthy == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "it needs names, in `endpoints` or `srv`"),
        ({"srv": "_a._tcp.b", "resolvers": "['a.test:53']"}, "a resolver is an IP address"),
        ({"srv": "_a._tcp.b", "min_ttl": "10m"}, "min_ttl is above max_ttl"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    server: DnsServer, options: dict[str, object], said: str
) -> None:
    with pytest.raises(InvalidConfig, match=re.escape(said)):
        load_text(looked_up(server, **options), "x", registry())


async def test_other_names_in_the_file_are_asked_for_and_the_cluster_stays(
    server: DnsServer,
) -> None:
    server.say(a_test__A=records("127.0.0.1"), b_test__A=records("127.0.0.2"))
    async with running(looked_up(server, "a.test:80")) as live:
        cluster = live.cluster()
        cluster.discover()
        await become(live, "127.0.0.1:80")
        await live.reload(looked_up(server, "b.test:80", "a.test:80"))
        await become(live, "127.0.0.2:80", "127.0.0.1:80")
        assert live.cluster() is cluster


async def test_a_name_among_static_endpoints_is_looked_up_as_it_is_dialled() -> None:
    async with upstream() as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.serve, answering(b"1"))
        config = simple("127.0.0.1:0", [f"localhost:{up.port}"])
        async with running(web(1).replace("127.0.0.1:1", f"localhost:{up.port}")) as live:
            assert await get(await live.client()) == b"200 1"
            await live.runtime.reload(config)  # as of ``xproxy run --upstream``
            assert await get(await live.client(listener="default")) == b"200 1"
        nursery.cancel_scope.cancel()
