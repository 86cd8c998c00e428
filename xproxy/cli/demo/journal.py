"""The proxy's own view of the demo's requests: its access log, read when all has been said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import attrs
import trio

from xproxy.config.schema import FilterConfig
from xproxy.filters.access_log import AccessLog
from xproxy.model.address import Address

PATIENCE: Final = 5.0
"""Seconds until the line of a request counts as missing."""
_LOOK: Final = 0.02
_FIELDS: Final = {"peer": "%peer_address%", "protocol": "%protocol%", "route": "%route%"}


@attrs.frozen
class Told:
    """What the proxy says of a connection's last request."""

    protocol: str = ""
    route: str = ""


@attrs.frozen
class Journal:
    """An access log in a file."""

    path: Path

    def filter(self) -> FilterConfig:
        """Return what a listener needs to keep it."""
        log = AccessLog(path=str(self.path), format="json", fields=_FIELDS)
        return FilterConfig(name="access_log", options=log)

    def read(self) -> dict[int, Told]:
        """Return what is told so far, by the client's port."""
        if not self.path.exists():
            return {}
        whole, _, _ = self.path.read_text().rpartition("\n")  # the last line may not be whole
        lines: list[Mapping[str, str | None]] = [json.loads(line) for line in whole.splitlines()]
        return {
            Address.parse(line["peer"] or "").port: Told(
                line["protocol"] or "", line["route"] or ""
            )
            for line in lines
        }

    async def wait_for(self, ports: Sequence[int]) -> dict[int, Told]:
        """Return what is told of these ports' connections, which have ended; of some nothing after ``PATIENCE``."""
        for _ in range(round(PATIENCE / _LOOK)):
            if set(ports) <= self.read().keys():
                break
            await trio.sleep(_LOOK)
        return self.read()
