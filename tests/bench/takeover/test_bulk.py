"""Long streams: right ones arrive, and each way of being wrong is said."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.takeover.across import Across
from bench.takeover.bulk import Orders, Transfer, Transferred, carry_out, transferred
from bench.takeover.upgrade import Upgraded
from tests.process.product import PATIENCE, ROOT, eventually, unused_port
from tests.process.upstreams import connected

SIZE = 3 << 20
PACE = 1e12


def _transfer(port: int, kind: str = "http1", way: str = "down") -> Transfer:
    return Transfer(kind=kind, way=way, port=port, size=SIZE, pace=PACE)  # type: ignore[arg-type]  # two of each


@pytest.fixture
def upstream() -> Iterator[int]:
    port = unused_port()
    command = [sys.executable, "-m", "bench.takeover.bulk_upstream", str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            eventually(lambda: connected(port), "the upstream listens")
            yield port
        finally:
            process.kill()


@contextmanager
def _lying(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answer one client with something else than was asked for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE)
                sock.recv(65536)
                answer(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@pytest.mark.slow
def test_streams_of_both_ways_arrive(upstream: int) -> None:
    kinds = [(kind, way) for kind in ("http1", "l4") for way in ("down", "up")]
    orders = Orders(
        transfers=tuple(_transfer(upstream, kind, way) for kind, way in kinds),
        repeat=False,
        authority="",
    )
    found = carry_out(orders, threading.Event())
    assert sorted((one.kind, one.way, one.error) for one in found) == sorted(
        (kind, way, "") for kind, way in kinds
    )


def _other(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(1000))


def _nothing(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)


def _refusal(sock: socket.socket) -> None:
    sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [(_other, "another byte at 8 of"), (_nothing, "closed before"), (_refusal, "503")],
)
def test_a_wrong_stream_is_said(answer: Callable[[socket.socket], None], said: str) -> None:
    with _lying(answer) as port:
        found = transferred(_transfer(port), 7, Path(), threading.Event())
    assert said in found.error


def test_who_cannot_be_reached_is_said() -> None:
    found = transferred(_transfer(unused_port()), 7, Path(), threading.Event())
    assert "ConnectionRefused" in found.error


def test_a_stream_that_ended_before_the_upgrade_shows_nothing() -> None:
    def across(began: float, ended: float, error: str = "") -> Across:
        stream = Transferred(kind="l4", way="up", size=1, began=began, ended=ended, error=error)
        upgraded = Upgraded(began=5.0, told=6.0, let_go=6.0, turns=0, gone=None, old=(), said="")
        return Across(kind="l4", streams=(stream,), upgrades=(upgraded,))

    assert across(1.0, 7.0).faults == []
    assert len(across(1.0, 5.5).faults) == 1
    assert len(across(5.5, 7.0).faults) == 1
    assert across(1.0, 7.0, "reset").faults == ["l4 up: reset"]
