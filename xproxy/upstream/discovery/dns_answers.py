"""From answers of DNS to endpoints. Pure: what any server may say, within bounds.

Sources: RFC 1035 (A), RFC 3596 (AAAA), RFC 2782 (SRV).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import attrs
import dns.rdatatype
import dns.resolver

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address

Family: TypeAlias = Literal["auto", "v4_only", "v6_only", "v4_preferred", "all"]
MOST_TARGETS: Final = 256
"""SRV records of one name; those of the worst priority are left out beyond it."""
_MOST_PRIORITY: Final = 127
_MOST_TTL: Final = 2**31 - 1


@attrs.frozen
class Answered:
    """What a server said to one question."""

    addresses: tuple[str, ...] = ()
    """Of A or AAAA records, in the order of the answer."""
    services: tuple[Service, ...] = ()
    """Of SRV records."""
    ttl: int = _MOST_TTL
    """Seconds that it holds: the shortest of all records on the way to it."""


@attrs.frozen
class Service:
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str
    """A name, with the dot at its end."""


def read_answer(answer: dns.resolver.Answer) -> Answered:
    """Return what an answer says that dnspython has read."""
    addresses: list[str] = []
    services: list[Service] = []
    for record in answer.rrset or ():
        if record.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
            addresses.append(str(ipaddress.ip_address(record.address)))
        elif record.rdtype == dns.rdatatype.SRV:
            target = record.target.to_text()
            if target != "." and record.port:  # RFC 2782: "." is no such service here
                services.append(Service(record.priority, record.weight, record.port, target))
    services.sort(key=lambda one: (one.priority, -one.weight, one.target, one.port))
    ttl = min(answer.chaining_result.minimum_ttl, _MOST_TTL)
    return Answered(tuple(dict.fromkeys(addresses)), tuple(services[:MOST_TARGETS]), ttl)


def chosen(family: Family, v4: Sequence[str], v6: Sequence[str]) -> Sequence[str]:
    """Return the addresses that ``family`` wants of a name's: those preferred, else the others."""
    match family:
        case "all":
            return [*v6, *v4]
        case "v4_only":
            return v4
        case "v6_only":
            return v6
        case "v4_preferred":
            return v4 or v6
        case _:
            return v6 or v4


def named_endpoints(
    config: EndpointConfig, addresses: Sequence[str], *, logical: bool
) -> list[EndpointConfig]:
    """Return the endpoints behind a name: one for each address; or ``logical`` the one that is the name."""
    port, name = config.address.port, config.address.host.rstrip(".")
    hostname = config.hostname or name
    if logical and addresses:
        return [attrs.evolve(config, hostname=hostname, dial=Address(addresses[0], port))]
    return [
        attrs.evolve(config, address=Address(address, port), hostname=hostname)
        for address in in_order(addresses)
    ]


def service_endpoints(
    name: str, services: Iterable[Service], addresses: Mapping[str, Sequence[str]]
) -> list[EndpointConfig]:
    """Return the endpoints of the SRV records of ``name``, given the addresses of their targets.

    Each address of a target has its weight, at least 1; priorities are counted from 0 up, as there are any.
    Their host name is the domain that was asked for: whoever forges an answer must not choose the name that a
    certificate is verified by (RFC 6125 §6.5).
    """
    labels = name.rstrip(".").split(".")
    hostname = ".".join([label for label in labels if not label.startswith("_")])
    there = [one for one in services if addresses.get(one.target)]
    ranks = {priority: rank for rank, priority in enumerate(sorted({s.priority for s in there}))}
    return [
        EndpointConfig(
            address=Address(address, one.port),
            weight=max(1, one.weight),
            priority=min(ranks[one.priority], _MOST_PRIORITY),
            hostname=hostname,
        )
        for one in there
        for address in in_order(addresses[one.target])
    ]


def in_order(addresses: Iterable[str]) -> list[str]:
    """Sort addresses: servers turn their answers round, and that is no change."""
    return sorted(addresses, key=lambda text: (":" in text, ipaddress.ip_address(text).packed))


def once_each(endpoints: Iterable[EndpointConfig]) -> list[EndpointConfig]:
    """Return the endpoints without those whose address stood there before: two names may lead to one."""
    return list({(one.address, one.dial): one for one in reversed([*endpoints])}.values())[::-1]
