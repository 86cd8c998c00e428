"""Every protocol at once through one port, in clear text and over TLS: see ``mixed.py``, which this runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.process import mixed
from tests.process.product import LOAD_SECONDS, PATIENCE


@pytest.mark.slow
@pytest.mark.tool("gcc")
def test_all_protocols_at_once_without_an_error_or_a_mismatch() -> None:
    # In a process of its own: gRPC's threads outlive what they are for.
    done = subprocess.run(
        [sys.executable, mixed.__file__, f"{LOAD_SECONDS:g}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LOAD_SECONDS + 10 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
