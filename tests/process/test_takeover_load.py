"""Upgrades under a load of all protocols at once, with long streams: the short form of ``make soak-takeover``."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from tests.process.product import PATIENCE, ROOT

pytestmark = [pytest.mark.slow, pytest.mark.tool("gcc")]

_SMALL: Final = ("--connections", "6", "--rate", "150", "--between", "1")


def _soak(*options: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own, as the command is: its threads and files are none of ours.
    return subprocess.run(
        [sys.executable, "-m", "bench.takeover", "soak", *_SMALL, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        timeout=10 * PATIENCE,
        check=False,
    )


def test_upgrades_in_a_row_are_noticed_by_nobody() -> None:
    done = _soak("--upgrades", "3", "--stream-mib", "4", "--access-log")
    assert done.returncode == 0, done.stdout


def test_a_proxy_that_is_only_killed_is_noticed() -> None:
    kill = "sh -c 'kill -KILL $(cat /proc/{pid}/task/{pid}/children)'"
    done = _soak("--upgrades", "1", "--stream-mib", "1", "--command", kill)
    assert done.returncode == 1, done.stdout
    assert "0 of 78 connections alive" in done.stdout
