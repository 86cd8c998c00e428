from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from bench.processes import Failed, fetch, free_port, running

_CPU = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@pytest.mark.slow
def test_a_program_is_ready_pinned_and_gone_afterwards(tmp_path: Path) -> None:
    port = free_port()
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    before = os.sched_getaffinity(0)

    with running(argv, name="server", cpu=_CPU, work=tmp_path, port=port, cwd=tmp_path) as process:
        assert fetch(port)
        assert os.sched_getaffinity(process.popen.pid) == {_CPU}
        assert process.cpu_seconds > 0
        assert process.rss_kib > 1000

    assert process.popen.returncode is not None
    assert os.sched_getaffinity(0) == before
    with pytest.raises(Failed, match="no answer"):
        fetch(port)


@pytest.mark.slow
def test_a_program_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; sys.exit('no such option')"]

    with (
        pytest.raises(Failed, match=r"broken ended with exit code 1 .*no such option"),
        running(argv, name="broken", cpu=_CPU, work=tmp_path, port=free_port()),
    ):
        pass


def test_ports_are_handed_out_once() -> None:
    assert len({free_port() for _ in range(20)}) == 20
