"""Dubbo through a whole proxy, on real sockets: what routes see, what filters change, who answers whom.

The upstream is played byte by byte: what arrives there is what the proxy wrote.
"""

from __future__ import annotations

import re

import pytest
from trio.testing import MockClock

from tests.live import Live, Upstream, eventually, running, upstream
from xproxy.codecs.dubbo.attachments import write_map
from xproxy.codecs.dubbo.prefix import make_prefix
from xproxy.codecs.dubbo.status import from_native
from xproxy.codecs.hessian2 import write_text
from xproxy.model.errors import Overflow
from xproxy.model.status import Status
from xproxy.testing import NOTHING, Party, play

SERVICE = "demo.Greeter"
HEARTBEAT = bytes.fromhex("dabb e2 00 0000000000000000 00000001 4e")
READ_ONLY = bytes.fromhex("dabb a2 00 0000000000000000 00000002 0152")


def message(flag: int, status: int, number: int, body: bytes) -> bytes:
    return b"\xda\xbb" + bytes((flag, status)) + number.to_bytes(8) + len(body).to_bytes(4) + body


def body_of(
    method: str = "hello",
    *,
    service: str = SERVICE,
    version: str = "1.2.3",
    argument: bytes = b"\x05world",
    attachments: dict[str, str] | None = None,
) -> bytes:
    pairs = {"path": service, "interface": service, "version": version, **(attachments or {})}
    prefix = make_prefix(service, method, "Ljava/lang/String;", version=version)
    return prefix.block + argument + write_map(list(pairs.items()))


def request(number: int, body: bytes) -> bytes:
    return message(0xC2, 0, number, body)


def answer(number: int, text: str, status: int = 20) -> bytes:
    return message(2, status, number, (b"\x91" if status == 20 else b"") + write_text(text))


async def asked(server: Party, body: bytes, flag: int = 0xC2) -> int:
    """Wait for a request with this body; return its id."""
    head = re.escape(b"\xda\xbb" + bytes((flag, 0)))
    rest = re.escape(len(body).to_bytes(4) + body)
    came = await server.expect(re.compile(head + rb"(.{8})" + rest, re.DOTALL))
    return int.from_bytes(came[4:12])


def config(ports: dict[str, int], routes: str = "", **cluster: str) -> str:
    options = "".join(f", {key}: {value}" for key, value in cluster.items())
    text = "listeners:\n  - {name: edge, address: '127.0.0.1:0', routes: main}\nroutes:\n  main:\n"
    text += routes or "    - cluster: all\n"
    text += "clusters:\n"
    for name, port in ports.items():
        text += f"  {name}: {{endpoints: ['127.0.0.1:{port}']{options}}}\n"
    return text


async def opened(live: Live, up: Upstream) -> tuple[Party, Party]:
    """Let one request through; return both ends."""
    client = await live.client()
    await client.send(request(1, body_of()))
    server = Party("upstream", await up.accept())
    number = await asked(server, body_of())
    await server.send(answer(number, "hi"))
    await client.expect(answer(1, "hi"))
    return client, server


ROUTES = """
    - {match: {service: demo.Greeter, method: hello, headers: {version: 2.0.0}}, cluster: version}
    - {match: {service: demo.Greeter, headers: {group: blue}}, cluster: group}
    - {match: {headers: {tenant: {prefix: acme-}}}, cluster: attachment}
    - {match: {method: [add, sub]}, cluster: method}
    - {match: {service: demo.Greeter}, cluster: service}
    - {match: {protocol: dubbo}, cluster: rest}
"""
ROUTED: list[tuple[str, bytes, int]] = [
    ("version", body_of(version="2.0.0"), 0xC2),
    ("group", body_of(attachments={"group": "blue"}), 0xC2),
    ("attachment", body_of("other", service="a.B", attachments={"tenant": "acme-1"}), 0xC2),
    # The attachments are behind an argument that has to be walked through: a list of objects.
    (
        "attachment",
        body_of(
            "other",
            service="a.B",
            argument=b"\x57C\x05demo.\x91\x01n`\x93`\x94Z",
            attachments={"tenant": "acme-2"},
        ),
        0xC2,
    ),
    ("method", body_of("add", service="a.B"), 0xC2),
    ("service", body_of(), 0xC2),
    ("rest", body_of("gone", service="a.B"), 0xC2),
    # Of fastjson and fastjson2 it is read for whom they are, of others nothing.
    ("service", b'"2.0.2"\n"demo.Greeter"\n""\n"hello"\n""\n{}\n', 0xC0 | 6),
    (
        "version",
        b"\0\0\0\6\x4e2.0.2\0\0\0\x0d\x55demo.Greeter\0\0\0\6\x4e2.0.0\0\0\0\6\x4ehello\0\0\0\1\x49"
        b"\0\0\0\1\xa6",
        0xC0 | 23,
    ),
    ("rest", b"\x92what kryo writes", 0xC0 | 8),
    ("rest", b"\x08\x01", 0xC0 | 22),
]


@pytest.mark.parametrize(("cluster", "body", "flag"), ROUTED)
async def test_routing(cluster: str, body: bytes, flag: int) -> None:
    names = ("version", "group", "attachment", "method", "service", "rest")
    async with upstream() as right, upstream() as wrong:
        ports = {name: right.port if name == cluster else wrong.port for name in names}
        async with running(config(ports, ROUTES)) as live:
            client = await live.client()
            await client.send(message(flag, 0, 1 << 40, body))
            server = Party("upstream", await right.accept())
            number = await asked(server, body, flag)
            serialization = flag & 0x1F
            await server.send(message(serialization, 20, number, b"\x91\x02ok"))
            await client.expect(message(serialization, 20, 1 << 40, b"\x91\x02ok"))
            assert wrong.accepted == 0


async def test_a_filter_changes_attachments_and_nothing_else() -> None:
    routes = (
        "    - filters: [{name: headers, request: {set: {tenant: '%METHOD%', group: green},"
        " remove: [token]}, response: {set: {served-by: edge}}}]\n"
        "      cluster: all\n"
    )
    async with upstream() as up, running(config({"all": up.port}, routes)) as live:
        client = await live.client()
        await client.send(
            request(7, body_of(attachments={"group": "blue", "token": "x", "other": "1"}))
        )
        server = Party("upstream", await up.accept())
        wanted = body_of(attachments={"group": "green", "other": "1", "tenant": "hello"})
        number = await asked(server, wanted)
        # The caller (2.0.2) understands attachments in answers.
        await server.send(message(2, 20, number, b"\x91\x02ok"))
        with_attachments = b"\x94\x02ok" + write_map([("served-by", "edge")])
        await client.expect(message(2, 20, 7, with_attachments))
        await live.settled(clients=1)


async def test_oneway_requests_are_not_answered() -> None:
    async with upstream() as up, running(config({"all": up.port})) as live:
        client = await live.client()
        await client.send(message(0x82, 0, 5, body_of()))
        server = Party("upstream", await up.accept())
        await asked(server, body_of(), 0x82)
        await play(client << NOTHING)
        await live.settled(clients=1)


async def test_heartbeats_are_answered_on_each_side_and_never_pass(mock_clock: MockClock) -> None:
    mock_clock.rate = 1
    async with upstream() as up, running(config({"all": up.port})) as live:
        client, server = await opened(live, up)
        for party, number in ((client, 9), (server, 1 << 33)):
            heartbeat = message(0xE2, 0, number, b"N")
            await play(party >> heartbeat, party << message(0x22, 20, number, b"N"))
        await play(client << NOTHING, server << NOTHING)
        # The proxy asks a silent endpoint, and takes any answer.
        mock_clock.jump(16)
        await server.expect(HEARTBEAT)
        await server.send(message(0x22, 20, 0, b"N"))
        await live.settled(clients=1, upstreams=1)


async def test_a_server_that_says_read_only_gets_no_more_and_answers_what_it_has() -> None:
    async with upstream() as up, running(config({"all": up.port})) as live:
        client, server = await opened(live, up)
        await client.send(request(2, body_of("slow")))
        slow = await asked(server, body_of("slow"))
        await server.send(READ_ONLY)
        await eventually(
            lambda: live.cluster("all").endpoints[0].connections == 1, "it stays for the answer"
        )
        await client.send(request(3, body_of()))
        other = Party("other connection", await up.accept())
        number = await asked(other, body_of())
        await other.send(answer(number, "from the other"))
        await client.expect(answer(3, "from the other"))
        await server.send(answer(slow, "from the first"))
        await client.expect(answer(2, "from the first"))
        await live.settled(clients=1, upstreams=1)


async def test_a_client_that_says_read_only_is_still_served() -> None:
    async with upstream() as up, running(config({"all": up.port})) as live:
        client, server = await opened(live, up)
        await client.send(request(2, body_of("slow")) + READ_ONLY)
        slow = await asked(server, body_of("slow"))
        await server.send(answer(slow, "in the end"))
        await client.expect(answer(2, "in the end"))


async def test_a_server_calls_its_client() -> None:
    async with upstream() as up, running(config({"all": up.port}, connections="bound")) as live:
        client, server = await opened(live, up)
        callback = body_of("changed", service="callback.service.proxy")
        await server.send(request(1, callback))
        number = await asked(client, callback)
        await client.send(answer(number, "noted"))
        await server.expect(answer(1, "noted"))
        # Both directions at once, with one id for two things.
        await client.send(request(4, body_of("there")))
        there = await asked(server, body_of("there"))
        await server.send(request(there, body_of("back")))
        back = await asked(client, body_of("back"))
        await server.send(answer(there, "yes"))
        await client.expect(answer(4, "yes"))
        await client.send(answer(back, "no"))
        await server.expect(answer(there, "no"))
        await live.settled(clients=1, upstreams=1)


@pytest.mark.parametrize(
    "status", [20, 25, 30, 31, 35, 40, 50, 60, 70, 80, 90, 100], ids=lambda s: str(s)
)
async def test_each_status_passes_and_is_counted_by_what_it_means(status: int) -> None:
    async with upstream() as up, running(config({"all": up.port})) as live:
        client = await live.client()
        await client.send(request(3, body_of()))
        server = Party("upstream", await up.accept())
        number = await asked(server, body_of())
        await server.send(answer(number, "so it is", status))
        await client.expect(answer(3, "so it is", status))
        assert from_native(status) is not Status.UNKNOWN
        assert live.cluster("all").stats.statuses == {from_native(status): 1}


async def test_a_full_cluster_is_told_as_thread_pool_exhausted() -> None:
    text = config({"all": 9}, circuit_breakers="{max_requests: 1}")
    async with upstream() as up, running(text.replace(":9'", f":{up.port}'")) as live:
        client = await live.client()
        await client.send(request(1, body_of("slow")))
        server = Party("upstream", await up.accept())
        slow = await asked(server, body_of("slow"))
        await client.send(request(2, body_of()))
        await client.expect(answer(2, Overflow.public, 100))
        await server.send(answer(slow, "done"))
        await client.expect(answer(1, "done"))


async def test_what_is_no_hessian2_request_is_refused_and_the_next_one_served() -> None:
    async with upstream() as up, running(config({"all": up.port})) as live:
        client = await live.client()
        await client.send(request(1, b"\xff\xff") + request(2, body_of()))
        await client.expect(answer(1, "the body is no hessian2 request", 40))
        server = Party("upstream", await up.accept())
        number = await asked(server, body_of())
        await server.send(answer(number, "hi"))
        await client.expect(answer(2, "hi"))
