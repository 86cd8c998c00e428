"""Back to the program before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.product import PATIENCE, ROOT
from xproxy.supervisor import memory, messages
from xproxy.supervisor.way_back import go_back

_TELL = """
import json, os, sys
descriptor = int(os.environ["XPROXY_RESUME"])
print(json.dumps([sys.argv[1:], dict(os.environ), os.pread(descriptor, 9, 0).decode(), os.getpid()]))
"""
_GO = "import xproxy.supervisor.way_back as w; w.go_back(ImportError('half\\0 installed')); print('here')"


def test_the_former_program_gets_all_of_it_and_the_reason(tmp_path: Path) -> None:
    command = {
        "executable": sys.executable,
        "arguments": [sys.executable, "-c", _TELL, "run"],
        "environment": {"MINE": "1", "PATH": "/mine"},
        "absent": ["OTHER"],
    }
    state = {"command": command, "environment": {"PATH": "/bin", "OTHER": "2", "BOTH": "3"}}
    descriptor = memory.put(json.dumps(state).encode())
    process = subprocess.Popen(
        [sys.executable, "-c", _GO],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        pass_fds=[descriptor],
        env={**os.environ, messages.RESUME: str(descriptor), "THEIRS": "4"},
    )
    os.close(descriptor)
    said, _ = process.communicate(timeout=PATIENCE)
    arguments, environment, left, pid = json.loads(said)
    assert (arguments, pid, left) == (["run"], process.pid, '{"command')
    assert environment["MINE"] == "1"
    assert (environment["PATH"], environment["BOTH"]) == ("/mine", "3")
    assert not {"OTHER", "THEIRS"} & environment.keys()
    assert environment[messages.NOT_RESUMED] == "ImportError: half installed"


def test_whoever_is_no_next_program_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.RESUME, raising=False)
    go_back(ValueError())
    monkeypatch.setenv(messages.RESUME, messages.TRY)
    go_back(ValueError())
    # It is the way back already that has failed.
    monkeypatch.setenv(messages.RESUME, "999")
    monkeypatch.setenv(messages.NOT_RESUMED, "why")
    go_back(ValueError())


def test_there_is_no_way_back_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(messages.RESUME, "999")
    monkeypatch.delenv(messages.NOT_RESUMED, raising=False)
    with pytest.raises(OSError):
        go_back(ValueError())
