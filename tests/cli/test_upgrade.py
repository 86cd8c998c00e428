"""``xproxy upgrade``: what it asks for; what comes of it is tested in tests/process/test_upgrade.py."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from xproxy.cli.main import main
from xproxy.cli.upgrade import installation, run_options
from xproxy.supervisor import messages

STATUS: dict[str, Any] = {
    "kind": "status",
    "arguments": ["/old/python", "-m", "xproxy", "run", "-c", "a.yaml", "--log-level", "debug"],
    "workers": [{"generation": 1, "worker": 0, "pid": 7, "phase": "serving"}],
    "unconfirmed": True,
}
DONE: dict[str, Any] = {
    "kind": "done",
    "code": 0,
    "why": "",
    "generation": 2,
    "older": [1],
    "confirm": 0,
}


@contextmanager
def supervisor(path: Path, *answers: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Play one that gives these answers, each to a question, and more after the last; gives what it was asked."""
    asked: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                for n, answer in enumerate(answers):
                    if n < 2 and (answer["kind"] == "status" or n or answer["kind"] == "done"):
                        heard = messages.receive(connection)
                        assert heard is not None
                        asked.append(heard[0])
                    messages.send(connection, answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(30)


def invoke(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["upgrade", "--control", str(path), *arguments])


def test_it_asks_for_this_installation_with_the_options_of_the_running_one(tmp_path: Path) -> None:
    path = tmp_path / "control"
    progress: dict[str, Any] = {"kind": "progress", "step": "given", "index": 0, "generation": 1}
    progress["moved"] = {"http1": 3}
    with supervisor(path, STATUS, progress, DONE) as asked:
        result = invoke(path, "-c", str(tmp_path / "b.yaml"), "--confirm", "60s", "--cut-oldest")
    assert result.exit_code == 0, result.output
    question = asked[1]
    assert question["executable"] == sys.executable
    tail = ["run", "-c", str(tmp_path / "b.yaml"), "--log-level", "debug"]
    assert question["arguments"] == ["-P", "-m", "xproxy", *tail]
    assert (question["confirm"], question["cut_oldest"], question["check"]) == (60, True, False)
    lines = result.output.splitlines()
    assert lines[0] == "generation 1 worker 0: given: moved 3 http1"
    assert lines[1].startswith("upgraded in ")
    assert lines[1].endswith(" s: generation 2 serves; moved 3 http1; refused none; still alive: 1")


@pytest.mark.parametrize(("code", "expected"), [(2, 2), (1, 1), (3, 1)])
def test_a_failure_is_one_reason_and_its_code(code: int, expected: int, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with supervisor(path, STATUS, {**DONE, "code": code, "why": "it hangs"}):
        result = invoke(path)
    assert result.exit_code == expected
    assert result.stderr == "Error: it hangs\n"


def test_status_and_json(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with supervisor(path, STATUS):
        result = invoke(path, "--status")
    assert result.output.splitlines() == [
        "generation 1 worker 0 pid 7 serving",
        "waits for its confirmation (--confirmed)",
    ]
    (tmp_path / "control").unlink()
    with supervisor(path, STATUS):
        assert '"pid": 7' in invoke(path, "--status", "--json").output


@pytest.mark.parametrize(("option", "kind"), [("--abort", "abort"), ("--confirmed", "confirm")])
def test_what_is_one_word(option: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "control"
    with supervisor(path, {**DONE, "code": 1, "why": "nothing to do"}) as asked:
        result = invoke(path, option)
    assert asked == [{"kind": kind}]
    assert (result.exit_code, result.stderr) == (1, "Error: nothing to do\n")


def test_a_supervisor_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with supervisor(path, STATUS):
        result = invoke(path)
    assert result.exit_code == 1
    assert "the supervisor has ended" in result.stderr or "Broken pipe" in result.stderr


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke(tmp_path / "none")
    assert result.exit_code == 1
    assert f"no proxy answers at {tmp_path}/none" in result.stderr
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = CliRunner().invoke(main, ["upgrade", "--pid", "999999999"])
    assert result.exit_code == 1
    assert "pid 999999999 has no control socket" in result.stderr


@pytest.mark.parametrize("confirm", ["soon", "0s", "10ms"])
def test_times_that_are_none(confirm: str) -> None:
    assert CliRunner().invoke(main, ["upgrade", "--confirm", confirm]).exit_code == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["-c", "a", "--workers", "2"], ["-c", "/b", "--workers", "2"]),
        (["--config", "a"], ["--config", "/b"]),
        (["--workers", "2", "--config=a"], ["--workers", "2", "--config=/b"]),
        (["-ca"], ["-c/b"]),
    ],
)
def test_another_file(before: list[str], after: list[str]) -> None:
    command = ["python", "-m", "xproxy", "run", *before]
    assert run_options(command, "/b") == after
    assert run_options(command, None) == before


def test_there_is_no_file_to_replace() -> None:
    with pytest.raises(click.UsageError):
        run_options(["python", "xproxy", "run", "--listen", "a", "--upstream", "b"], "/b")
    assert run_options([], None) == []


def test_what_of_the_environment_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/new/bin")
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.delenv("PYTHONHOME", raising=False)
    monkeypatch.setattr(sys, "path", ["/somewhere"])
    found = installation(["-c", "x"])
    environment = found["environment"]
    assert isinstance(environment, dict)
    assert environment["PATH"] == "/new/bin"
    assert "SECRET_TOKEN" not in environment
    assert "PYTHONHOME" in found["absent"]  # type: ignore[operator]  # a list
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setattr(sys, "path", [root])
    environment = installation([])["environment"]
    assert isinstance(environment, dict)
    assert environment["PYTHONPATH"].split(os.pathsep)[0] == root


def test_a_rehearsal_says_what_could_move_and_json_says_it_all(tmp_path: Path) -> None:
    path = tmp_path / "control"
    tried = {"kind": "progress", "step": "rehearsed", "index": 0, "generation": 1, "why": "differs"}
    tried.update(moved={"http1": 3}, refused={"http2: differs": 1})
    with supervisor(path, STATUS, tried, {**DONE, "code": 1, "why": "differs"}):
        result = invoke(path, "--check")
    assert (result.exit_code, result.stderr) == (1, "Error: differs\n")
    assert result.stdout.splitlines()[-1].endswith(
        "; could move 3 http1; could not 1 http2: differs"
    )
    path.unlink()
    with supervisor(path, STATUS, tried, DONE):
        lines = invoke(path, "--check", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [tried, DONE]
