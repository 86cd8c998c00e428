"""Endpoints are made as requests go somewhere, and removed when nothing uses them: never more than allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.model.errors import NoHealthyEndpoint
from xproxy.stream.exchange import Request
from xproxy.upstream.destinations import Destinations
from xproxy.upstream.endpoint import Endpoint
from xproxy.upstream.membership import Membership
from xproxy.upstream.stats import ClusterStats
from xproxy.upstream.ticker import Ticker


def as_request(port: int) -> Request:
    return cast("Request", port)


@attrs.define(eq=False)
class Kit:
    """Requests are numbers here, and go to the port of that number."""

    max_endpoints: int = 4
    cleanup_interval: float = 5.0
    added: list[Endpoint] = attrs.field(factory=list)
    removed: list[Endpoint] = attrs.field(factory=list)
    members: Membership = attrs.field(factory=lambda: Membership(()))
    stats: ClusterStats = attrs.field(factory=ClusterStats)
    ticker: Ticker = attrs.field(factory=Ticker)
    destinations: Destinations = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.destinations = Destinations(
            self, self.members, self.ticker, self.stats, self.added.append, self._remove
        )

    def _remove(self, endpoints: Sequence[Endpoint]) -> None:
        self.removed += endpoints

    def destination(self, request: Request) -> Address:
        return Address("127.0.0.1", int(cast("int", request)))

    def choose(self, port: int) -> Endpoint:
        return self.destinations.choose(as_request(port))

    def ports(self) -> list[int]:
        return [endpoint.address.port for endpoint in self.members.endpoints]


def test_one_address_is_one_endpoint() -> None:
    kit = Kit()
    one = kit.choose(1)
    assert kit.choose(1) is one
    assert kit.choose(2) is not one
    assert kit.ports() == [1, 2]


def test_what_nothing_uses_between_two_looks_is_forgotten() -> None:
    kit = Kit()
    used, held, idle = kit.choose(1), kit.choose(2), kit.choose(3)
    held.connections = 1
    for one in (used, held, idle):
        one.total = 1
    looks = [kit.destinations.tick(5)]
    assert kit.ports() == [1, 2, 3], "each was used since the last look"
    used.total += 1
    looks.append(kit.destinations.tick(10))
    assert kit.ports() == [1, 2]
    assert kit.removed == [idle]
    held.connections = 0
    looks.append(kit.destinations.tick(15))
    assert kit.ports() == []
    assert looks == [5, 5, 0], "with nothing left nobody looks"
    assert all(one.leaving for one in (used, held, idle))
    assert kit.choose(3) is not idle
    assert len(kit.ticker) == 1


def test_where_all_are_in_use_another_is_refused() -> None:
    kit = Kit()
    for port in range(1, 5):
        kit.choose(port).active = 1
    with pytest.raises(NoHealthyEndpoint, match="max_endpoints"):
        kit.choose(5)
    kit.choose(2).active = 0
    kit.choose(5)
    assert kit.ports() == [1, 3, 4, 5]
    assert [one.address.port for one in kit.removed] == [2]


def test_it_begins_with_addresses_that_another_process_had() -> None:
    one = Kit()
    assert not one.destinations.found
    for port in (1, 2, 3):
        one.choose(port)
    found = one.destinations.found
    assert found is not None
    two = Kit(max_endpoints=2)
    two.destinations.learn(found)
    two.destinations.learn(found)
    assert two.ports() == [1, 2]
    two.destinations.change(two.members.endpoints)
    assert two.choose(1) is two.members.endpoints[0]
    two.destinations.probe(())
    two.destinations.marked()
    assert not two.destinations.slow_start
    with pytest.raises(NoHealthyEndpoint):
        two.destinations.picker.pick(as_request(1), ())


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("ask"), st.integers(1, 9)),
            st.tuples(st.just("done"), st.integers(1, 9)),
            st.tuples(st.just("tick"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_what_is_in_use_is_never_removed_and_the_bound_holds(steps: list[tuple[str, int]]) -> None:
    kit = Kit()
    used: dict[int, Endpoint] = {}
    for what, port in steps:
        if what == "ask":
            try:
                endpoint = kit.choose(port)
            except NoHealthyEndpoint:
                assert len(used) == kit.max_endpoints
                continue
            assert used.setdefault(port, endpoint) is endpoint
            endpoint.active += 1
            endpoint.total += 1
        elif what == "done" and port in used:
            used.pop(port).active = 0
        elif what == "tick":
            kit.destinations.tick(0)
        assert set(used) <= set(kit.ports())
        assert len(kit.ports()) <= kit.max_endpoints
        assert len(set(kit.ports())) == len(kit.ports())
        assert all(not endpoint.active for endpoint in kit.removed)
        kit.removed.clear()
