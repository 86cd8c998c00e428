"""Connections that the kernel redirects to us on their way elsewhere: where they were going.

REDIRECT (iptables' nat table) rewrites the address; conntrack remembers the one before (SO_ORIGINAL_DST, and
IP6T_SO_ORIGINAL_DST of ip6tables). TPROXY rewrites nothing: the accepted socket's own address is the one that was
called, and the listening one must be told to take such connections (ip(7), IP_TRANSPARENT).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from xproxy.model.address import Address

_SO_ORIGINAL_DST: Final = 80
"""linux/netfilter_ipv4.h, and of the same value linux/netfilter_ipv6/ip6_tables.h."""
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
"""linux/in.h and linux/in6.h; the standard library has no names for them."""
_SOCKADDR_IN: Final = struct.Struct("!2xH4s8x")
_SOCKADDR_IN6: Final = struct.Struct("!2xH4x16s4x")
_ANY: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not listened on


def take_any(sock: socket.socket) -> None:
    """Let a listening socket take connections to any address (TPROXY). Raises OSError; it needs CAP_NET_ADMIN."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    elif sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)


def destination_of(sock: socket.socket, local: Address, listening: Address) -> Address | None:
    """Return where an accepted connection was going; None: to us.

    ``local`` is the socket's own address, ``listening`` the one that its listener is at.
    """
    before = _before_redirection(sock)
    if before is not None and before != local:
        return before
    if local.port == listening.port and (
        listening.host == local.host or listening.host in _ANY or not local.host
    ):
        return None
    return local if local.port else None


def _before_redirection(sock: socket.socket) -> Address | None:
    try:
        if sock.family == socket.AF_INET:
            said = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
            port, host = _SOCKADDR_IN.unpack(said)
            return Address(socket.inet_ntop(socket.AF_INET, host), port)
        if sock.family == socket.AF_INET6:
            said = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
            port, host = _SOCKADDR_IN6.unpack(said)
            return Address(socket.inet_ntop(socket.AF_INET6, host), port)
    except (OSError, struct.error):
        return None  # conntrack does not know it, or is not there: nobody has redirected it
    return None
