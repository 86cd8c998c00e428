"""What clients leave behind is freed at once, without a collector: see ``garbage.py``, which this runs."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

from tests.process import garbage
from tests.process.product import PATIENCE

SECONDS: Final = 10


@pytest.mark.slow
@pytest.mark.tool("gcc")
def test_no_client_leaves_anything_to_the_collector() -> None:
    # In a process of its own: gRPC's threads outlive what they are for.
    done = subprocess.run(
        [sys.executable, garbage.__file__, f"{SECONDS}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS + 8 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
