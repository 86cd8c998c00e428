"""What tests need of Node: the packages of ``node/package.json``, installed at their first use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import REQUIRE_TOOLS

NODE: Final = Path(__file__).parent / "node"
_INSTALLED: Final = NODE / "node_modules" / ".package-lock.json"


def node_packages() -> dict[str, str]:
    """Install them if they are not there; return the environment in which Node finds them.

    Skips the test where they cannot be installed, or fails it where nothing may be missing.
    """
    lock = NODE / "package-lock.json"
    if not _INSTALLED.exists() or _INSTALLED.stat().st_mtime < lock.stat().st_mtime:
        npm = shutil.which("npm")
        assert npm is not None, "the test is marked with the tool npm"
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run(command, cwd=NODE, check=True, timeout=240, capture_output=True)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as exc:
            said = (exc.stderr or b"").decode("utf-8", "replace")[-500:]
            reason = f"the packages of {NODE.name}/package.json cannot be installed: {exc} {said}"
            if REQUIRE_TOOLS:
                pytest.fail(reason)
            pytest.skip(reason)
        _INSTALLED.touch()
    return {**os.environ, "NODE_PATH": str(NODE / "node_modules")}
