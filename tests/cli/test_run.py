"""``xproxy run``, as a process: signals, exit codes, what goes to which stream."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.process.product import kill_all
from xproxy.cli.main import main

PATIENCE = 60


@contextlib.contextmanager
def _running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start ``xproxy run``; gives the process and the port of its listener."""
    command = [sys.executable, "-m", "xproxy", "run", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, int(line.rpartition(":")[2])
        finally:
            kill_all(process)


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


@pytest.mark.slow
@pytest.mark.parametrize(("terminal", "option"), [(True, None), (False, "--requests")])
def test_quick_mode_prints_a_line_a_request(terminal: bool, option: str | None) -> None:
    ours, theirs = pty.openpty() if terminal else os.pipe()
    options = [option] if option else []
    command = [sys.executable, "-m", "xproxy", "run", "--listen", "127.0.0.1:0"]
    command += ["--upstream", "127.0.0.1:9", *options]
    with (
        open(ours, "rb", buffering=0) as output,
        subprocess.Popen(
            command, stdout=theirs, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process,
    ):
        try:
            os.close(theirs)
            lines = _lines(output)
            port = int(next(lines).rpartition(":")[2])
            assert _status(port).startswith(b"HTTP/1.1 503 ")
            line = next(lines)
            assert line.startswith('http1  "GET x/" 503 unavailable ')
            assert "127.0.0.1:9 " in line
            assert len(line) < 500
        finally:
            kill_all(process)


def _lines(output: io.FileIO) -> Iterator[str]:
    read = b""
    while data := output.read(4096):
        read += data
        *lines, read = read.split(b"\n")
        yield from (line.decode().strip() for line in lines)


def test_what_check_refuses_run_refuses_with_the_same_words(tmp_path: Path, good: Path) -> None:
    text = good.read_text()
    (tmp_path / "a file").write_text("")
    log = f'routes: main, filters: [{{name: access_log, path: "{tmp_path}/none/log"}}]'
    for wrong in (
        text.replace("127.0.0.1:0", "192.0.2.77:80"),  # no address of ours (RFC 5737)
        text.replace("127.0.0.1:0", f"unix:{tmp_path}/none/x.sock"),
        text.replace("127.0.0.1:0", f"unix:{tmp_path}/a file"),
        text.replace("routes: main}", log + "}", 1),
        text.replace("127.0.0.1:0", "a..b:80"),
        text.replace("127.0.0.1:0", "http://localhost:80"),
        text.replace("127.0.0.1:9", "300.0.0.1:80"),
        text.replace(
            "}]\n",
            '}, {name: b, address: "0.0.0.0:81", routes: main}, '
            '{name: c, address: "127.0.0.1:81", routes: main}]\n',
            1,
        ),
        "admin: {}\n" + text.replace("127.0.0.1:0", "localhost:9901"),
        text + "x: [1\n",
    ):
        path = tmp_path / "wrong.yaml"
        path.write_text(wrong)
        found = [
            CliRunner().invoke(main, [command, "-c", str(path)]) for command in ("check", "run")
        ]
        assert [result.exit_code for result in found] == [2, 2], wrong
        assert found[0].stderr == found[1].stderr
        place, excerpt, caret = found[0].stderr.splitlines()
        assert re.match(rf"{re.escape(str(path))}:\d+:\d+: ", place)
        assert excerpt.strip().lstrip("…") in wrong
        assert caret.strip() == "^"


def test_a_bad_file_is_2_and_says_all(bad: Path) -> None:
    result = CliRunner().invoke(main, ["run", "-c", str(bad)])
    assert result.exit_code == 2
    lines = result.stderr.splitlines()
    assert [line.startswith(str(bad)) for line in lines] == [True, False, False] * 2
    assert [line.strip() for line in lines[2::3]] == ["^", "^"]


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
