"""How much processor time a start takes, until it is ready: what a new worker costs is part of an upgrade, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process.product import ROOT, product, workers_of
from tests.process.test_upgrade import config

pytestmark = pytest.mark.slow

LIBRARIES = "import attrs, cattrs, click, cryptography.x509, msgpack, prometheus_client, trio, yaml"
MOST = 6.5
"""Times what Python takes to import the libraries: 3.4 to 4.8 measured, on a busy machine."""
ATTEMPTS = 3


def _seconds(pid: int) -> float:
    # proc_pid_stat(5): utime and stime; the name before may hold anything.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _libraries() -> float:
    process = subprocess.Popen([sys.executable, "-c", LIBRARIES], cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def _start(tmp_path: Path) -> float:
    with product(config(9), tmp_path) as proxy:
        found = _seconds(proxy.process.pid) + sum(map(_seconds, workers_of(proxy.process.pid)))
        assert proxy.end() == 0
    return found


def test_a_start_takes_little_more_than_its_imports(tmp_path: Path) -> None:
    # Measured side by side: what else runs on the machine makes both slower.
    measured = []
    for _ in range(ATTEMPTS):
        measured.append((_start(tmp_path), _libraries()))
        if measured[-1][0] <= MOST * measured[-1][1]:
            return
    pytest.fail(f"seconds of a start, and of importing the libraries: {measured}")
