"""Invariant: whatever a DNS server answers becomes endpoints or none, within bounds, the same in any order."""

from __future__ import annotations

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

from fuzz.targets import Seed, Target
from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.registry import Registry
from xproxy.testing.subject import Broken
from xproxy.upstream.discovery.dns_answers import (
    MOST_TARGETS,
    named_endpoints,
    once_each,
    read_answer,
    service_endpoints,
)

_KINDS = (dns.rdatatype.A, dns.rdatatype.AAAA, dns.rdatatype.SRV)
_ASKED = dns.name.from_text("a.test.")
_CONFIG = EndpointConfig(address=Address("a.test", 80))


def target(_registry: Registry) -> Target:
    """Return the target. The first byte says what was asked; the others are the server's message."""

    def check(data: bytes) -> None:
        kind = _KINDS[data[0] % len(_KINDS)] if data else _KINDS[0]
        try:
            message = dns.message.from_wire(data[1:])
            if not isinstance(message, dns.message.QueryMessage):
                return  # of another opcode than the question: no response to it, says the library
            answer = dns.resolver.Answer(_ASKED, kind, dns.rdataclass.IN, message)
        except (dns.exception.DNSException, ValueError):
            return  # the library refuses it, and the question counts as one without an answer
        found = read_answer(answer)
        if not 0 <= found.ttl < 2**31 or len(found.services) > MOST_TARGETS:
            raise Broken("out of bounds", data)
        endpoints = named_endpoints(_CONFIG, found.addresses, logical=False)
        if endpoints != named_endpoints(_CONFIG, found.addresses[::-1], logical=False):
            raise Broken("the order of the answer matters", data)
        addresses = {one.target: ["10.0.0.1", "::1"] for one in found.services}
        endpoints += service_endpoints("_a._tcp.b", found.services, addresses)
        for one in once_each(endpoints):
            Address.parse(str(one.address))

    return Target(name="dns", check=check, seeds=_seeds)


def _seeds() -> list[Seed]:
    said = (
        ("A", ["10.0.0.1", "10.0.0.2"]),
        ("AAAA", ["2001:db8::1"]),
        ("SRV", ["10 5 80 b.test.", "20 0 81 c.test."]),
    )
    found = []
    for index, (kind, records) in enumerate(said):
        response = dns.message.make_response(dns.message.make_query(_ASKED, kind))
        response.answer.append(dns.rrset.from_text("a.test.", 60, "IN", kind, *records))
        found.append(Seed(kind, bytes([index]) + response.to_wire()))
    return found
