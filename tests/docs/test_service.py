"""The unit files and the container's entry point among the examples."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

EXAMPLES = ROOT / "examples"


@pytest.mark.tool("systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    service = (EXAMPLES / "systemd/xproxy.service").read_text()
    program = Path(sys.executable).with_name("xproxy")
    for text, name in (
        (service.replace("/opt/xproxy/bin/xproxy", str(program)), "xproxy.service"),
        ((EXAMPLES / "systemd/xproxy.socket").read_text(), "xproxy.socket"),
    ):
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [
            "systemd-analyze",
            "verify",
            str(tmp_path / "xproxy.service"),
            str(tmp_path / "xproxy.socket"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "xproxy." in line]
    assert not said, done.stderr
    assert done.returncode == 0, done.stderr


def test_the_service_is_told_by_the_main_process_and_ends_by_a_drain() -> None:
    service = (EXAMPLES / "systemd/xproxy.service").read_text()
    for line in ("Type=notify", "KillMode=mixed", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert line in service.splitlines()


def test_the_container_runs_the_supervisor_as_pid_1() -> None:
    lines = (EXAMPLES / "container/Dockerfile").read_text().splitlines()
    found = {line.split()[0]: line for line in lines if re.match(r"ENTRYPOINT|CMD", line)}
    entry = json.loads(found["ENTRYPOINT"].partition(" ")[2])
    assert entry == ["xproxy", "run"], (
        "the exec form: a shell would be pid 1, and pass no signal on"
    )
    assert json.loads(found["CMD"].partition(" ")[2])[0] == "-c"
