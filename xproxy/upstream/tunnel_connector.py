"""Where a CONNECT ends: behind it the bytes of the tunnel go to an endpoint as they are."""

from __future__ import annotations

from xproxy.model.errors import Unsupported
from xproxy.stream.exchange import Request, Response
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.serial_connector import DedicatedConnector


class TunnelConnector(DedicatedConnector):
    """A connection without heads for each tunnel that a protocol with heads asks for; nothing else can go there."""

    __slots__ = ()

    async def exchange(self, request: Request, endpoint: Endpoint) -> Response:
        """See Connector. Raises Unsupported for whatever is no CONNECT."""
        head = request.head
        if not head.tunnel or head.path:
            protocol = request.connection.protocol
            raise Unsupported(
                f"{protocol} cannot be converted to {self.plugin.name}: one of them has no heads"
            )
        return await super().exchange(request, endpoint)
