"""The secrets of handshakes, as OpenSSL's key log tells them; they never leave the memory of the process.

OpenSSL calls us with each line. Where it cannot be reached for that, it writes to a file that exists in memory only,
at 50 µs more a handshake.
"""

from __future__ import annotations

import os
import weakref
from typing import Final

from xproxy.transport.tls.libssl import Context, LibsslUnusable, libssl

_MAX_BYTES: Final = 4096
"""Of one step of one handshake: five lines of at most 230 bytes."""


class KeyLog:
    """Where contexts write secrets, and from where each step of a handshake takes its own at once."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._fd = -1

    def use_in(self, context: Context) -> None:
        """Let ``context`` write here."""
        try:
            libssl().use_key_log(context, self._lines.append)
        except LibsslUnusable:
            context.keylog_filename = self._file()

    def _file(self) -> str:
        if self._fd < 0:
            self._fd = os.memfd_create("tls-key-log", os.MFD_CLOEXEC)
            weakref.finalize(self, os.close, self._fd)
        return f"/proc/self/fd/{self._fd}"

    def take(self) -> bytes:
        """Return what the last step of a handshake wrote, and forget it."""
        if self._fd >= 0:
            text = os.pread(self._fd, _MAX_BYTES, 0)
            if text:
                os.ftruncate(self._fd, 0)
            return text
        if not self._lines:
            return b""
        text = b"\n".join(self._lines)
        self._lines.clear()
        return text
