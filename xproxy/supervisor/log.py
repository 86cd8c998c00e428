"""The supervisor's own lines on standard error, in the form of the workers'. Nobody waits for their reader."""

from __future__ import annotations

import json
import os
import select
import time
from typing import Final

_LOGGER: Final = "xproxy.supervisor"
_MOST: Final = 4000
"""Bytes of a line: a pipe that is writable takes PIPE_BUF (4096) of them without blocking, and in one piece."""
_LEVELS: Final = ("debug", "info", "warning", "error")


class Log:
    """Writes a line, or drops it and counts it."""

    __slots__ = ("_descriptor", "dropped", "human", "least")

    def __init__(self, descriptor: int = 2) -> None:
        self._descriptor = descriptor
        self.human = os.isatty(descriptor)
        self.least = 1
        """Index of the least level that is written."""
        self.dropped = 0

    def become(self, form: str, level: str) -> None:
        """Take the form (``human``, ``json`` or ``auto``) and the least level of the workers' lines."""
        if form in ("human", "json"):
            self.human = form == "human"
        if level in _LEVELS:
            self.least = _LEVELS.index(level)

    def info(self, message: str) -> None:
        self._write("info", message)

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def error(self, message: str) -> None:
        self._write("error", message)

    def _write(self, level: str, message: str) -> None:
        if _LEVELS.index(level) < self.least:
            return
        line = self._line(level, message).encode("utf-8", "backslashreplace")
        if len(line) >= _MOST:
            line = line[: _MOST - 2] + b"\n"
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        try:
            if poll.poll(0):
                os.write(self._descriptor, line)
                return
        except OSError:
            pass  # a full disk, a reader that is gone: there is nobody to tell
        self.dropped += 1

    def _line(self, level: str, message: str) -> str:
        now = time.time()
        message = message[: _MOST // 2]
        if self.human:
            shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in message)
            clock = time.strftime("%H:%M:%S", time.localtime(now))
            return f"{clock} {level.upper():7} {_LOGGER}: {shown}\n"
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = {
            "time": f"{seconds}.{int(now % 1 * 1000):03d}Z",
            "level": level,
            "logger": _LOGGER,
            "message": message,
        }
        return json.dumps(line) + "\n"
