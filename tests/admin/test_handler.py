"""The admin interface over real sockets: a listener like any other, whose requests end in the proxy."""

from __future__ import annotations

import socket
from email.utils import parsedate_to_datetime
from time import time

import pytest
import trio

from tests.http2_peer import Http2Peer
from tests.live import PATIENCE, Live, eventually, running, unused_port, web
from xproxy.testing import END, Party, play


def with_admin(port: int) -> str:
    return f"admin: {{address: 127.0.0.1:{port}}}\n" + web(1)


async def ask(live: Live, text: bytes) -> bytes:
    stream = await live.connect("(admin)")
    await stream.send_all(text)
    answer = b""
    with trio.fail_after(PATIENCE):
        async for piece in stream:
            answer += piece
    return answer


@pytest.mark.parametrize(
    ("path", "status", "part"),
    [
        (b"/", b"200 OK", b"/config_dump"),
        (b"/ready", b"200 OK", b"LIVE"),
        (b"/ready?x=1", b"200 OK", b"LIVE"),
        (b"/stats", b"200 OK", b"listener.edge.downstream_cx_total: 0"),
        (b"/stats/prometheus", b"200 OK", b"# TYPE"),
        (b"/clusters", b"200 OK", b"web::127.0.0.1:1::"),
        (b"/config_dump", b"200 OK", b'"generation": 1'),
        (b"/nothing", b"404 Not Found", b"there are /, /ready"),
    ],
)
async def test_a_page_answers_under_its_path(path: bytes, status: bytes, part: bytes) -> None:
    async with running(with_admin(0), admin=True) as live:
        answer = await ask(
            live, b"GET " + path + b" HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert part in answer


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"evil.example", b"403"),
        (b"evil.example:9901", b"403"),
        (b"127.0.0.1.evil.example", b"403"),
        (b"192.0.2.7", b"403"),
        (b"127.0.0.1", b"200"),
        (b"LOCALHOST.:9901", b"200"),
        (b"[::1]:9901", b"200"),
        (b"Admin.internal:80", b"200"),
    ],
)
async def test_it_answers_to_its_own_names_only(host: bytes, status: bytes) -> None:
    text = with_admin(0).replace("{address", "{hosts: [admin.INTERNAL], address")
    async with running(text, admin=True) as live:
        for line in (b"GET /config_dump HTTP/1.1", b"GET http://%b/config_dump HTTP/1.1" % host):
            answer = await ask(live, line + b"\r\nhost: " + host + b"\r\nconnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 " + status)
            assert (b"generation" in answer) is (status == b"200")


async def test_http2_is_asked_for_the_host_too() -> None:
    async with running(with_admin(0), admin=True) as live:
        peer = Http2Peer(await live.connect("(admin)"), client=True)
        for authority, status in (("evil.example", "403"), ("127.0.0.1:1", "200")):
            stream_id = peer.h2.get_next_available_stream_id()
            fields = {":method": "GET", ":scheme": "http", ":path": "/ready"}
            peer.h2.send_headers(
                stream_id, [*fields.items(), (":authority", authority)], end_stream=True
            )
            answer = await peer.whole(stream_id)
            assert answer[":status"] == status
            assert parsedate_to_datetime(answer["date"])


async def test_answers_say_when_they_were_made() -> None:
    async with running(with_admin(0), admin=True) as live:
        for line in (b"GET /ready HTTP/1.1", b"GET /no HTTP/1.1", b"GET /a b HTTP/1.1"):
            answer = await ask(live, line + b"\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            found = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"date: ")]
            assert len(found) == 1
            assert abs(parsedate_to_datetime(found[0][6:].decode()).timestamp() - time()) < 60


async def test_nothing_can_be_changed() -> None:
    async with running(with_admin(0), admin=True) as live:
        answer = await ask(
            live,
            b"POST /ready HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 501 ")


async def test_head_tells_the_length_only() -> None:
    async with running(with_admin(0), admin=True) as live:
        answer = await ask(
            live, b"HEAD /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"content-length: 5" in head.lower()
        assert body == b""


async def test_there_is_none_unless_it_is_asked_for() -> None:
    async with running(web(1), admin=True) as live:
        assert list(live.runtime.listeners) == ["edge"]


async def test_a_reload_moves_it_and_takes_it_away() -> None:
    first, second = unused_port(), unused_port()
    async with running(with_admin(first), admin=True) as live:
        await live.reload(with_admin(second))
        assert live.port("(admin)") == second
        assert b"LIVE" in await ask(
            live, b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        )
        gone = Party("gone", await live.connect("(admin)"))
        await live.reload(web(1))
        await play(gone << END)
        assert "(admin)" not in live.runtime.listeners
        await eventually(lambda: not _listens(second), "the port is free")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
