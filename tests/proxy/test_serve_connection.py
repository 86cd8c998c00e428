"""From accept to the protocol's driver: PROXY headers, detection, its bounds, and what nobody recognises."""

from __future__ import annotations

import re
import struct

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.live import (
    GET,
    PATIENCE,
    eventually,
    finish,
    hang_up,
    http_response,
    port_of,
    reset,
    running,
    upstream,
    web,
)
from xproxy.codecs.http2.wire import DATA, PREFACE, frame, settings
from xproxy.testing import END, NOTHING, Party, play

OK = http_response(b"ok")
HEAD = re.compile(rb"[^\r]+\r\n(?:[^\r]+\r\n)*\r\n")
BOLT = bytes.fromhex("01 01 0001 01 00000007 01 00000BB8 0000 0000 00000000")
FALLBACK = "    fallback: {cluster: raw}\n"


def mixed(web_port: int, raw_port: int, *, listener: str = "", timeouts: str = "{}") -> str:
    """Return a listener with routes for what is recognised and a fallback for what is not."""
    text = web(web_port, timeouts=timeouts, listener=FALLBACK + listener)
    return f"{text}  raw:\n    endpoints: [127.0.0.1:{raw_port}]\n"


# ---- detection


async def test_two_protocols_and_raw_bytes_go_through_one_port() -> None:
    async with upstream() as known, upstream() as raw, running(mixed(known.port, raw.port)) as live:
        http, bolt, other = [await live.client(n) for n in ("http", "bolt", "other")]
        await http.send(GET)
        server = Party("http upstream", await known.accept())
        await play(server << HEAD, server >> OK, http << OK)
        await bolt.send(BOLT)
        server = Party("bolt upstream", await known.accept())
        await server.expect(re.compile(rb"\x01\x01\x00\x01\x01.{4}\x01.{12}", re.DOTALL))
        await other.send(b"\xff\xfe neither")
        server = Party("raw upstream", await raw.accept())
        await play(server << b"\xff\xfe neither", server >> b"ok", other << b"ok")
        counts = live.runtime.detections
        assert (counts.recognised["http1"], counts.recognised["bolt"]) == (1, 1)
        assert live.stats().downstream_cx_unknown_protocol == 1


async def test_the_first_bytes_may_come_one_by_one() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        for at in range(len(GET)):
            await client.send(GET[at : at + 1])
            await wait_all_tasks_blocked()
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)


async def test_what_begins_like_a_protocol_and_is_none_reaches_the_fallback_whole() -> None:
    async with upstream() as known, upstream() as raw, running(mixed(known.port, raw.port)) as live:
        client = await live.client()
        await client.send(b"GE")
        await play(client << NOTHING)
        await client.send(b"\x00rest")
        server = Party("raw upstream", await raw.accept())
        await server.expect(b"GE\x00rest")
        assert known.accepted == 0


async def test_a_fallback_serves_a_client_that_sends_little_and_finishes() -> None:
    async with upstream() as known, upstream() as raw, running(mixed(known.port, raw.port)) as live:
        client = await live.client()
        await client.send(b"GE")
        await finish(client)
        server = Party("raw upstream", await raw.accept())
        await play(server << b"GE", server << END, server >> b"bye", client << b"bye")
        await hang_up(server)
        await client.expect(END)
        await live.settled(clients=0, upstreams=0)


async def test_a_fallback_takes_over_when_detection_takes_too_long() -> None:
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port, timeouts="{detect: 100ms}")) as live,
    ):
        silent, slow = await live.client("silent"), await live.client("slow")
        await slow.send(b"GE")
        servers = [Party(f"raw {n}", await raw.accept()) for n in range(2)]
        for server in servers:  # a server that speaks first gets its word
            await server.send(b"hello")
        await play(silent << b"hello", slow << b"hello")
        assert live.stats().downstream_cx_unknown_protocol == 2


@pytest.mark.parametrize("sent", [b"", b"G", b"GET", b"\x01", b"\x01\x01"])
async def test_without_a_fallback_it_is_closed_in_time_and_counted_by_name(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with upstream() as up, running(web(up.port, timeouts="{detect: 100ms}")) as live:
        client = await live.client()
        await client.send(sent)
        await client.expect(END)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_unknown_protocol == 1
        assert "(timeouts.detect)" in caplog.text


async def test_unknown_bytes_are_closed_at_once_without_a_fallback() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(b"\xff" * 64)
        assert await client.expect(re.compile(b"")) == b""
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_unknown_protocol == 1


async def test_detection_looks_at_a_bounded_number_of_bytes() -> None:
    limits = "    limits: {max_detect_bytes: 32B}\n"
    async with upstream() as up, running(web(up.port, listener=limits)) as live:
        client = await live.client()
        await client.send(b"\r\n" * 3 + b"A" * 40)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_unknown_protocol == 1


@pytest.mark.parametrize("way", ["close", "reset"])
@pytest.mark.parametrize("sent", [b"", b"GE"])
async def test_a_client_that_leaves_before_it_is_known_leaves_nothing(
    sent: bytes, way: str
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await client.send(sent)
        await eventually(lambda: live.stats().downstream_cx_total == 1, "accepted")
        if way == "close":
            await hang_up(client)
        else:
            reset(client)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_unknown_protocol == (1 if sent and way == "close" else 0)


async def test_a_listener_of_one_codec_knows_no_other() -> None:
    async with upstream() as up, running(web(up.port, listener="    codecs: [bolt]\n")) as live:
        client = await live.client()
        await client.send(GET)
        await play(client << END)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_protocol_error == 1


async def test_a_listener_of_one_codec_answers_what_nobody_recognises_in_its_words() -> None:
    async with upstream() as up, running(web(up.port, listener="    codecs: [http1]\n")) as live:
        client = await live.client()
        await play(
            client >> b"GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
            client << re.compile(rb"HTTP/1.1 400 .*", re.DOTALL),
        )
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_rq_total == 0


async def test_who_leaves_before_the_protocol_is_known_is_counted() -> None:
    async with running(web(1)) as live:
        await hang_up(await live.client())
        await live.settled(clients=0)
        assert live.stats().downstream_cx_ended_early == 1


# ---- tunnels

CONNECT = b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"
GRANTED = re.compile(rb"HTTP/1.1 200 OK\r\n(?:[^\r]+\r\n)*\r\n")


def tunnelling(port: int, timeouts: str = "{}") -> str:
    return web(port, timeouts=timeouts).replace(
        "    - cluster: web", "    - {cluster: web, allow_connect: true}"
    )


async def test_a_tunnel_is_refused_unless_a_route_allows_it() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.client()
        await play(client >> CONNECT, client << re.compile(rb"HTTP/1.1 501 .*", re.DOTALL))
        assert up.accepted == 0


@pytest.mark.parametrize("first", ["client", "server"])
async def test_a_tunnel_is_half_closed_in_either_order(first: str) -> None:
    async with upstream() as up, running(tunnelling(up.port)) as live:
        client = await live.client()
        await client.send(CONNECT)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> b"HTTP/1.1 200 OK\r\n\r\n", client << GRANTED)
        one, two = (client, server) if first == "client" else (server, client)
        await play(one >> b"all I have", two << b"all I have")
        await finish(one)
        await play(two << END, two >> b"thank ", one << b"thank ", two >> b"you", one << b"you")
        await finish(two)
        await play(one << END)
        await live.settled(clients=0)


async def test_a_quiet_tunnel_is_no_body_that_is_late() -> None:
    async with upstream() as up, running(tunnelling(up.port, "{body: 50ms}")) as live:
        client = await live.client()
        await client.send(CONNECT)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> b"HTTP/1.1 200 OK\r\n\r\n", client << GRANTED)
        for _ in range(8):
            await play(server >> b"tick", client << b"tick", client << NOTHING)
        assert live.stats().downstream_rq_timeout == 0
        await play(client >> b"still here", server << b"still here")


# ---- the PROXY header

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes((192, 0, 2, 7, 192, 0, 2, 1))
    + struct.pack("!HH", 1234, 80)
)
ACCEPT = "    proxy_protocol: true\n"


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
@pytest.mark.parametrize("pieces", [1, 3, 1000])
async def test_the_client_is_who_the_header_says(header: bytes, pieces: int) -> None:
    # The upstream is told in turn, which shows what the proxy has understood.
    async with (
        upstream() as up,
        running(web(up.port, listener=ACCEPT, proxy_protocol="v1")) as live,
    ):
        client = await live.client()
        data = header + GET
        size = max(1, len(data) // pieces)
        for at in range(0, len(data), size):
            await client.send(data[at : at + size])
            await wait_all_tasks_blocked()
        server = Party("upstream", await up.accept())
        await play(server << V1, server << HEAD, server >> OK, client << OK)


@pytest.mark.parametrize(
    "header", [b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"], ids=["v1", "v2"]
)
async def test_a_header_without_a_client_keeps_the_sockets(header: bytes) -> None:
    async with (
        upstream() as up,
        running(web(up.port, listener=ACCEPT, proxy_protocol="v1")) as live,
    ):
        client = await live.client()
        await client.send(header + GET)
        server = Party("upstream", await up.accept())
        shown = f"PROXY TCP4 127.0.0.1 127.0.0.1 {port_of(client)} {live.port()}\r\n"
        await play(server << shown.encode(), server << HEAD, server >> OK, client << OK)


@pytest.mark.parametrize(
    "sent", [GET, b"PROXY TCP4 nonsense\r\n" + GET, b"PROXY " + b"x" * 200, V2[:12] + b"\x99" * 10]
)
async def test_without_a_right_header_the_connection_is_closed(sent: bytes) -> None:
    async with upstream() as up, running(web(up.port, listener=ACCEPT)) as live:
        client = await live.client()
        await client.send(sent)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_proxy_protocol_error == 1
        assert up.accepted == 0


async def test_a_header_from_a_source_that_is_not_trusted_closes_the_connection() -> None:
    only = "    proxy_protocol: {allow: [192.0.2.0/24]}\n"
    async with upstream() as up, running(web(up.port, listener=only)) as live:
        client = await live.client()
        await client.expect(END)
        assert live.stats().downstream_cx_proxy_protocol_error == 1
        await live.settled(clients=0, upstreams=0)


@pytest.mark.parametrize("sent", [b"", b"PROXY TCP4 192"])
async def test_a_header_that_does_not_come_in_time_is_closed_and_counted(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with (
        upstream() as up,
        running(web(up.port, listener=ACCEPT, timeouts="{detect: 100ms}")) as live,
    ):
        client = await live.client()
        await client.send(sent)
        await client.expect(END)
        await live.settled(clients=0, upstreams=0)
        assert live.stats().downstream_cx_proxy_protocol_error == 1
        assert "(timeouts.detect)" in caplog.text


async def test_an_l4_listener_can_take_the_header_too() -> None:
    text = (
        "listeners:\n"
        "  - {name: edge, address: '127.0.0.1:0', fallback: {cluster: raw}, proxy_protocol: true}\n"
        "clusters:\n"
        "  raw: {endpoints: ['127.0.0.1:%d'], proxy_protocol: v1}\n"
    )
    async with upstream() as up, running(text % up.port) as live:
        client = await live.client()
        await client.send(V2 + b"payload")
        server = Party("upstream", await up.accept())
        await play(server << V1, server << b"payload", server >> b"ok", client << b"ok")


# ---- everything else


async def test_a_bug_of_a_codec_ends_its_connection_and_not_the_listener(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with upstream() as up, running(web(up.port)) as live:
        plan = live.runtime.listeners["edge"].plan
        client = await live.client()
        broken = type("Broken", (), {"receive": lambda *_: 1 / 0, "send": lambda *_: b""})
        assert plan.detector is not None
        plugin = live.registry.codec("http1")
        monkeypatch.setattr(type(plugin), "open", lambda *_: broken())
        await client.send(GET)
        await live.settled(clients=0, upstreams=0)
        assert "ZeroDivisionError" in caplog.text
        monkeypatch.undo()
        again = await live.client()
        await again.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, again << OK)


async def test_a_reset_in_the_queue_is_no_error() -> None:
    async with upstream() as up, running(web(up.port)) as live:
        for _ in range(20):
            reset(await live.client())
        await live.settled(clients=0, upstreams=0)
        client = await live.client()
        await client.send(GET)
        server = Party("upstream", await up.accept())
        await play(server << HEAD, server >> OK, client << OK)
        reset(client)
        await live.settled(clients=0)


# ---- little, and then silence


async def everything(party: Party) -> bytes:
    """Return all that comes until the connection ends, in whatever way."""
    got = b""
    with trio.fail_after(PATIENCE):
        while True:
            try:
                more = await party.stream.receive_some(1000)
            except trio.BrokenResourceError:
                return got
            if not more:
                return got
            got += more


QUICK = "{detect: 5s, detect_silence: 50ms}"


@pytest.mark.parametrize(
    "sent", [b"\r\n", b"\x00\x01\x6e", b"\x00\x01\x00\x00\x00", b"GE", b"EHLO there", b"\x01\x01"]
)
async def test_a_little_that_may_be_anybodys_reaches_the_fallback_after_a_silence(
    sent: bytes,
) -> None:
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port, timeouts=QUICK)) as live,
    ):
        client = await live.client()
        await client.send(sent)
        server = Party("raw upstream", await raw.accept())
        await play(server << sent, server >> b"hello", client << b"hello")
        await play(client >> b"\xffmore", server << b"\xffmore")
        assert known.accepted == 0


@pytest.mark.parametrize(
    ("sent", "then"),
    [
        (b"\r\n", b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n"),
        (b"GE", b"T /admin HTTP/1.1\r\nhost: a\r\n\r\n"),
        (b"G", b"ET /admin\r\n"),
        (b"\x01\x01", BOLT[2:]),
        (b"", b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
async def test_a_pause_leads_past_no_rule(sent: bytes, then: bytes, step: int) -> None:
    quick = "{detect: 100ms, detect_silence: 50ms}"
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port, timeouts=quick)) as live,
    ):
        client = await live.client()
        if sent:
            await client.send(sent)
        server = Party("raw upstream", await raw.accept())
        if sent:
            await server.expect(sent)
        for at in range(0, len(then), step):
            try:
                await client.send(then[at : at + step])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                break
        got = await everything(server)
        assert len(got) < len(then), "the bytes that make it a request have not been passed on"
        assert not got.endswith(b"\n")
        assert known.accepted == 0


async def test_what_only_one_codec_can_mean_is_never_for_the_fallback() -> None:
    quick = "{detect: 200ms, detect_silence: 20ms, head: 200ms}"
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port, timeouts=quick)) as live,
    ):
        client = await live.client()
        await client.send(b"GET ")
        await client.expect(re.compile(rb"(?s)HTTP/1\.1 408 .*"))
        assert (raw.accepted, known.accepted) == (0, 0)
        ended = await live.client()
        await ended.send(b"GET /adm")
        await finish(ended)
        await ended.expect(re.compile(rb"(?s)HTTP/1\.1 400 .*"))
        assert (raw.accepted, known.accepted) == (0, 0)


async def test_a_request_that_comes_slowly_is_served() -> None:
    quick = "{detect: 60s, detect_silence: 20ms}"
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port, timeouts=quick)) as live,
    ):
        client = await live.client()
        await client.send(b"GET ")
        await trio.sleep(0.1)
        await client.send(b"/ HTTP/1.1\r\nhost: a\r\n\r\n")
        await known.accept()
        assert raw.accepted == 0


async def test_a_long_request_line_is_http_all_the_same() -> None:
    async with (
        upstream() as known,
        upstream() as raw,
        running(mixed(known.port, raw.port)) as live,
    ):
        client = await live.client()
        await client.send(b"GET /" + b"a" * 70_000)
        await client.expect(re.compile(rb"(?s)HTTP/1\.1 414 .*"))
        assert (raw.accepted, known.accepted) == (0, 0)


async def test_a_silent_client_that_speaks_http_after_all_is_cut_off() -> None:
    listener = "    server_first: {cluster: raw, wait: 20ms}\n"
    async with upstream() as known, upstream() as raw:
        text = web(known.port, listener=listener)
        text += f"  raw:\n    endpoints: [127.0.0.1:{raw.port}]\n"
        async with running(text) as live:
            client = await live.client()
            server = Party("raw upstream", await raw.accept())
            await play(server >> b"220 hi\r\n", client << b"220 hi\r\n")
            await client.send(b"GET /admin HTTP/1.1\r\nhost: a\r\n\r\n")
            assert await everything(server) == b""
            await everything(client)


@pytest.mark.parametrize(
    ("protocol", "crime"),
    [
        ("http1", b"GET / HTTP/1.1\r\nhost x\r\n\r\n"),
        ("http2", PREFACE + settings(()) + frame(DATA, 0, 0, b"x")),
        ("bolt", BOLT + bytes(40)),
        ("dubbo", bytes.fromhex("dabb c2 00 0000000000000001 7FFFFFFF")),
        # A oneway call, and one with a field of a type that there is not.
        (
            "thrift",
            bytes.fromhex("80010004 00000001 61 00000000 00 80010001 00000001 61 00000000 77 0001"),
        ),
    ],
    ids=["http1", "http2", "bolt", "dubbo", "thrift"],
)
async def test_what_a_client_does_wrong_is_told_with_the_listeners_name(
    protocol: str, crime: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with upstream() as up, running(web(up.port)) as live:
        client = await live.connect()
        await client.send_all(crime)
        await eventually(
            lambda: any(m.startswith(f"listener edge: {protocol}") for m in caplog.messages),
            f"a line in {caplog.messages}",
        )
