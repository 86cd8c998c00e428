"""Listening sockets that a parent has opened, as the supervisor's are."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence

import attrs

from xproxy.config.schema import ListenerConfig


@attrs.frozen
class GivenSockets:
    """A ListenerSource."""

    given: Mapping[str, str]
    """Descriptors by address."""

    async def open(self, config: ListenerConfig, *, single: bool) -> Sequence[socket.socket]:
        """See ListenerSource."""
        assert not single
        sock = socket.socket(fileno=int(self.given[str(config.address)]))
        sock.setblocking(False)
        return [sock]

    async def release(self, _config: ListenerConfig) -> bool:
        """See ListenerSource: the parent has them, too."""
        return False

    def forget(self, _config: ListenerConfig) -> None:
        """See ListenerSource."""

    def ended(self, _config: ListenerConfig) -> None:
        """See ListenerSource."""
