from __future__ import annotations

from collections import Counter

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from xproxy.config.schema import FilterConfig, MatchConfig, RouteConfig, StringMatch
from xproxy.model.limits import Duration
from xproxy.model.message import RequestHead
from xproxy.routing.route import WeightedClusters, build_route
from xproxy.stream.exchange import ConnectionFacts, Handler, Request, Response

WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1), st.integers(0, 50), min_size=1, max_size=6)


class Passing:
    async def __call__(self, request: Request, call_next: Handler) -> Response:
        return await call_next(request)


def test_ranges_are_half_open_and_in_order() -> None:
    clusters = WeightedClusters({"a": 10, "b": 90})
    assert [clusters.pick(value) for value in (0, 9, 10, 99, 100, 109, 110)] == list("aabbaab")


def test_a_weight_of_zero_never_wins_and_no_range_is_off_by_one() -> None:
    """MOSN subtracts and tests <= 0: there value 1 of {a: 1, b: 1} is still a, and a weight of 0 may win."""
    clusters = WeightedClusters({"zero": 0, "a": 1, "none": 0, "b": 1, "last": 0})
    assert [clusters.pick(value) for value in range(4)] == ["a", "b", "a", "b"]


@given(WEIGHTS)
def test_shares_are_exactly_the_weights(weights: dict[str, int]) -> None:
    assume(sum(weights.values()))
    clusters = WeightedClusters(weights)
    counts = Counter(clusters.pick(value) for value in range(clusters.total))
    assert counts == Counter({name: weight for name, weight in weights.items() if weight})


@given(WEIGHTS, st.integers(0, 2**64))
def test_a_pick_walks_the_ranges_of_the_configuration(weights: dict[str, int], value: int) -> None:
    assume(sum(weights.values()))
    begin, wanted = 0, ""
    for name, weight in weights.items():
        if begin <= value % sum(weights.values()) < begin + weight:
            wanted = name
        begin += weight
    assert WeightedClusters(weights).pick(value) == wanted


def test_a_route_takes_over_what_is_configured() -> None:
    passing = Passing()
    route = build_route(
        RouteConfig(
            cluster="a",
            timeout=Duration(3.0),
            allow_connect=True,
            allow_upgrade=("WebSocket",),
            filters=(FilterConfig(name="passing", options=passing),),
        ),
        "main[0]",
    )
    assert (route.name, route.cluster, route.timeout) == ("main[0]", "a", 3.0)
    assert route.filters == (passing,)
    assert route.allow_connect
    assert route.allow_upgrade == {"websocket"}
    assert build_route(RouteConfig(name="x", cluster="a"), "main[0]").name == "x"


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (MatchConfig(tls=True), True),
        (MatchConfig(tls=False), False),
        (MatchConfig(alpn=("h2", "http/1.1")), True),
        (MatchConfig(alpn=("h2",)), False),
        (MatchConfig(peer_identity=StringMatch(prefix="spiffe://mesh/")), True),
        (MatchConfig(peer_identity=StringMatch(exact="x")), False),
        (MatchConfig(sni=StringMatch(suffix=".local")), True),
        (MatchConfig(sni=StringMatch(exact="Reviews.LOCAL")), True),
        (MatchConfig(sni=StringMatch(contains="VIEW", invert=True)), False),
    ],
)
def test_what_tls_says_of_a_client(match: MatchConfig, holds: bool, facts: ConnectionFacts) -> None:
    route = build_route(RouteConfig(match=match, cluster="c"), "r[0]")
    head = RequestHead(service="a", method="GET")
    without = attrs.evolve(facts, sni=None)
    facts = attrs.evolve(facts, tls=True, alpn="http/1.1", peer_identity="spiffe://mesh/shop")
    assert route.matches(head, facts) is holds
    assert route.matches(head, without) is (match.tls is False), (
        "a connection without TLS has none of it"
    )
    assert route.conditions[0].on_connection
