from __future__ import annotations

import gc
import itertools
from collections.abc import Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.config.routing import FractionConfig, RangeConfig
from xproxy.config.schema import MatchConfig, PathMatch, RouteConfig, StringMatch
from xproxy.model.address import Address
from xproxy.model.errors import BadTarget
from xproxy.model.headers import Headers
from xproxy.model.message import RequestHead, Rpc, Target, recurring
from xproxy.model.traits import Sharing, Traits
from xproxy.routing.index import FEW, Index
from xproxy.routing.match import Condition
from xproxy.routing.route import Route
from xproxy.routing.table import RouteTable
from xproxy.stream.exchange import ConnectionFacts

FACTS = ConnectionFacts(
    id=1,
    listener="edge",
    protocol="http1",
    traits=Traits(sharing=Sharing.SERIAL, family="web"),
    peer=Address("192.0.2.7", 1),
    local=Address("192.0.2.1", 80),
)


def web(host: str = "a", path: str = "/", scheme: str = "http") -> RequestHead:
    return RequestHead(service=host, method="GET", extra=Target(path=path, scheme=scheme))


def table_of(configs: Sequence[RouteConfig]) -> RouteTable:
    return RouteTable.build("t", configs)


def linear(table: RouteTable, head: RequestHead, facts: ConnectionFacts) -> Route | None:
    return next((route for route in table.routes if route.matches(head, facts)), None)


# Few letters, so that texts are equal to, begin with, and end with one another.
HOSTS = st.text("ab.", max_size=4) | st.sampled_from(["A.", "[::1]", "a%62", "..", "a:b"])
PORTS = st.sampled_from(["", "", ":80", ":443", ":8080", ":080", ":"])
AUTHORITIES = st.tuples(HOSTS, PORTS).map("".join)
WHOLE_PATTERNS = st.tuples(
    st.text("ab.", min_size=1, max_size=3) | st.sampled_from(["[::1]", "A", "a%62", "a."]),
    st.sampled_from(["", ":80", ":080", ":*", ":443", ":"]),
).map("".join)
WILD_PATTERNS = st.tuples(
    st.sampled_from(["*", "*.", "*a", "*.A", "*.b.", "a*", "a.*", "A.b.*"]),
    st.sampled_from(["", ":80", ":*"]),
).map("".join)
PATTERNS = WHOLE_PATTERNS | WHOLE_PATTERNS | WILD_PATTERNS
PATHS = st.text("/a", max_size=4) | st.sampled_from(["/a?a", "/a/?", "*"])
TEXTS = st.one_of(
    st.builds(StringMatch, exact=AUTHORITIES, invert=st.booleans()),
    st.builds(StringMatch, exact=AUTHORITIES),
    st.builds(StringMatch, prefix=HOSTS, invert=st.booleans()),
    st.builds(StringMatch, suffix=HOSTS, invert=st.booleans()),
    st.builds(StringMatch, contains=HOSTS),
    st.builds(StringMatch, regex=st.sampled_from(["a.*", "[ab]*"])),
    st.builds(StringMatch, present=st.booleans(), invert=st.booleans()),
)
PATH_MATCHES = st.one_of(
    st.builds(PathMatch, exact=PATHS),
    st.builds(PathMatch, prefix=PATHS),
    st.builds(PathMatch, segment_prefix=PATHS),
    st.builds(PathMatch, regex=st.sampled_from(["/a.*", "/*"])),
)
MATCHES = st.builds(
    MatchConfig,
    path=st.none() | PATH_MATCHES,
    service=st.none() | st.none() | TEXTS,
    sni=st.none() | st.none() | st.none() | TEXTS,
    method=st.none() | st.none() | st.just(("GET", "a")),
    protocol=st.none() | st.none() | st.just(("http1",)),
    headers=st.none() | st.none() | st.just({"H": StringMatch(exact="1", invert=True)}),
    port=st.none() | st.none() | st.sampled_from([80, 81]),
)
ROUTES = st.lists(
    st.builds(
        RouteConfig,
        hosts=st.lists(PATTERNS, max_size=3).map(tuple),
        match=MATCHES,
        cluster=st.just("c"),
    ),
    max_size=24,
)
EXTRAS = st.builds(
    Target,
    path=PATHS,
    scheme=st.sampled_from(["http", "https", "ws", "odd"]),
    rpc=st.none() | st.none() | st.builds(Rpc, st.just("grpc"), HOSTS, st.just("a")),
)
HEADS = st.builds(
    RequestHead,
    service=AUTHORITIES,
    method=st.sampled_from(["GET", "POST"]),
    headers=st.sampled_from([Headers(), Headers([("h", "1")]), Headers([("h", "2")])]),
    extra=EXTRAS | EXTRAS | st.none(),
)
CONNECTIONS = st.builds(
    lambda sni, port: attrs.evolve(FACTS, sni=sni, local=Address("192.0.2.1", port)),
    st.none() | HOSTS,
    st.sampled_from([80, 81]),
)


@given(ROUTES, st.lists(HEADS, min_size=1, max_size=5), st.lists(CONNECTIONS, min_size=1))
def test_what_an_index_finds_first_is_the_first_route_that_matches(
    configs: list[RouteConfig], heads: list[RequestHead], connections: list[ConnectionFacts]
) -> None:
    table = table_of(configs)
    for head, facts in itertools.product(heads, connections):
        first = linear(table, head, facts)
        assert table.choose(head, facts) is first
        assert table.explain(head, facts).winner is first
        again = recurring(attrs.evolve(head))
        named = again.adding((("h", "1"), ("x-request-id", "1")))
        for one in (again, named, again, named, again.due_in(1)):
            assert table.choose(one, facts) is linear(table, one, facts)


@given(ROUTES, HEADS, CONNECTIONS)
def test_candidates_come_in_order_and_none_that_matches_is_missing(
    configs: list[RouteConfig], head: RequestHead, facts: ConnectionFacts
) -> None:
    table = table_of(configs)
    found = [(place, route) for place, route, _ in Index(table.routes).candidates(head, facts)]
    assert [place for place, _ in found] == sorted(place for place, _ in found)
    assert all(table.routes[place] is route for place, route in found)
    assert {r for r in table.routes if r.matches(head, facts)} <= {route for _, route in found}


def looked_at(table: RouteTable, head: RequestHead, facts: ConnectionFacts = FACTS) -> int:
    return len(list(Index(table.routes).candidates(head, facts)))


MANY = 2_000


def test_of_many_hosts_one_is_looked_at() -> None:
    table = table_of(
        [RouteConfig(hosts=(f"h{n}.lab", f"h{n}.lab:8080"), cluster="c") for n in range(MANY)]
    )
    assert looked_at(table, web("h7.lab")) == 1
    assert looked_at(table, web("h7.lab:8080")) == 2  # by either pattern
    assert looked_at(table, web("other")) == 0
    assert table.choose(web("h7.lab"), FACTS) is table.routes[7]


def test_of_many_wildcards_those_that_fit_are_looked_at() -> None:
    hosts = [f"*.h{n}.lab" for n in range(MANY)] + [f"h{n}.*" for n in range(MANY)] + ["*.lab"]
    table = table_of([RouteConfig(hosts=(host,), cluster="c") for host in hosts])
    assert looked_at(table, web("x.h7.lab")) == 2
    assert table.choose(web("x.h7.lab"), FACTS) is table.routes[7]
    assert table.choose(web("h7.org"), FACTS) is table.routes[MANY + 7]
    assert table.choose(web("x.lab"), FACTS) is table.routes[-1]


def test_other_conditions_leave_10_000_hosts_as_quick_as_one() -> None:
    more = MatchConfig(
        cookies={"user": StringMatch(exact="jason")},
        headers={"n": StringMatch(range=RangeConfig(end=9), treat_missing_as_empty=True)},
        fraction=FractionConfig(percent=5),
    )
    table = table_of(
        [RouteConfig(hosts=(f"h{n}.lab",), match=more, cluster="c") for n in range(10_000)]
    )
    assert looked_at(table, web("h7.lab")) == 1
    assert looked_at(table, web("other")) == 0


def test_a_text_that_may_be_missing_is_looked_up_nowhere() -> None:
    empty = StringMatch(exact="", treat_missing_as_empty=True)
    rest = [
        RouteConfig(match=MatchConfig(sni=StringMatch(exact=f"h{n}")), cluster="c")
        for n in range(9)
    ]
    table = table_of([RouteConfig(match=MatchConfig(sni=empty), cluster="c"), *rest])
    facts = attrs.evolve(FACTS, sni=None)
    assert table.choose(web(), facts) is table.routes[0]


@pytest.mark.parametrize("key", ["exact", "prefix", "segment_prefix"])
def test_of_many_paths_one_is_looked_at(key: str) -> None:
    table = table_of(
        [
            RouteConfig(match=MatchConfig(path=PathMatch(**{key: f"/p/{n}/"})), cluster="c")
            for n in range(MANY)
        ]
    )
    path = "/p/77/" if key == "exact" else "/p/77/x"
    assert looked_at(table, web(path=path)) == 1
    assert table.choose(web(path=path), FACTS) is table.routes[77]
    assert looked_at(table, web(path="/q")) == 0


def test_many_paths_of_one_host_and_many_hosts_of_one_path_are_told_apart() -> None:
    of_host = [
        RouteConfig(hosts=("a",), match=MatchConfig(path=PathMatch(exact=f"/{n}")), cluster="c")
        for n in range(MANY)
    ]
    of_path = [
        RouteConfig(hosts=(f"h{n}",), match=MatchConfig(path=PathMatch(prefix="/")), cluster="c")
        for n in range(MANY)
    ]
    table = table_of([*of_path, *of_host, RouteConfig(cluster="c")])
    assert looked_at(table, web("a", "/7")) == 2
    assert looked_at(table, web("h7", "/7")) <= 3
    assert table.choose(web("a", "/7"), FACTS) is table.routes[MANY + 7]
    assert table.choose(web("h7", "/7"), FACTS) is table.routes[7]
    assert table.choose(web("x", "/"), FACTS) is table.routes[-1]


def test_many_services_and_server_names_are_told_apart() -> None:
    services = [
        RouteConfig(match=MatchConfig(service=StringMatch(exact=f"lab.S{n}")), cluster="c")
        for n in range(MANY)
    ]
    table = table_of(services)
    call = RequestHead(service="lab.S7", method="say")
    assert looked_at(table, call) == 1
    assert table.choose(call, FACTS) is table.routes[7]
    names = [
        RouteConfig(match=MatchConfig(sni=StringMatch(suffix=f".H{n}.lab.")), cluster="c")
        for n in range(MANY)
    ]
    table = table_of(names)
    facts = attrs.evolve(FACTS, sni="x.h7.lab")
    assert looked_at(table, web(), facts) == 1
    for _ in range(2):
        assert table.choose(recurring(web()), facts) is table.routes[7]


def test_what_would_refuse_a_request_is_not_passed_over() -> None:
    """A regex that may take long refuses long texts; behind it an index must not look."""

    def refuse(found: str | None) -> bool:
        raise BadTarget("too long")

    regex = Condition("service", "regex", lambda head, facts: "x", refuse, refuses=True)
    built = table_of(
        [
            RouteConfig(match=MatchConfig(path=PathMatch(exact=f"/{n}")), cluster="c")
            for n in range(MANY)
        ]
    ).routes
    routes = list(built)
    routes[5] = attrs.evolve(built[5], conditions=(regex, *built[5].conditions))
    table = RouteTable("t", routes)
    assert table.choose(web(path="/4"), FACTS) is table.routes[4]
    with pytest.raises(BadTarget):
        table.choose(web(path="/6"), FACTS)
    with pytest.raises(BadTarget):
        linear(table, web(path="/6"), FACTS)


def test_a_regex_of_the_configuration_may_refuse() -> None:
    tests = MatchConfig(service=StringMatch(regex="a.*"), path=PathMatch(exact="/"))
    route = table_of([RouteConfig(match=tests, cluster="c")]).routes[0]
    assert [condition.refuses for condition in route.conditions] == [True, False]


def test_few_routes_need_no_index() -> None:
    table = table_of([RouteConfig(hosts=(f"h{n}",), cluster="c") for n in range(FEW)])
    assert not Index(table.routes).useful
    many = table_of(
        [
            RouteConfig(match=MatchConfig(path=PathMatch(regex=f"/{n}")), cluster="c")
            for n in range(99)
        ]
    )
    assert not Index(many.routes).useful


def test_many_that_cannot_be_looked_up_are_merged_as_they_are_asked_for() -> None:
    regex = [MatchConfig(path=PathMatch(regex=f"/x{n}")) for n in range(200)]
    configs = [RouteConfig(hosts=("a",), match=match, cluster="c") for match in regex]
    configs += [RouteConfig(match=match, cluster="c") for match in regex]
    configs += [RouteConfig(hosts=(f"h{n}",), cluster="c") for n in range(200)]
    table = table_of([*configs[::2], *configs[1::2]])
    for path in ("/x7", "/x8", "/x199", "/x"):
        for host in ("a", "h3", "b"):
            head = web(host, path)
            assert table.choose(head, FACTS) is linear(table, head, FACTS)


def test_an_index_holds_a_route_as_often_as_it_names_texts() -> None:
    hosts = tuple(f"h{n}" for n in range(20))
    configs = [
        RouteConfig(hosts=hosts, match=MatchConfig(path=PathMatch(prefix=f"/{n}")), cluster="c")
        for n in range(50)
    ] + [RouteConfig(hosts=(f"x{n}",), cluster="c") for n in range(50)]
    assert 50 * 20 <= held(Index(table_of(configs).routes)) <= 50 * (20 + 1) * 2 + 50


def held(index: Index) -> int:
    """Return how many places of routes hang on an index, by whatever way."""
    count = 0
    seen: set[int] = set()
    waiting: list[object] = [index]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, type | Route | Condition) or callable(thing):
            continue
        seen.add(id(thing))
        below = gc.get_referents(thing)
        count += isinstance(thing, tuple) and any(isinstance(one, Route) for one in below)
        waiting += below
    return count
