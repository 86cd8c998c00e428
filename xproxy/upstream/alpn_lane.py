"""A lane that follows each endpoint's choice of protocol: what it agreed on in TLS decides which lane carries on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from xproxy.codecs.api import CodecPlugin
from xproxy.model.errors import ConnectFailed
from xproxy.stream.exchange import Request, Response
from xproxy.transport.stream import ByteStream
from xproxy.upstream.agreement import Agreement, OtherProtocol
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.lane import Lane
from xproxy.upstream.moving import Given, Handed

_TURNS: Final = 3
"""An endpoint that changes its mind more often within one request is not followed."""


class AlpnLane:
    """See the module."""

    __slots__ = ("_agreement", "_lanes", "plugin")

    def __init__(self, agreement: Agreement, lanes: Mapping[str, Lane]) -> None:
        self.plugin: CodecPlugin = agreement.plugins[0]
        self._agreement = agreement
        self._lanes = lanes
        """By name of their codec."""

    def pinned(self, request: Request) -> Endpoint | None:
        """See Lane."""
        for lane in self._lanes.values():
            endpoint = lane.pinned(request)
            if endpoint is not None:
                return endpoint
        return None

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Lane."""
        for _ in range(_TURNS):
            plugin = self._agreement.of(endpoint)
            try:
                response = await self._lanes[plugin.name].exchange(request, endpoint)
            except OtherProtocol:
                continue
            if plugin.name != request.connection.protocol:
                response.origin = None  # the raw message of another protocol
            return response
        raise ConnectFailed(f"{endpoint.address} changes its protocol with every connection (ALPN)")

    def tick(self, tick: int, idle_ticks: int) -> bool:
        """See Lane."""
        self._agreement.close()
        left = False
        for lane in self._lanes.values():
            left |= lane.tick(tick, idle_ticks)
        return left

    def leave(self, endpoint: Endpoint) -> None:
        """See Lane."""
        for lane in self._lanes.values():
            lane.leave(endpoint)

    def forget(self, endpoint: Endpoint) -> None:
        """See Lane."""
        self._agreement.forget(endpoint)
        for lane in self._lanes.values():
            lane.forget(endpoint)

    def close(self) -> None:
        """See Lane."""
        self._agreement.close()
        for lane in self._lanes.values():
            lane.close()

    def give(self) -> Iterator[Given]:
        """See Lane."""
        for lane in self._lanes.values():
            yield from lane.give()

    def adopt(self, endpoint: Endpoint, stream: ByteStream, handed: Handed) -> None:
        """See Lane."""
        lane = self._lanes.get(handed.protocol)
        if lane is None:
            raise ValueError(f"{handed.protocol} is not among what is offered to endpoints")
        lane.adopt(endpoint, stream, handed)
