"""What is checked across values; most of it is in the table that test_load.py reads."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TypeVar

import attrs
import pytest

from xproxy.config.checks import check, checking, dialects, note_as_right, problems_by_part
from xproxy.config.findings import InvalidConfig
from xproxy.config.load import load_text, simple
from xproxy.config.partial import UNREAD
from xproxy.config.schema import (
    ClusterConfig,
    CodecConfig,
    Config,
    FallbackConfig,
    FilterConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    ProxyProtocolConfig,
    RouteConfig,
    ServerFirstConfig,
    StringMatch,
)
from xproxy.config.tls import (
    CertificateConfig,
    ClientCertificatesConfig,
    ClusterTlsConfig,
    ListenerTlsConfig,
)
from xproxy.model.address import Address
from xproxy.model.limits import File
from xproxy.registry import CODECS, Registry

T = TypeVar("T")

NONE = File(Path("/none"))
RIGHT = simple("127.0.0.1:1", ["127.0.0.1:2"])


def wrong(config: Config, registry: Registry) -> list[str]:
    """Check a configuration that a program has made; return what is said of it."""
    with pytest.raises(InvalidConfig) as caught:
        check(config, registry)
    return str(caught.value).split("\n")


def problems(config: Config, registry: Registry) -> list[str]:
    return [one.message for part in problems_by_part(config, registry) for one in part]


def test_values_are_checked_as_a_file_is_with_paths_and_all_at_once(registry: Registry) -> None:
    listener = ListenerConfig(
        name="a",
        address=Address("h", 1),
        codecs=("http1", "blot", "http1"),
        fallback=FallbackConfig(cluster="x"),
        filters=(FilterConfig(name="again"),),
        routes="mian",
        proxy_protocol=ProxyProtocolConfig(allow=("10.0.0.1/8",)),
        tls=ListenerTlsConfig(certificates=(CertificateConfig(cert=NONE, key=NONE),)),
        server_first=ServerFirstConfig(cluster="y"),
    )
    bare = ListenerConfig(name="a", address=Address("h", 1), server_first=ServerFirstConfig())
    route = RouteConfig(
        hosts=("a*b",),
        match=MatchConfig(
            path=PathMatch(),
            headers={"x": StringMatch(regex="("), "y": StringMatch(exact="1", prefix="2")},
            protocol=("htp1",),
            source=("here",),
            method=(),
        ),
        cluster={"c": -1, "d": 1},
        allow_upgrade=("websocket/13",),
    )
    cluster = ClusterConfig(
        endpoints=RIGHT.clusters["default"].endpoints,
        codec="alpn",
        load_balancer="robin",
    )
    secured = attrs.evolve(cluster, codec="htp", tls=ClusterTlsConfig(cert=NONE, sni="A"))
    config = Config(
        listeners=(listener, bare),
        routes={"main": (route, RouteConfig(filters=(FilterConfig(name="odd"),)))},
        clusters={"c": cluster, "e": secured},
    )
    one_of = "exactly one of exact, prefix, suffix, contains, regex, range, present"
    needs = (
        "a route needs a cluster, or a filter that answers by itself (direct_response, redirect)"
    )
    assert wrong(config, registry) == [
        'listeners[1].name: name "a" is taken by listeners[0] already',
        'listeners[1].address: address "h:1" is taken by listeners[0] already',
        'listeners[0].codecs[1]: unknown codec "blot" (did you mean `bolt`?); allowed: auto, bolt, http1, opaque',
        'listeners[0].codecs[2]: codec "http1" is listed twice',
        'listeners[0].fallback.cluster: unknown cluster "x"; allowed: c, e',
        'listeners[0].server_first.cluster: unknown cluster "y"; allowed: c, e',
        'listeners[0].routes: unknown route table "mian" (did you mean `main`?); allowed: main',
        "listeners[0].proxy_protocol.allow[0]: 10.0.0.1/8 has host bits set (did you mean `10.0.0.0/8`?)",
        'listeners[0].tls.certificates[0].cert: "/none" cannot be read: No such file or directory',
        'listeners[0].tls.certificates[0].key: "/none" cannot be read: No such file or directory',
        'listeners[0].filters[0]: "again" is not loaded as a filter',
        "listeners[1].server_first: name a cluster for silent clients here, or a fallback to one",
        "listeners[1]: a listener needs routes, or a fallback to a cluster",
        'routes.main[0].cluster.d: unknown cluster "d"; allowed: c, e',
        "routes.main[0].cluster.c: a weight must be 0 or more, found -1",
        'routes.main[0].hosts[0]: "a*b" is not a host pattern; expected host, host:port, *.suffix, prefix.* or *',
        "routes.main[0].match.path: exactly one of exact, prefix, segment_prefix, regex must be given",
        'routes.main[0].match.headers.x.regex: "(" is not a regular expression: '
        "missing ), unterminated subpattern at position 0",
        f"routes.main[0].match.headers.y: {one_of} may be given, found exact, prefix",
        "routes.main[0].match.method: must not be an empty list",
        'routes.main[0].match.protocol[0]: unknown protocol "htp1" (did you mean `http1`?); '
        "allowed: bolt, http1, opaque",
        "routes.main[0].match.source[0]: 'here' does not appear to be an IPv4 or IPv6 network, "
        "expected a network such as 10.0.0.0/8 or ::1/128",
        'routes.main[0].allow_upgrade[0]: "websocket/13" is not the name of a protocol',
        f"routes.main[1]: {needs}",
        'routes.main[1].filters[0]: "odd" is not loaded as a filter',
        "clusters.c.codec: alpn needs `tls` beside it: the choice is made there",
        'clusters.c.load_balancer: unknown load balancer "robin" (did you mean `round_robin`?); '
        "allowed: least_request, random, round_robin",
        'clusters.e.codec: unknown codec "htp" (did you mean `http1`?); '
        "allowed: auto, same, alpn, bolt, http1, opaque",
        'clusters.e.load_balancer: unknown load balancer "robin" (did you mean `round_robin`?); '
        "allowed: least_request, random, round_robin",
        "clusters.e.tls.cert: needs `key` beside it",
        'clusters.e.tls.sni: "A" is not a host name in lower case',
    ]


def test_what_was_found_right_is_not_checked_again(registry: Registry) -> None:
    config = simple("127.0.0.1:1", ["127.0.0.1:2"])
    assert list(checking(config, registry)), "it takes some steps"
    assert not list(checking(config, registry))
    other = attrs.evolve(config, clusters={})
    assert other.checked_with is None, "a changed one is another"
    assert len(wrong(other, registry)) == 2
    assert config == simple("127.0.0.1:1", ["127.0.0.1:2"]), "nobody sees the difference"


def test_with_other_plugins_it_may_not_be_right_any_more(registry: Registry) -> None:
    config = simple("127.0.0.1:1", ["127.0.0.1:2"])
    note_as_right(config, registry)
    assert "unknown load balancer" in wrong(config, Registry(registry.entries(CODECS)))[0]


def test_what_a_file_says_is_not_checked_again(registry: Registry) -> None:
    text = """\
listeners: [{name: a, address: "h:1", fallback: {cluster: c}}]
clusters: {c: {endpoints: ["h:1"]}}
"""
    assert load_text(text, "f", registry).checked_with is registry


def test_one_part_a_step(registry: Registry) -> None:
    assert len(list(problems_by_part(RIGHT, registry))) == 1 + 1 + 1 + 1


def without(value: T, field: str) -> T:
    """Return a copy of which this field could not be read, which its bounds would not let pass."""
    made = copy.copy(value)
    object.__setattr__(made, field, UNREAD)
    return made


UNREADABLE = attrs.evolve(
    RIGHT,
    listeners=(
        UNREAD,
        *(
            attrs.evolve(RIGHT.listeners[0], name=name, **fields)
            for name, fields in {
                "a": {"address": UNREAD, "codecs": UNREAD, "fallback": UNREAD, "routes": None},
                "b": {"fallback": FallbackConfig(cluster=UNREAD), "filters": UNREAD},
                "c": {"server_first": ServerFirstConfig(cluster=UNREAD), "tls": UNREAD},
                "d": {"codecs": ("http1", UNREAD, CodecConfig(name="bolt", options=UNREAD))},
                "e": {"filters": (UNREAD, FilterConfig(name="again", options=UNREAD))},
                "f": {"tls": ListenerTlsConfig(certificates=UNREAD, passthrough=UNREAD)},
                "g": {"tls": ListenerTlsConfig(certificates=UNREAD, client_certificates=UNREAD)},
                "h": {"tls": ListenerTlsConfig(certificates=(UNREAD,), ticket_keys=(UNREAD,))},
                "i": {"proxy_protocol": UNREAD, "server_first": UNREAD, "routes": UNREAD},
            }.items()
        ),
        without(
            attrs.evolve(
                RIGHT.listeners[0],
                tls=ListenerTlsConfig(
                    certificates=(CertificateConfig(cert=UNREAD, key=UNREAD),),
                    client_certificates=ClientCertificatesConfig(mode=UNREAD, ca=UNREAD),
                ),
            ),
            "name",
        ),
    ),
    routes={
        "default": (
            UNREAD,
            RouteConfig(cluster=UNREAD, hosts=(UNREAD,), match=UNREAD, allow_upgrade=(UNREAD,)),
            RouteConfig(cluster={"default": UNREAD}, hosts=UNREAD, allow_upgrade=UNREAD),
            RouteConfig(filters=UNREAD),
            RouteConfig(filters=(UNREAD,)),
            RouteConfig(filters=(FilterConfig(name="answer", options=UNREAD),)),
            RouteConfig(
                cluster="default",
                match=MatchConfig(
                    path=UNREAD,
                    headers={"a": UNREAD, "b": StringMatch(regex=UNREAD)},
                    query=UNREAD,
                    method=(UNREAD,),
                    protocol=("bolt", UNREAD),
                    source=(UNREAD,),
                    alpn=UNREAD,
                ),
            ),
        ),
        "x": UNREAD,
    },
    clusters={
        "default": UNREAD,
        "a": ClusterConfig(endpoints=(UNREAD,), codec=UNREAD, load_balancer=UNREAD, tls=UNREAD),
        "b": attrs.evolve(
            RIGHT.clusters["default"],
            endpoints=(attrs.evolve(RIGHT.clusters["default"].endpoints[0], address=UNREAD),),
            codec=CodecConfig(name="bolt", options=UNREAD),
            tls=ClusterTlsConfig(cert=UNREAD, key=UNREAD, ca=UNREAD, sni=UNREAD, verify=UNREAD),
        ),
        "c": without(
            attrs.evolve(RIGHT.clusters["default"], codec="alpn", tls=ClusterTlsConfig()),
            "endpoints",
        ),
    },
)


def test_what_could_not_be_read_is_not_doubted(registry: Registry) -> None:
    found = problems(UNREADABLE, registry)
    assert [message for message in found if "is taken by" not in message] == []
    assert problems(attrs.evolve(RIGHT, clusters=UNREAD, routes=UNREAD), registry) == []
    assert problems(without(attrs.evolve(UNREADABLE, admin=UNREAD), "listeners"), registry) == []


def test_what_cannot_answer_does_not_whatever_its_options(registry: Registry) -> None:
    route = RouteConfig(filters=(FilterConfig(name="again", options=UNREAD),))
    assert (
        "a route needs a cluster"
        in problems(attrs.evolve(RIGHT, routes={"default": (route,)}), registry).pop()
    )


def test_dialects_of_codecs_that_cannot_be_loaded_are_none(registry: Registry) -> None:
    assert dialects(registry) == set()


@pytest.mark.parametrize(
    "host", ["*", "*:80", "a", "a:80", "a.b:*", "*.a.b", "a.*", "[::1]:80", "a-b_c"]
)
def test_host_patterns(host: str, registry: Registry) -> None:
    text = f"""\
listeners: [{{name: a, address: "h:1", routes: r}}]
routes: {{r: [{{hosts: "{host}", cluster: c}}]}}
clusters: {{c: {{endpoints: ["h:1"]}}}}
"""
    assert load_text(text, "f", registry).routes["r"][0].hosts == (host,)


def test_the_same_address_written_in_two_ways(registry: Registry) -> None:
    text = """\
listeners:
  - {name: a, address: "[::1]:80", routes: r}
  - {name: b, address: "[::1]:080", routes: r}
  - {address: 5}
  - 7
routes: {r: []}
"""
    with pytest.raises(InvalidConfig) as caught:
        load_text(text, "f", registry)
    taken = [one.path for one in caught.value.findings if "is taken by" in one.message]
    assert taken == ["listeners[1].address"]
