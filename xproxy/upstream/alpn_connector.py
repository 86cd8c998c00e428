"""A connector that follows each endpoint's choice of protocol: what it agreed on in TLS decides which carries on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from xproxy.codecs.api import CodecPlugin
from xproxy.connection.flowing import UpstreamEnd
from xproxy.model.errors import ConnectFailed
from xproxy.stream.exchange import Downstream, Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.upstream.agreement import Agreement, OtherProtocol
from xproxy.upstream.connector import Connector, Continuation
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.moving import Given, Handed

_TURNS: Final = 3
"""An endpoint that changes its mind more often within one request is not followed."""


class AlpnConnector:
    """See the module."""

    __slots__ = ("_agreement", "_connectors", "plugin")

    def __init__(self, agreement: Agreement, connectors: Mapping[str, Connector]) -> None:
        self.plugin: CodecPlugin = agreement.plugins[0]
        self._agreement = agreement
        self._connectors = connectors
        """By name of their codec."""

    @property
    def agreement(self) -> Agreement:
        """What the endpoints chose."""
        return self._agreement

    def pinned(self, request: Request) -> Endpoint | None:
        """See Connector."""
        for connector in self._connectors.values():
            endpoint = connector.pinned(request)
            if endpoint is not None:
                return endpoint
        return None

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Connector."""
        for _ in range(_TURNS):
            plugin = self._agreement.of(endpoint)
            try:
                response = await self._connectors[plugin.name].exchange(request, endpoint)
            except OtherProtocol:
                continue
            if plugin.name != request.connection.protocol:
                response.origin = None  # the raw message of another protocol
            return response
        raise ConnectFailed(f"{endpoint.address} changes its protocol with every connection (ALPN)")

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Connector."""
        self._agreement.close()
        left = False
        for connector in self._connectors.values():
            left |= connector.tick(tick, idle_ticks)
        return left

    def leave(self, endpoint: Endpoint) -> None:
        """See Connector."""
        for connector in self._connectors.values():
            connector.leave(endpoint)

    def forget(self, endpoint: Endpoint) -> None:
        """See Connector."""
        self._agreement.forget(endpoint)
        for connector in self._connectors.values():
            connector.forget(endpoint)

    def close(self) -> None:
        """See Connector."""
        self._agreement.close()
        for connector in self._connectors.values():
            connector.close()

    def plugin_of(self, protocol: str) -> CodecPlugin:
        """Return the codec plugin of this name. Raises ValueError where it is not among what is offered."""
        connector = self._connectors.get(protocol)
        if connector is None:
            raise ValueError(f"{protocol} is not among what is offered to endpoints")
        return connector.plugin

    def give(self) -> Iterator[Given]:
        """See Connector."""
        for connector in self._connectors.values():
            yield from connector.give()

    def adopt(
        self,
        endpoint: Endpoint,
        stream: ByteStream,
        handed: Handed,
        downstream: Downstream | None = None,
    ) -> None:
        """See Connector."""
        connector = self._connectors.get(handed.protocol)
        if connector is None:
            raise ValueError(f"{handed.protocol} is not among what is offered to endpoints")
        connector.adopt(endpoint, stream, handed, downstream)

    def continuation(self, endpoint: Endpoint, end: UpstreamEnd) -> Continuation:
        """See Connector."""
        connector = self._connectors.get(end.protocol)
        if connector is None:
            raise ValueError(f"{end.protocol} is not among what is offered to endpoints")
        return connector.continuation(endpoint, end)
