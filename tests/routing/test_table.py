from __future__ import annotations

import gc
import weakref

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.alive import living
from xproxy.codecs.memo import HeadMemo
from xproxy.config.schema import MatchConfig, PathMatch, RouteConfig, StringMatch
from xproxy.model.address import Address
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Rpc, Target, recurring
from xproxy.model.traits import Sharing, Traits
from xproxy.routing.match import Condition
from xproxy.routing.route import Route
from xproxy.routing.table import RouteTable
from xproxy.stream.exchange import ConnectionFacts

HTTP = Traits(sharing=Sharing.SERIAL, family="web")


def connection(protocol: str = "http1", peer: str = "192.0.2.7", port: int = 80) -> ConnectionFacts:
    return ConnectionFacts(
        id=1,
        listener="edge",
        protocol=protocol,
        traits=HTTP,
        peer=Address(peer, 1),
        local=Address("192.0.2.1", port),
    )


def web(host: str = "a", path: str = "/", **headers: str) -> RequestHead:
    return RequestHead(
        service=host, method="GET", headers=Headers.of(headers), extra=Target(path=path)
    )


def chosen(table: RouteTable, head: RequestHead, facts: ConnectionFacts) -> str | None:
    route = table.choose(head, facts)
    return route.name if route is not None else None


def route(name: str, hosts: tuple[str, ...] = (), **match: object) -> RouteConfig:
    return RouteConfig(name=name, hosts=hosts, match=MatchConfig(**match), cluster="c")  # type: ignore[arg-type]  # checked by attrs


MIXED = RouteTable.build(
    "main",
    [
        route("jason", ("reviews:9080", "*.local"), headers={"cookie": StringMatch(contains="j")}),
        route("hello", protocol=("bolt",), service=StringMatch(exact="com.example.Hello")),
        route("inside", source=("10.0.0.0/8",), port=8443),
        route("api", path=PathMatch(segment_prefix="/api"), query={"v": StringMatch(exact="2")}),
        route("get", method=("GET", "HEAD"), path=PathMatch(prefix="/")),
    ],
)


def test_the_first_route_that_matches_wins(facts: ConnectionFacts) -> None:
    assert chosen(MIXED, web("reviews:9080", cookie="user=jason"), facts) == "jason"
    assert chosen(MIXED, web("reviews:9080"), facts) == "get"
    assert chosen(MIXED, web("x", "/api/1?v=2"), facts) == "api"
    assert chosen(MIXED, web("x", "/api/1?v=3"), facts) == "get"
    assert chosen(MIXED, attrs.evolve(web(), method="POST"), facts) is None


def test_equal_heads_are_told_apart_by_their_connections() -> None:
    head = web()
    for _ in range(2):
        assert chosen(MIXED, head, connection()) == "get"
        assert chosen(MIXED, head, connection(peer="10.1.1.1", port=8443)) == "inside"
        assert chosen(MIXED, head, connection(peer="10.1.1.1")) == "get"
    rpc = RequestHead(service="com.example.Hello", method="say")
    assert chosen(MIXED, rpc, connection("bolt")) == "hello"
    assert chosen(MIXED, rpc, connection("dubbo")) is None


def test_a_table_says_whether_it_looks_at_connections() -> None:
    assert MIXED.depends_on_connection
    assert not RouteTable.build("x", [route("a", ("a",))]).depends_on_connection


def test_the_memory_of_connections_is_bounded() -> None:
    table = RouteTable.build("x", [route(str(n), port=n) for n in range(1, 60)])
    head = recurring(web())
    facts = [connection(port=n) for n in range(1, 60)]
    before = living(HeadMemo)
    for _ in range(2):
        assert [chosen(table, head, one) for one in facts] == [str(n) for n in range(1, 60)]
        assert 0 < living(HeadMemo) - before <= 16


class Counted:
    """The test of a route, which counts how often it is asked."""

    def __init__(self, field: str = "") -> None:
        self.asked = 0
        self.condition = Condition(
            f"header {field}", "any", lambda head, facts: "x", self._holds, field=field
        )

    def _holds(self, found: str | None) -> bool:
        self.asked += 1
        return True


def counting(field: str = "") -> tuple[RouteTable, Counted]:
    counted = Counted(field)
    return RouteTable("t", [Route("r", (counted.condition,), "c", None)]), counted


def test_a_choice_is_remembered_behind_filters_that_add_fields(facts: ConnectionFacts) -> None:
    table, counted = counting("cookie")
    head = recurring(web())
    for number in range(3):
        named = head.adding((("X-Request-Id", str(number)),))
        assert table.choose(named, facts) is table.routes[0]
        assert table.choose(named.due_in(1), facts) is table.routes[0]
        assert table.choose(head, facts) is table.routes[0]
    assert counted.asked == 1


def test_a_choice_is_not_remembered_behind_a_field_that_a_route_looks_at(
    facts: ConnectionFacts,
) -> None:
    wanted = {"X-Request-ID": StringMatch(exact="2")}
    table = RouteTable.build(
        "t", [route("two", headers=wanted), route("rest", path=PathMatch(prefix="/"))]
    )
    head = recurring(web())
    assert chosen(table, head, facts) == "rest"
    for number in ("1", "2", "1", "2"):
        named = head.adding((("x-request-id", number),))
        assert chosen(table, named, facts) == ("two" if number == "2" else "rest")


@pytest.mark.parametrize("looks_at_connection", [True, False])
def test_a_table_holds_neither_heads_nor_connections(looks_at_connection: bool) -> None:
    port = 80 if looks_at_connection else None
    table = RouteTable.build("t", [route("a", ("a",), port=port)])
    head, facts = recurring(web()), connection()
    before = len(gc.get_referrers(table.routes[0]))
    assert chosen(table, head, facts) == "a"
    assert len(gc.get_referrers(table.routes[0])) == before + 1, "the choice is remembered"
    assert chosen(table, head.adding((("x", "y"),)), facts) == "a"
    held_head, held_facts = weakref.ref(head), weakref.ref(facts)
    del head, facts
    assert (held_head(), held_facts()) == (None, None)
    assert len(gc.get_referrers(table.routes[0])) == before


def test_connections_that_differ_in_many_ways_remember_for_themselves() -> None:
    table = RouteTable.build("t", [route(str(n), port=n) for n in range(1, 100)])
    head = recurring(web())
    facts = [connection(port=n) for n in range(1, 100)]
    before = living(HeadMemo)
    for _ in range(2):
        assert [chosen(table, head, one) for one in facts] == [str(n) for n in range(1, 100)]
        assert living(HeadMemo) - before == 99
    del facts
    assert living(HeadMemo) == before


def test_tests_that_many_routes_share_are_asked_once_of_a_connection() -> None:
    built = RouteTable.build("t", [route(str(n), (f"h{n}",), port=80) for n in range(200)])
    asked = 0

    def counted(condition: Condition) -> Condition:
        def holds(found: str | None) -> bool:
            nonlocal asked
            asked += 1
            return condition.holds(found)

        return attrs.evolve(condition, holds=holds) if condition.what == "port" else condition

    table = RouteTable(
        "t",
        [attrs.evolve(one, conditions=tuple(map(counted, one.conditions))) for one in built.routes],
    )
    for _ in range(2):
        assert chosen(table, recurring(web("h7")), connection()) == "7"
        assert chosen(table, recurring(web("h7")), connection(port=81)) is None
    assert asked == 4 * 2, "once for what the connection is, and once by the route"


def test_an_empty_table_has_no_route(facts: ConnectionFacts) -> None:
    table = RouteTable.build("none", [])
    assert table.choose(web(), facts) is None
    assert str(table.explain(web(), facts)) == "none: no route matches"


def test_an_explanation_names_every_condition_that_failed(facts: ConnectionFacts) -> None:
    explanation = MIXED.explain(attrs.evolve(web("b", "/x"), method="POST"), facts)
    assert explanation.winner is None
    assert str(explanation).splitlines() == [
        "jason: host: found 'b:80', wanted reviews:9080 or *.local; "
        "header cookie: found none, wanted contains 'j'",
        "hello: protocol: found 'http1', wanted 'bolt'; "
        "service: found 'b', wanted exact 'com.example.Hello'",
        "inside: port: found '15001', wanted '8443'; "
        "source: found '192.0.2.7', wanted in 10.0.0.0/8",
        "api: path: found '/x', wanted segment_prefix '/api'; "
        "query v: found none, wanted exact '2'",
        "get: method: found 'POST', wanted 'GET' or 'HEAD'",
        "main: no route matches",
    ]


def test_an_explanation_ends_with_the_winner(facts: ConnectionFacts) -> None:
    explanation = MIXED.explain(web("x", "/api?v=2"), facts)
    assert explanation.winner is MIXED.choose(web("x", "/api?v=2"), facts)
    assert str(explanation).splitlines()[-1] == "api: matches"


HOSTS = st.sampled_from(["a", "a:80", "x.a", "b.x", "b.x:80", ""])
PATTERNS = st.sampled_from(["a", "a:80", "*.a", "b.*", "*", "*:80"])
PATHS = st.sampled_from(["/", "/api", "/apix", "/api/x?v=1", "*", ""])
MATCHES = st.builds(
    MatchConfig,
    path=st.none()
    | st.builds(PathMatch, prefix=PATHS)
    | st.builds(PathMatch, segment_prefix=PATHS),
    protocol=st.none() | st.just(("http1",)) | st.just(("bolt",)),
    port=st.none() | st.sampled_from([80, 81]),
    headers=st.none() | st.just({"h": StringMatch(exact="1", invert=True)}),
    source=st.none() | st.just(("10.0.0.0/8",)),
)
ROUTES = st.lists(
    st.builds(
        RouteConfig,
        hosts=st.lists(PATTERNS, max_size=2).map(tuple),
        match=MATCHES,
        cluster=st.just("c"),
    ),
    max_size=6,
)
HEADS = st.builds(
    RequestHead,
    service=HOSTS,
    method=st.just("GET"),
    headers=st.sampled_from([Headers(), Headers([("h", "1")]), Headers([("h", "2")])]),
    extra=PATHS.map(lambda path: Target(path=path)) | st.none(),
)
CONNECTIONS = st.builds(
    connection,
    st.sampled_from(["http1", "bolt"]),
    st.sampled_from(["10.0.0.1", "192.0.2.1", ""]),
    st.sampled_from([80, 81]),
)


@given(ROUTES, st.lists(HEADS, max_size=4), st.lists(CONNECTIONS, max_size=4))
def test_choosing_explaining_and_plain_matching_agree(
    configs: list[RouteConfig], heads: list[RequestHead], connections: list[ConnectionFacts]
) -> None:
    table = RouteTable.build("t", configs)
    for _ in range(2):  # the second time from memory
        for head in heads:
            for facts in connections:
                first = next((r for r in table.routes if r.matches(head, facts)), None)
                assert table.choose(head, facts) is first
                assert table.explain(head, facts).winner is first


def call(method: str) -> RequestHead:
    rpc = Rpc("grpc", "lab.Echo", method)
    return RequestHead(
        service="a", method="POST", extra=Target(path=f"/lab.Echo/{method}", rpc=rpc)
    )


def test_calls_and_others_on_one_connection_are_told_apart() -> None:
    """What a route asks of the protocol is remembered for connections, but calls are of the head."""
    table = RouteTable.build(
        "main",
        [
            route(
                "say", protocol=("grpc",), service=StringMatch(exact="lab.Echo"), method=("Say",)
            ),
            route("calls", protocol=("grpc",)),
            route("web", protocol=("http1",)),
        ],
    )
    facts = connection()
    for _ in range(2):
        for other in (facts, connection(), connection("http2")):
            plain = "web" if other.protocol == "http1" else None
            assert chosen(table, web(), other) == plain
            assert chosen(table, call("Say"), other) == "say"
            assert chosen(table, call("Shout"), other) == "calls"
    assert "method: found 'Shout (POST)', wanted 'Say'" in str(table.explain(call("Shout"), facts))
