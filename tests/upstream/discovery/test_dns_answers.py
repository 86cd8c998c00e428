"""Whatever a server says becomes endpoints, or none: within bounds, and the same in any order."""

from __future__ import annotations

from typing import cast

import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.schema import EndpointConfig
from xproxy.model.address import Address
from xproxy.upstream.discovery.dns_answers import (
    MOST_TARGETS,
    Answered,
    Family,
    Service,
    chosen,
    in_order,
    named_endpoints,
    once_each,
    read_answer,
    service_endpoints,
)


def answered(name: str, kind: str, *records: str, ttl: int = 60, cname: str = "") -> Answered:
    query = dns.message.make_query(name, kind)
    response = dns.message.make_response(query)
    if cname:
        response.answer.append(dns.rrset.from_text(name, 7, "IN", "CNAME", cname))
    if records:
        response.answer.append(dns.rrset.from_text(cname or name, ttl, "IN", kind, *records))
    return read_answer(
        dns.resolver.Answer(
            dns.name.from_text(name),
            dns.rdatatype.from_text(kind),
            dns.rdataclass.IN,
            cast("dns.message.QueryMessage", dns.message.from_wire(response.to_wire())),
        )
    )


def test_addresses_and_how_long_they_hold() -> None:
    found = answered("a.", "A", "10.0.0.1", "10.0.0.2")
    assert (set(found.addresses), found.services, found.ttl) == ({"10.0.0.1", "10.0.0.2"}, (), 60)
    assert answered("a.", "AAAA", "2001:db8::1", ttl=0) == Answered(("2001:db8::1",), ttl=0)
    assert answered("a.", "A", "10.0.0.1", cname="b.").ttl == 7, "of all on the way, the shortest"
    assert answered("a.", "A").addresses == ()


def test_service_records_the_best_first() -> None:
    found = answered(
        "_a._tcp.b.", "SRV", "20 1 80 c.", "10 0 80 d.", "10 5 81 d.", "1 1 9 .", "1 1 0 e."
    )
    assert found.services == (
        Service(10, 5, 81, "d."),
        Service(10, 0, 80, "d."),
        Service(20, 1, 80, "c."),
    )


def test_of_very_many_services_the_best_count() -> None:
    records = [f"{n} 1 {n + 1} t." for n in range(MOST_TARGETS + 10)]
    found = answered("_a._tcp.b.", "SRV", *records).services
    assert [one.priority for one in found] == list(range(MOST_TARGETS))


@pytest.mark.parametrize(
    ("family", "both", "no_v4", "no_v6"),
    [
        ("auto", ["6"], ["6"], ["4"]),
        ("v4_preferred", ["4"], ["6"], ["4"]),
        ("v4_only", ["4"], [], ["4"]),
        ("v6_only", ["6"], ["6"], []),
        ("all", ["6", "4"], ["6"], ["4"]),
    ],
)
def test_which_addresses_count(
    family: Family, both: list[str], no_v4: list[str], no_v6: list[str]
) -> None:
    assert chosen(family, ["4"], ["6"]) == both
    assert chosen(family, [], ["6"]) == no_v4
    assert chosen(family, ["4"], []) == no_v6


IPS = st.ip_addresses().map(str)


@given(st.lists(IPS), st.randoms())
def test_a_turned_round_answer_is_no_change(addresses: list[str], random: st.DataObject) -> None:
    config = EndpointConfig(address=Address("a.test", 80), weight=3, priority=2)
    turned = list(addresses)
    random.shuffle(turned)  # type: ignore[attr-defined]  # it is a random.Random
    found = named_endpoints(config, addresses, logical=False)
    assert found == named_endpoints(config, turned, logical=False)
    assert len(found) == len(addresses)
    assert all((one.weight, one.priority, one.hostname) == (3, 2, "a.test") for one in found)
    assert [one.address.host for one in found] == in_order(addresses)


def test_a_logical_name_is_one_endpoint_at_the_first_address() -> None:
    config = EndpointConfig(address=Address("a.test.", 80))
    (one,) = named_endpoints(config, ["10.0.0.2", "10.0.0.1"], logical=True)
    assert (one.address, one.dial, one.hostname) == (
        config.address,
        Address("10.0.0.2", 80),
        "a.test",
    )
    assert named_endpoints(config, [], logical=True) == []


SERVICES = st.builds(
    Service,
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.integers(1, 65535),
    st.sampled_from(["a.", "b.", "c."]),
)


@given(
    st.lists(SERVICES, max_size=200), st.dictionaries(st.sampled_from(["a.", "b."]), st.lists(IPS))
)
def test_services_keep_their_order_and_their_bounds(
    services: list[Service], addresses: dict[str, list[str]]
) -> None:
    found = service_endpoints("_a._tcp.b.test.", services, addresses)
    assert len(found) == sum(len(addresses.get(one.target, ())) for one in services)
    assert all(1 <= one.weight <= 65535 and 0 <= one.priority <= 127 for one in found)
    assert all(one.hostname == "b.test" for one in found)
    if found:
        assert min(one.priority for one in found) == 0


def test_two_names_that_lead_to_one_address_are_one_endpoint() -> None:
    one, two = (EndpointConfig(address=Address("10.0.0.1", 80), weight=w) for w in (1, 2))
    assert once_each([one, two, one]) == [one]


@given(st.binary(max_size=200))
def test_no_answer_breaks_it(tail: bytes) -> None:
    query = dns.message.make_query("a.", "A")
    wire = dns.message.make_response(query).to_wire() + tail
    wire = wire[:6] + b"\x00\x02" + wire[8:]  # it claims to have two records
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
        answer = dns.resolver.Answer(
            dns.name.from_text("a."),
            dns.rdatatype.A,
            dns.rdataclass.IN,
            cast("dns.message.QueryMessage", message),
        )
    except dns.exception.DNSException:
        return
    found = read_answer(answer)
    assert 0 <= found.ttl < 2**31
