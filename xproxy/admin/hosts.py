"""Whom a request of the admin interface is addressed to.

A web page can make a browser call any address under the page's own name (DNS rebinding), and then read the answer.
Such a request has that name as its ``Host``; whoever means this interface calls it by its address, or a name it has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from typing import Final

from xproxy.model.address import Address
from xproxy.model.authority import parts

_LOCAL: Final = frozenset({"", "localhost", "ip6-localhost"})


def is_meant(authority: str, called: Address, names: Collection[str]) -> bool:
    """Say whether ``authority`` (``host[:port]``) is a name of an interface that was called at ``called``.

    ``names``: further ones that it has. An empty authority is what HTTP/1.0 clients without ``Host`` say; no browser
    is one. Nobody but local programs reaches a Unix socket, whatever they call it.
    """
    if called.is_unix:
        return True
    host = _host(authority)
    if host in _LOCAL or host in map(_host, names):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or str(address) == _plain(called.host)


def _host(authority: str) -> str:
    return parts(authority)[0].strip("[]")


def _plain(host: str) -> str:
    # A dual-stack socket shows an IPv4 address as ::ffff:192.0.2.1.
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
