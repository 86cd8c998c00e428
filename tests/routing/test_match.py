from __future__ import annotations

from collections.abc import Callable
from typing import cast
from urllib.parse import parse_qsl

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xproxy.codecs.http1.head import parse_request
from xproxy.config.routing import RangeConfig
from xproxy.config.schema import MatchConfig, PathMatch, RouteConfig, StringMatch
from xproxy.model.headers import Headers
from xproxy.model.limits import DEFAULT_LIMITS
from xproxy.model.message import Described, RequestHead, Rpc, Target
from xproxy.routing.match import (
    Condition,
    Holds,
    find_argument,
    find_codec,
    find_header,
    find_host,
    find_method,
    find_parameter,
    find_path,
    find_protocol,
    find_service,
    network_test,
    one_of,
    path_test,
    text_test,
)
from xproxy.routing.route import build_route
from xproxy.stream.exchange import ConnectionFacts


def web(path: str = "/", headers: Headers | None = None) -> RequestHead:
    return RequestHead(
        service="Reviews:9080",
        method="GET",
        headers=headers or Headers(),
        extra=Target(path=path),
    )


RPC = RequestHead(service="com.example.Hello", method="say")


@pytest.mark.parametrize(
    ("match", "found", "expected"),
    [
        (StringMatch(exact="a"), "a", True),
        (StringMatch(exact="a"), "A", False),
        (StringMatch(exact=""), "", True),
        (StringMatch(prefix="a"), "ab", True),
        (StringMatch(suffix="b"), "ab", True),
        (StringMatch(contains="b"), "abc", True),
        (StringMatch(regex="a+"), "aaa", True),
        (StringMatch(regex="a+"), "aab", False),
        (StringMatch(present=True), "", True),
        (StringMatch(present=True), None, False),
        (StringMatch(present=False), None, True),
        (StringMatch(present=False), "x", False),
        (StringMatch(present=True, invert=True), None, True),
        (StringMatch(present=False, invert=True), None, False),
        (StringMatch(exact="a", invert=True), "b", True),
        (StringMatch(exact="a", invert=True), "a", False),
        # An absent text does not match, and turning round does not change that (as in Envoy).
        (StringMatch(exact="a"), None, False),
        (StringMatch(exact="a", invert=True), None, False),
        (StringMatch(regex=".*", invert=True), None, False),
        # Ranges are half-open, and only whole numbers are in them (Envoy's range_match).
        (StringMatch(range=RangeConfig(start=-5, end=10)), "-5", True),
        (StringMatch(range=RangeConfig(start=-5, end=10)), "9", True),
        (StringMatch(range=RangeConfig(start=-5, end=10)), "10", False),
        (StringMatch(range=RangeConfig(start=-5, end=10)), "1.5", False),
        (StringMatch(range=RangeConfig(start=-5, end=10)), "9" * 5000, False),
        (StringMatch(range=RangeConfig(start=-5, end=10)), None, False),
        (StringMatch(range=RangeConfig(end=10), invert=True), "10", True),
        (StringMatch(range=RangeConfig(end=10), invert=True), "x", True),
        (StringMatch(range=RangeConfig(end=10), invert=True), None, False),
        # treat_missing_header_as_empty: then turning round means something.
        (StringMatch(exact="", treat_missing_as_empty=True), None, True),
        (StringMatch(exact="a", treat_missing_as_empty=True), None, False),
        (StringMatch(exact="a", invert=True, treat_missing_as_empty=True), None, True),
        (StringMatch(exact="a", invert=True, treat_missing_as_empty=True), "a", False),
    ],
)
def test_text(match: StringMatch, found: str | None, expected: bool) -> None:
    assert text_test(match)[1](found) is expected


@pytest.mark.parametrize(
    ("match", "found", "expected"),
    [
        (PathMatch(exact="/a"), "/a", True),
        (PathMatch(prefix="/a"), "/apix", True),
        (PathMatch(segment_prefix="/api"), "/api", True),
        (PathMatch(segment_prefix="/api"), "/api/x", True),
        (PathMatch(segment_prefix="/api"), "/apix", False),
        (PathMatch(segment_prefix="/api/"), "/api", True),
        (PathMatch(segment_prefix="/"), "/x", True),
        (PathMatch(segment_prefix="/"), "", False),
        (PathMatch(regex="/[0-9]+"), "/12", True),
        (PathMatch(regex="/[0-9]+"), "/12a", False),
        (PathMatch(prefix="/"), "*", False),
        (PathMatch(prefix=""), None, False),
    ],
)
def test_path(match: PathMatch, found: str | None, expected: bool) -> None:
    assert path_test(match)[1](found) is expected


@pytest.mark.parametrize("make", [one_of, network_test])
def test_nothing_is_in_an_empty_list(make: Callable[[tuple[str, ...]], tuple[str, Holds]]) -> None:
    assert not make(())[1]("")


def test_the_query_is_no_part_of_the_path(facts: ConnectionFacts) -> None:
    assert find_path(web("/a/b?c=/d"), facts) == "/a/b"
    assert find_path(RPC, facts) is None


def test_a_host_is_lower_case_and_only_of_web_requests(facts: ConnectionFacts) -> None:
    assert find_host(web(), facts) == "reviews:9080"
    assert find_host(attrs.evolve(web(), service="Reviews."), facts) == "reviews:80"
    assert find_host(RPC, facts) is None
    strange = attrs.evolve(web(), service="reviews", extra=Target(path="/", scheme="foo"))
    assert find_host(strange, facts) == "reviews:80"


def test_several_fields_are_joined_with_a_comma(facts: ConnectionFacts) -> None:
    head = web(headers=Headers([("X-A", "1"), ("x-b", "2"), ("x-a", "3")]))
    assert find_header("x-A")(head, facts) == "1, 3"
    assert find_header("x-c")(head, facts) is None


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/?a=1&a=2", "a", "1"),
        ("/?a=&b", "a", ""),
        ("/?a=&b", "b", ""),
        ("/?a=%2Fx+y", "a", "/x y"),
        ("/?a=1", "b", None),
        ("/", "a", None),
    ],
)
def test_a_parameter(path: str, name: str, value: str | None, facts: ConnectionFacts) -> None:
    assert find_parameter(name)(web(path), facts) == value


@attrs.frozen
class Known(Described):
    arguments: dict[str, str]


def test_an_argument(facts: ConnectionFacts) -> None:
    call = RequestHead(service="s", method="m", extra=Known({"user.id": "7"}))
    assert find_argument("user.id")(call, facts) == "7"
    assert find_argument("user")(call, facts) is None
    assert find_argument("user.id")(web(), facts) is None


def test_a_failure_tells_what_was_found_and_what_was_wanted(facts: ConnectionFacts) -> None:
    wanted, holds = text_test(StringMatch(prefix="user="))
    condition = Condition("header cookie", wanted, find_header("cookie"), holds)
    failure = condition.fails(web(headers=Headers([("cookie", "a=b")])), facts)
    assert str(failure) == "header cookie: found 'a=b', wanted prefix 'user='"
    assert str(condition.fails(web(), facts)) == "header cookie: found none, wanted prefix 'user='"
    assert condition.fails(web(headers=Headers([("cookie", "user=x")])), facts) is None


def test_a_long_text_is_cut_in_a_failure(facts: ConnectionFacts) -> None:
    wanted, holds = text_test(StringMatch(exact="x"))
    failure = Condition("header a", wanted, find_header("a"), holds).fails(
        web(headers=Headers([("a", "y" * 10_000)])), facts
    )
    assert failure is not None
    assert failure.found is not None
    assert len(failure.found) == 201


@given(st.text(max_size=10), st.text(max_size=10))
def test_turning_round_turns_the_result_of_a_present_text(text: str, found: str) -> None:
    for match in (StringMatch(exact=text), StringMatch(prefix=text), StringMatch(contains=text)):
        plain = text_test(match)[1]
        turned = text_test(attrs.evolve(match, invert=True))[1]
        assert plain(found) is not turned(found)
        assert plain(None) is turned(None) is False


CALL = RequestHead(
    service="reviews:9080",
    method="POST",
    extra=Target(path="/lab.Echo/Say", rpc=Rpc("grpc", "lab.Echo", "Say")),
)


def test_a_call_is_known_by_its_service(facts: ConnectionFacts) -> None:
    find = find_service(None)
    assert find(CALL, facts) == "lab.Echo"
    assert find(web(), facts) == "reviews:9080"
    assert find_service("Reviews.:9080")(web(), facts) == "Reviews.:9080", "another spelling of it"
    assert find_host(CALL, facts) == "reviews:9080"


@pytest.mark.parametrize(
    ("allowed", "found"),
    [(("Say",), "Say"), (("POST",), "POST"), (("Say", "POST"), "POST"), (("GET",), "Say (POST)")],
)
def test_a_call_has_two_methods_and_either_will_do(
    facts: ConnectionFacts, allowed: tuple[str, ...], found: str
) -> None:
    assert find_method(allowed)(CALL, facts) == found
    assert find_method(allowed)(RPC, facts) == "say"


@pytest.mark.parametrize(
    ("allowed", "found"),
    [(("grpc",), "grpc"), (("http1",), "http1"), (("bolt", "x"), "grpc (http1)")],
)
def test_a_call_has_two_protocols_and_either_will_do(
    facts: ConnectionFacts, allowed: tuple[str, ...], found: str
) -> None:
    assert find_protocol(allowed)(CALL, facts) == found
    assert find_protocol(allowed)(web(), facts) == "http1" == find_codec(web(), facts)


# ---- fields that end at this hop


def _parsed(*lines: str) -> RequestHead:
    block = "\r\n".join(["GET /x HTTP/1.1", "Host: a.test", *lines, "", ""]).encode()
    return parse_request(block, DEFAULT_LIMITS).message


@pytest.mark.parametrize(
    ("name", "wanted", "lines"),
    [
        ("upgrade", "websocket", ["Upgrade: WebSocket", "Connection: keep-alive, Upgrade"]),
        ("upgrade", "h2c", ["Upgrade: h2c"]),
        ("Upgrade", "WebSocket", ["upgrade: websocket"]),
        ("connection", "keep-alive", ["Connection: keep-alive"]),
        ("connection", "upgrade", ["Connection: Upgrade"]),
        ("te", "gzip, trailers", ["TE: gzip, trailers"]),
        ("transfer-encoding", "chunked", ["Transfer-Encoding: chunked"]),
        ("keep-alive", "timeout=5", ["Keep-Alive: timeout=5"]),
        ("proxy-connection", "close", ["Proxy-Connection: close"]),
        ("proxy-authorization", "Basic x", ["Proxy-Authorization: Basic x"]),
        ("x-hidden", "1", ["X-Hidden: 1", "Connection: x-hidden"]),
        ("host", "a.test", []),
        (":path", "/x", []),
        (":authority", "a.test", []),
        (":method", "GET", []),
        (":scheme", "http", []),
    ],
)
def test_a_field_is_matched_as_the_client_sent_it(
    name: str, wanted: str, lines: list[str], facts: ConnectionFacts
) -> None:
    config = RouteConfig(match=MatchConfig(headers={name: StringMatch(exact=wanted)}), cluster="c")
    route = build_route(config, "r")
    head = _parsed(*lines)
    assert route.matches(head, facts), route.failures(head, facts)
    assert not route.matches(RPC, facts)
    if not name.startswith(":") and name != "host":
        assert name.lower() not in [key.lower() for key, _ in head.headers] or name == "te", (
            "it is only to be looked at"
        )
        assert not route.matches(_parsed(), facts)


def test_a_websocket_of_http2_asks_for_the_upgrade_too(facts: ConnectionFacts) -> None:
    head = attrs.evolve(web(), extra=Target(path="/chat", upgrade="websocket", upgrade_only=True))
    assert find_header("upgrade")(head, facts) == "websocket"


@pytest.mark.parametrize(("size", "remembered"), [(10, True), (5000, False)])
def test_only_short_queries_are_remembered(
    size: int, remembered: bool, facts: ConnectionFacts
) -> None:
    """What is remembered gives the very same text again; of long ones the last is, and another one follows here."""
    find = find_parameter("a")
    first = find(web("/?a=" + "x" * size), facts)
    assert find(web("/?a=" + "y" * size), facts) == "y" * size
    again = find(web("/?a=" + "x" * size), facts)
    assert again == first == "x" * size
    assert (again is first) is remembered


@given(st.text("ab=&%+46;\xe9", max_size=30), st.sampled_from(["a", "b", "", "F", "a b"]))
def test_parameters_are_those_of_the_standard_library(query: str, name: str) -> None:
    expected: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        expected.setdefault(key, value)
    wire = f"/?{query}"
    head = RequestHead(service="a", method="GET", extra=Target(path=wire))
    found = find_parameter(name)(head, None)  # type: ignore[arg-type]  # it looks at the head only
    assert found == expected.get(name)


def test_cookies() -> None:
    route = build_route(
        RouteConfig(match=MatchConfig(cookies={"user": StringMatch(exact="jason")}), cluster="c"),
        "",
    )
    facts = cast("ConnectionFacts", None)
    for cookies, holds in (
        ("a=b; user=jason", True),
        ("user=x; user=jason", False),
        ("a=b", False),
    ):
        assert route.matches(web(headers=Headers((("Cookie", cookies),))), facts) is holds
    # An attachment of a call will do as well.
    assert route.matches(attrs.evolve(RPC, headers=Headers((("cookie", "user=jason"),))), facts)
