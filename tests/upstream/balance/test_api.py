"""What every installed load balancer promises, whoever wrote it."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xproxy.model.address import Address
from xproxy.model.message import RequestHead
from xproxy.model.traits import Sharing, Traits
from xproxy.registry import default_registry
from xproxy.stream.body import BytesBody
from xproxy.stream.exchange import ConnectionFacts, Request, StreamControl
from xproxy.upstream.balance.api import LoadBalancerFactory
from xproxy.upstream.endpoint import Endpoint

GROUP = "xproxy.load_balancers"
REQUEST = Request(
    RequestHead(service="a", method="b"),
    BytesBody(),
    ConnectionFacts(
        id=1,
        listener="edge",
        protocol="bolt",
        traits=Traits(sharing=Sharing.MESSAGES),
        peer=Address("192.0.2.1", 50000),
        local=Address("192.0.2.2", 80),
    ),
    cast("StreamControl", None),  # no balancer has business with it
    0.0,
)
REGISTRY = default_registry()
BALANCERS = REGISTRY.names(GROUP)


def make(name: str) -> LoadBalancerFactory:
    return cast("LoadBalancerFactory", REGISTRY.load(GROUP, name))


def endpoints(weights: list[int]) -> list[Endpoint]:
    return [Endpoint(Address("127.0.0.1", 1 + i), weight) for i, weight in enumerate(weights)]


def test_the_built_in_ones_are_installed() -> None:
    assert {"least_request", "random", "round_robin"} <= set(BALANCERS)


@pytest.mark.parametrize("name", BALANCERS)
@given(
    weights=st.lists(st.integers(1, 1_000_000), min_size=1, max_size=12),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=40)
def test_picks_one_of_its_endpoints_whatever_the_weights(
    name: str, weights: list[int], seed: int
) -> None:
    choice = endpoints(weights)
    balancer = make(name)(choice, Random(seed))
    for _ in range(3 * len(weights)):
        picked = balancer.pick(REQUEST)
        assert picked in choice
        picked.active += 1  # a busy endpoint may matter to it, and must not break it


class Edge(Random):
    """Draws the largest number there is below 1."""

    def random(self) -> float:
        return 1 - 2.0**-53

    def getrandbits(self, k: int) -> int:
        return super().getrandbits(k)  # or else randrange would draw with random() until it fits


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 1023, 1025])
def test_the_largest_draw_is_no_index_error(name: str, count: int) -> None:
    choice = endpoints([1] * count)
    balancer = make(name)(choice, Edge(1))
    for _ in range(3):
        assert balancer.pick(REQUEST) in choice


@pytest.mark.parametrize("name", BALANCERS)
def test_every_endpoint_gets_its_turn(name: str) -> None:
    choice = endpoints([1, 1, 1, 1])
    balancer = make(name)(choice, Random(3))
    assert {id(balancer.pick(REQUEST)) for _ in range(400)} == {id(e) for e in choice}


@pytest.mark.parametrize("name", BALANCERS)
def test_weights_are_kept_on_the_whole(name: str) -> None:
    choice = endpoints([1, 2, 5])
    balancer = make(name)(choice, Random(11))
    picks = [balancer.pick(REQUEST) for _ in range(8000)]
    for endpoint in choice:
        assert abs(picks.count(endpoint) - 1000 * endpoint.weight) < 150
