"""``xproxy demo --once``: the proxy itself, over real sockets."""

from __future__ import annotations

import socket

import pytest
import trio
from click.testing import CliRunner

from xproxy.cli.demo import command
from xproxy.cli.demo.calls import Call, CallFailed
from xproxy.cli.demo.command import recognition
from xproxy.cli.main import main
from xproxy.registry import Registry, default_registry


def test_recognition() -> None:
    registry = default_registry()
    assert recognition(b"GET / HTTP/1.1\r\n", "http1", registry) == "http1, 16 bytes"
    assert recognition(b"(hm)", "opaque", registry) == "opaque, 1 byte"
    assert recognition(b"", "", registry) == ""


@pytest.mark.slow
def test_once() -> None:
    result = CliRunner().invoke(main, ["demo", "--once"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Through one port, 127.0.0.1:")
    rows = [line.split() for line in lines if line.rstrip().endswith(" ms")]
    said = [row[0] for row in rows]
    assert said[:5] == ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/2", "gRPC"]
    assert {"SOFA", "Dubbo", "Thrift", "raw"} <= set(said)
    assert "200 from web-1" in result.stdout
    assert "200 from web-2" in result.stdout
    assert "ok from bolt-1" in result.stdout
    assert result.stdout.count("33 bytes back") == 2
    assert lines[-3].startswith("The upgrade: ")
    assert lines[-2] == f"{len(rows)} of {len(rows)} connections were served before and after it"
    count = 2 * len(rows)
    assert lines[-1] == f"{count} of {count} requests were answered as they should be"


@pytest.mark.slow
def test_a_failed_request_is_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(call: Call, stream: trio.SocketStream, request: bytes) -> str:
        raise CallFailed("it [was] not to be")

    monkeypatch.setattr(command, "ask", fail)
    result = CliRunner().invoke(main, ["demo", "--once"])
    assert result.exit_code == 1
    assert "it [was] not to be" in result.stdout
    assert "\n0 of " in result.stdout


def test_a_port_that_is_taken_is_exit_1() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(main, ["demo", "--once", "--listen", place])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: cannot listen on {place}")


def test_wrong_usage_is_2() -> None:
    assert CliRunner().invoke(main, ["demo", "--listen", "x"]).exit_code == 2


def test_without_codecs_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "default_registry", lambda: Registry([]))
    result = CliRunner().invoke(main, ["demo", "--once"])
    assert result.exit_code == 1
    assert "pip install -e ." in result.stderr
