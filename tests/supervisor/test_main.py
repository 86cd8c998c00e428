"""Who is a supervisor, and what it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.process.product import ROOT
from xproxy.supervisor.main import is_supervisor


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["xproxy", "run", "-c", "x"], True),
        (["xproxy", "run"], True),
        (["xproxy"], False),
        (["xproxy", "check", "run"], False),
    ],
)
def test_who_is_one(arguments: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_supervisor(arguments) == expected
    monkeypatch.setenv("XPROXY_SUPERVISOR", "3")
    assert not is_supervisor(arguments)


def test_it_imports_the_standard_library_only_and_little_of_it() -> None:
    script = "import sys, xproxy.supervisor.main, xproxy.supervisor.resuming; print(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    found = set(said.stdout.split())
    ours = {name for name in found if name.partition(".")[0] == "xproxy"}
    assert all(name == "xproxy" or name.startswith("xproxy.supervisor") for name in ours)
    heavy = {"asyncio", "ssl", "subprocess", "logging", "inspect", "dataclasses", "argparse"}
    assert not found & {*heavy, "trio", "attrs", "attr", "click"}


def test_one_that_is_to_try_it_is_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XPROXY_SUPERVISOR", "3")
    monkeypatch.setenv("XPROXY_RESUME", "try")
    assert is_supervisor(["xproxy", "run"])
    assert not is_supervisor(["xproxy", "check"])
