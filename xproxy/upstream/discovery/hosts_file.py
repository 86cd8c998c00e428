"""The names that this machine knows by itself: ``/etc/hosts`` (hosts(5)), read again when it has changed."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

MAX_HOSTS_BYTES: Final = 1024 * 1024
"""What is beyond is not looked at."""
_LOCALHOST: Final = ("127.0.0.1", "::1")


def parse_hosts(text: str) -> Mapping[str, Sequence[str]]:
    """Return the addresses of each name, names in lower case. Lines that are none are passed over."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            written = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for name in names:
            known = found.setdefault(name.lower().rstrip("."), [])
            if written not in known:
                known.append(written)
    return found


class HostsFile:
    """One such file. A look costs one stat(2), and a small file is read at once."""

    def __init__(self, path: str) -> None:
        """``path`` empty: nothing is known but localhost."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._names: Mapping[str, Sequence[str]] = {}

    def find(self, name: str) -> Sequence[str]:
        """Return the addresses of ``name``; none: it is not in the file. Localhost is (RFC 6761 §6.3)."""
        self._refresh()
        lower = name.lower().rstrip(".")
        known = self._names.get(lower)
        if known is None and (lower == "localhost" or lower.endswith(".localhost")):
            return _LOCALHOST
        return known or ()

    def _refresh(self) -> None:
        try:
            if not self._path:
                return
            status = os.stat(self._path)
            seen = status.st_ino, status.st_mtime_ns, status.st_size
            if seen != self._seen:
                with Path(self._path).open("rb") as file:
                    text = file.read(MAX_HOSTS_BYTES).decode("utf-8", "replace")
                self._names, self._seen = parse_hosts(text), seen
        except OSError:
            self._names, self._seen = {}, None  # as if it were empty, as the system does
