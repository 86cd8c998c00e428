"""The admin interface over real sockets: a listener like any other, whose requests end in the proxy."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.live import Live, eventually, running, unused_port, web
from xproxy.testing import END, Party, play


def with_admin(port: int) -> str:
    return f"admin: {{address: 127.0.0.1:{port}}}\n" + web(1)


async def ask(live: Live, text: bytes) -> bytes:
    stream = await live.connect("(admin)")
    await stream.send_all(text)
    answer = b""
    with trio.fail_after(5):
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
            live, b"GET " + path + b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert part in answer


async def test_nothing_can_be_changed() -> None:
    async with running(with_admin(0), admin=True) as live:
        answer = await ask(
            live,
            b"POST /ready HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )
        assert answer.startswith(b"HTTP/1.1 501 ")


async def test_head_tells_the_length_only() -> None:
    async with running(with_admin(0), admin=True) as live:
        answer = await ask(live, b"HEAD /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
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
            live, b"GET /ready HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        )
        gone = Party("gone", await live.connect("(admin)"))
        await live.reload(web(1))
        await play(gone << END)
        assert "(admin)" not in live.runtime.listeners
        await eventually(lambda: not _listens(second), "the port is free")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
