"""``type: original_destination``: a request goes where its client meant to go (idea: Envoy's ORIGINAL_DST)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

import attrs
from attrs.validators import ge, gt, le, optional

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.model.limits import Duration
from xproxy.stream.exchange import Request

_MOST_HEADER: Final = 64
"""Characters of an address and a port."""


@attrs.frozen(kw_only=True)
class OriginalDestination:
    """Endpoints are the addresses that clients of a ``transparent`` listener called: one is made when it is needed.

    A connection that was not intercepted goes nowhere: it would come back to this proxy.
    """

    use_http_header: bool = False
    """Let a header say where a request goes: whoever may send one reaches every address that this proxy reaches."""
    http_header_name: str = "x-envoy-original-dst-host"
    """That header: an IP address and a port."""
    port_override: int | None = attrs.field(default=None, validator=optional([ge(1), le(65535)]))
    """Go to this port, whichever was called."""
    max_endpoints: int = attrs.field(default=4096, validator=[ge(1), le(65_536)])
    """Addresses at a time. Where all are in use, another one is refused."""
    cleanup_interval: Duration = attrs.field(default=Duration(5.0), validator=gt(Duration(0)))
    """An address that nothing has used between two of these is forgotten."""

    def refusal(self, endpoints: Sequence[EndpointConfig]) -> str:
        """See SupportsEndpointsCheck."""
        return "requests say where they go: it takes no `endpoints`" if endpoints else ""

    def destination(self, request: Request) -> Address:
        """See SupportsDestination."""
        said = request.head.headers.get(self.http_header_name) if self.use_http_header else None
        address = request.connection.destination if said is None else self._parse(said)
        if address is None:
            raise NoHealthyEndpoint("the connection was not intercepted on its way elsewhere")
        if self.port_override is not None:
            return Address(address.host, self.port_override)
        return address

    def _parse(self, said: str) -> Address:
        name = self.http_header_name
        try:
            if len(said) > _MOST_HEADER:
                raise ValueError("it is too long")
            address = Address.parse(said)
            ipaddress.ip_address(address.host.partition("%")[0])
        except ValueError as exc:
            raise NoHealthyEndpoint(f"{name} is no IP address and port: {exc}") from exc
        if address.port == 0:
            raise NoHealthyEndpoint(f"{name} has port 0")
        return address
