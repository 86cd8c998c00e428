"""Networks: sets of CIDR blocks, and whether an address is in one."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias, final

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def parse_network(text: str) -> IPNetwork:
    """Read ``10.0.0.0/8``, ``::1/128`` or a single address. Raises ValueError, also for host bits that are set."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a network such as 10.0.0.0/8: {error}") from None


# The same peers come again and again, and parsing costs 1 to 2 µs.
@functools.lru_cache(maxsize=1024)
def parse_ip(text: str) -> IPAddress | None:
    """Return the address, an IPv4-mapped IPv6 one as IPv4 (RFC 4291 §2.5.5.2); None for names and Unix sockets."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


@final
class Networks:
    """A set of CIDR blocks. Text that is no IP address (a Unix peer's empty host) is in none of them."""

    __slots__ = ("blocks",)

    blocks: Final[tuple[IPNetwork, ...]]

    def __init__(self, texts: Iterable[str]) -> None:
        self.blocks = tuple(parse_network(text) for text in texts)

    def __contains__(self, host: object) -> bool:
        address = parse_ip(host) if isinstance(host, str) else None
        return address is not None and any(address in block for block in self.blocks)

    def __str__(self) -> str:
        return ", ".join(map(str, self.blocks))
