"""Faults on purpose: where they are wanted, and nowhere else."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from xproxy.migration import faults
from xproxy.migration.faults import KINDS, STEPS, fault

SOURCES = Path(faults.__file__).parent


def test_nothing_happens_unless_it_is_wanted() -> None:
    assert [fault(step) for step in STEPS] == [""] * len(STEPS)


def test_every_step_is_there_and_no_other() -> None:
    found = [
        step
        for source in SOURCES.glob("*.py")
        for step in re.findall(r'fault\("([a-z.]+)"\)', source.read_text())
    ]
    assert sorted(found) == sorted(STEPS)


@pytest.mark.parametrize("what", KINDS)
def test_what_is_wanted_happens(what: str) -> None:
    program = (
        "from xproxy.migration.faults import fault; print(fault('give.done'), fault('take.begun'))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", program],
        env={"XPROXY_FAULT_POINT": f"give.done:{what}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if what == "stop":
            status = Path(f"/proc/{run.pid}/stat")
            while status.read_text().rpartition(")")[2].split()[0] not in "TZ":
                pass
            assert status.read_text().rpartition(")")[2].split()[0] == "T"
            return
        out, _ = run.communicate(timeout=60)
        assert (run.returncode, out) == ((-9, "") if what == "kill" else (0, f"{what} \n"))
    finally:
        run.kill()
        run.communicate()
