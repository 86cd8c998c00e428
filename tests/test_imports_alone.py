"""Every module can be the first of its package to be imported.

One interpreter imports the libraries and no module of ours, then forks a child for each module:
fresh, and quick. (idea: proxy.py:tests/test_circular_imports.py)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

_FORK_AND_IMPORT = """
import importlib, os, sys, traceback
import attrs, cattrs, click, hpack, msgpack, prometheus_client, rich, trio, yaml
assert not any(name.split(".")[0] == "xproxy" for name in sys.modules)
failed = []
for name in sys.argv[1:]:
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(name)
        except BaseException:
            print(f"--- import {name}", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if os.waitpid(pid, 0)[1] != 0:
        failed.append(name)
print(*failed, sep="\\n")
"""


def modules() -> list[str]:
    """Return the names of all modules but ``__main__``, which runs instead."""
    names = []
    for path in sorted((ROOT / "xproxy").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__main__":
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def test_each_module_imports_alone() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORK_AND_IMPORT, *modules()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert result.returncode == 0, result.stderr
    assert not result.stdout.strip(), f"cannot be imported first:\n{result.stdout}{result.stderr}"
