"""A minute of good and hostile load of all protocols, with reloads: see ``soak.py``, which this runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from tests.process import soak
from tests.process.product import PATIENCE

SECONDS: Final = float(os.environ.get("XPROXY_SOAK_SECONDS", "60"))
"""``make soak`` runs an hour."""


@pytest.mark.slow
@pytest.mark.tool("gcc")
def test_memory_is_bounded_and_good_clients_are_served() -> None:
    # In a process of its own: gRPC's threads outlive what they are for.
    done = subprocess.run(
        [sys.executable, soak.__file__, f"{SECONDS:g}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * SECONDS + 8 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
