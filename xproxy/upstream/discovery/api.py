"""The discovery contract: what the entry point group ``xproxy.discovery`` names.

A discovery is an attrs class: its fields are its options, written beside its name in the file. It has ``discover`` or
``destination``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from random import Random
from typing import Protocol, runtime_checkable

import attrs

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.stream.exchange import Request


@attrs.frozen(eq=False)
class Asked:
    """What a discovery is asked about."""

    cluster: str
    """The cluster's name."""
    endpoints: tuple[EndpointConfig, ...]
    """Those that the configuration names; may be none."""
    random: Random
    """For jitter."""
    failed: Callable[[str], None]
    """Counts a failure, and logs it if it is another than the one before. The last answer stays."""


@runtime_checkable
class Discovery(Protocol):
    """Finds a cluster's endpoints."""

    def discover(self, asked: Asked) -> AsyncGenerator[Sequence[EndpointConfig], None]:
        """Give all endpoints each time there are others, for ever. Runs in the cluster's own task.

        An empty answer is an answer: there is none now. Whoever does not know says ``asked.failed``, and gives
        nothing. Where it raises, or ends, the last answer stays, and it is called again after a while. It is closed
        when the cluster ends; do not ``yield`` within a nursery or a cancel scope.
        """
        ...


@runtime_checkable
class SupportsDestination(Protocol):
    """Finds the endpoint of each request by itself."""

    max_endpoints: int
    """Endpoints that the cluster has at a time; those that nothing uses make room for others."""
    cleanup_interval: float
    """Seconds; an endpoint that nothing has used for so long is forgotten."""

    def destination(self, request: Request) -> Address:
        """Return where ``request`` goes. Never blocks. Raises NoHealthyEndpoint where it goes nowhere."""
        ...


@runtime_checkable
class SupportsEndpointsCheck(Protocol):
    """Looks at the endpoints that the configuration names beside it."""

    def refusal(self, endpoints: Sequence[EndpointConfig]) -> str:
        """Return why these endpoints cannot be; empty: they can."""
        ...
