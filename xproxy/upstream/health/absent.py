"""Discovery × health: an endpoint that discovery names no more stays as long as it passes its health checks.

Discovery is eventually consistent, and may err; health wins. Found and healthy: requests go there. Found and
unhealthy: none do. Absent and healthy: they still do. Absent and unhealthy: it is deleted. (source: Envoy, "On
eventually consistent service discovery")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from xproxy.config.schema import EndpointConfig
from xproxy.upstream.endpoint import Endpoint, Unfit


@final
class Absent:
    """Of one cluster: who is there, of those that discovery names and those that it did name."""

    __slots__ = ("_endpoints", "_found", "_taken")

    def __init__(self, endpoints: Callable[[], Sequence[Endpoint]]) -> None:
        """``endpoints`` returns those that the cluster has now."""
        self._endpoints = endpoints
        self._found: Sequence[EndpointConfig] = ()
        self._taken: Sequence[EndpointConfig] = ()

    def found(self, configs: Sequence[EndpointConfig]) -> Sequence[EndpointConfig]:
        """Discovery names these: return which endpoints the cluster is to have. It must take them."""
        named = {config.address for config in configs}
        healthy = {one.address for one in self._endpoints() if _is_healthy(one)}
        stay = [
            config
            for config in self._taken
            if config.address not in named and config.address in healthy
        ]
        self._found = configs
        self._taken = (*configs, *stay) if stay else configs
        return self._taken

    def begin_anew(self) -> None:
        """Discovery is asked about something else: who was named until now is not kept for its health."""
        self._found = self._taken = ()

    def lost(self, endpoint: Endpoint) -> Sequence[EndpointConfig] | None:
        """It is unhealthy now: return which endpoints the cluster is to have, or None if that changes nothing."""
        if _is_healthy(endpoint) or len(self._taken) == len(self._found):
            return None
        before = len(self._taken)
        after = self.found(self._found)
        return after if len(after) < before else None


def _is_healthy(endpoint: Endpoint) -> bool:
    return bool(endpoint.checks) and not endpoint.unfit & (Unfit.FAILED_CHECK | Unfit.UNCHECKED)
