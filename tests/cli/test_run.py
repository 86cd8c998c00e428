"""``xproxy run``, as a process: signals, exit codes, what goes to which stream."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from xproxy.cli.main import main

PATIENCE = 30


@contextlib.contextmanager
def _running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start ``xproxy run``; gives the process and the port of its listener."""
    command = [sys.executable, "-m", "xproxy", "run", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, int(line.rpartition(":")[2])
        finally:
            process.kill()


def _status(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        return client.recv(65536).partition(b"\r\n")[0]


def _logs(process: subprocess.Popen[str]) -> list[str]:
    assert process.stderr is not None
    return [json.loads(line)["message"] for line in process.stderr.read().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_it_with_0(number: signal.Signals) -> None:
    with _running("--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:9") as (process, port):
        assert _status(port).startswith(b"HTTP/1.1 503 ")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "", "one line a listener, and nothing else"
        assert f"{number.name}: draining" in _logs(process)


@pytest.mark.slow
def test_sighup_reads_the_file_again_and_a_bad_one_changes_nothing(good: Path) -> None:
    text = good.read_text()
    answer = "{main: [{filters: [{name: direct_response, code: %d}]}]}"
    with _running("-c", str(good)) as (process, port):
        assert process.stderr is not None
        assert _status(port).startswith(b"HTTP/1.1 503 ")
        good.write_text(text.replace("{main: [{cluster: web}]}", answer % 204))
        process.send_signal(signal.SIGHUP)
        while "in force" not in process.stderr.readline():
            pass
        assert _status(port).startswith(b"HTTP/1.1 204 ")
        good.write_text(
            text.replace("{main: [{cluster: web}]}", (answer % 200).replace("code", "cod"))
        )
        process.send_signal(signal.SIGHUP)
        while "nothing has changed" not in (line := process.stderr.readline()):
            pass
        assert "did you mean `code`?" in line
        assert _status(port).startswith(b"HTTP/1.1 204 ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_a_bad_file_is_2_and_says_all(bad: Path) -> None:
    result = CliRunner().invoke(main, ["run", "-c", str(bad)])
    assert result.exit_code == 2
    assert [line.rpartition(": ")[0].count(str(bad)) for line in result.stderr.splitlines()] == [
        1,
        1,
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--listen", "127.0.0.1:0"],
        ["--upstream", "127.0.0.1:9"],
        ["-c", "x.yaml", "--listen", "127.0.0.1:0"],
        ["-c", "x.yaml", "--upstream", "127.0.0.1:9"],
        ["-c", "x.yaml", "--log-level", "loud"],
    ],
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["run", *arguments])
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_wrong_addresses_are_2() -> None:
    result = CliRunner().invoke(main, ["run", "--listen", "x", "--upstream", "y"])
    assert result.exit_code == 2
    assert result.stderr == (
        "--listen: 'x' is not host:port, [ipv6]:port or unix:/path\n"
        "--upstream: 'y' is not host:port, [ipv6]:port or unix:/path\n"
    )
