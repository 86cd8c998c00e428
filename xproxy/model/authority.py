"""Authorities, ``host[:port]``, in one spelling: the one place that says when two of them are the same.

Everybody who compares authorities (codecs that get two of them, routes, redirects) does it here: two readers that
compare texts in two ways are a way round every rule about hosts.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Final

DEFAULT_PORTS: Final = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
"""What a scheme means where no port is given (RFC 9110 §4.2, RFC 6455 §3)."""

_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def split_port(authority: str) -> tuple[str, str]:
    """Return the host and the port of ``host[:port]``; the port is empty if there is none. Total.

    A port may be ``*``, as patterns have it, and an empty one is none (RFC 3986 §3.2.3).
    """
    host, colon, port = authority.rpartition(":")
    # The colons of a bare IPv6 address stand inside brackets (RFC 3986 §3.2.2).
    if colon and (not port or port == "*" or (port.isascii() and port.isdigit())):
        return host, port
    return authority, ""


# Hosts recur: each route of a table looks at the same one, and each client asks for the same few.
@lru_cache(maxsize=1024)
def normalised(authority: str, scheme: str = "") -> str:
    """Return ``authority`` as it is written at its plainest (RFC 3986 §6.2.2, §6.2.3). Total, idempotent.

    In lower case, without needless escapes, without the dot at the end of a whole name (RFC 1034 §3.1), without a
    port that is empty or what ``scheme`` means anyway; an IPv6 address as RFC 5952 has it.
    """
    host, port = parts(authority)
    return f"{host}:{port}" if port and port != DEFAULT_PORTS.get(scheme) else host


@lru_cache(maxsize=1024)
def with_port(authority: str, scheme: str = "") -> str:
    """Return ``authority`` at its plainest, with its port: the one that ``scheme`` means, if it has none. Total."""
    host, port = parts(authority)
    port = port or DEFAULT_PORTS.get(scheme, "")
    return f"{host}:{port}" if port and host else host


def parts(authority: str) -> tuple[str, str]:
    """Return host and port at their plainest, before any scheme is looked at; the port may be empty. Total."""
    host, port = split_port(authority)
    if port and port != "*":
        port = port.lstrip("0") or "0"
    if host.startswith("[") and host.endswith("]"):
        return f"[{_literal(host[1:-1])}]", port
    if "%" in host:
        host = _ESCAPE.sub(_decoded, host)
    host = host.lower()
    if len(host) > 1 and host.endswith(".") and not host.endswith(".."):
        host = host[:-1]
    return host, port


def _literal(address: str) -> str:
    # IPvFuture is what it is; a zone (RFC 6874) means something to one machine only, and stays beside its address.
    bare, percent, zone = address.partition("%")
    try:
        return f"{IPv6Address(bare)}{percent}{zone}".lower()
    except AddressValueError:
        return address.lower()


def _decoded(match: re.Match[str]) -> str:
    char = chr(int(match[1], 16))
    return char if char in _UNRESERVED else match[0]
