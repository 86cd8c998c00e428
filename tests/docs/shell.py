"""One shell for one page: background jobs, variables and the folder last from block to block, as for a reader."""

from __future__ import annotations

import os
import re
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

PATIENCE: Final = 60.0
"""Seconds that a block, or what it prints, may take."""

_FAILED: Final = "a command failed:"


class Shell:
    """A bash that is fed block by block; what its jobs print comes in the same stream, as in a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = ""
        """What was printed since the last block began."""
        self._scripts = 0
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            # Unbuffered: what a Python program says when it is ready must come when it is ready.
            env={**kept, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.run(f"set -E -o pipefail\ntrap 'echo \"{_FAILED} $BASH_COMMAND\"' ERR")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._process:
            self._tell("trap - ERR; kill $(jobs -p) 2>/dev/null; wait; exit\n")
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def run(self, script: str) -> bool:
        """Run a block to its end; its jobs go on. Returns whether all commands succeeded."""
        self._scripts += 1
        path = self.folder / f".block-{self._scripts}.sh"
        path.write_text(script, "utf-8")
        mark = secrets.token_hex(8)
        self.output = ""
        self._tell(f". {path} </dev/null; printf '\\n{mark} %s\\n' $?\n")
        ended = self.wait_for(re.compile(rf"\n{mark} (\d+)\n"))
        assert ended is not None, f"not over in {PATIENCE:g} s; so far it printed:\n{self.output}"
        self.output = self.output.replace(ended[0], "", 1)
        return ended[1] == "0" and _FAILED not in self.output

    def wait_for(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Wait until ``pattern`` was printed; None: it was not."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE
        while (match := pattern.search(self.output)) is None:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                return None
            self.output += data.decode("utf-8", "replace").replace("\r", "")
        return match

    def _tell(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()


def expected(text: str) -> re.Pattern[str]:
    """Return the pattern of an output block.

    ``…`` is anything, and alone on a line it is any lines, or none. Blanks at the ends of lines do not count.
    """
    parts = [
        r"(?:[^\n]*\n)*?"
        if line.strip() == "…"
        else re.escape(line.rstrip()).replace("…", ".*?") + r"[ \t]*\n"
        for line in text.strip("\n").splitlines()
    ]
    return re.compile("".join(parts).removesuffix(r"[ \t]*\n"), re.DOTALL)
