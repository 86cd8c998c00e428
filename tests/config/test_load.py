"""From text to Config: what is right comes out as it was meant; what is wrong is all said, and where."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xproxy.config.document import MAX_TEXT_BYTES
from xproxy.config.findings import MAX_FINDINGS, Finding, InvalidConfig
from xproxy.config.load import load_file, load_text, read_file, read_text, simple
from xproxy.config.schema import (
    ClusterConfig,
    Config,
    EndpointConfig,
    FallbackConfig,
    ListenerConfig,
    MatchConfig,
    PathMatch,
    ProxyProtocolConfig,
    RouteConfig,
    StringMatch,
    TimeoutsConfig,
)
from xproxy.model.address import Address
from xproxy.model.errors import ConfigError
from xproxy.model.limits import Duration
from xproxy.registry import Registry

GOOD = """\
admin: {address: 127.0.0.1:9901}
workers: 1
listeners:
  - name: edge
    address: 127.0.0.1:15001
    codecs: auto
    fallback: {cluster: legacy}
    filters: [nested, {name: again, on: [reset, connect-failure], attempts: 2}]
    routes: main
routes:
  main:
    - hosts: ["reviews:9080", "*.reviews.local"]
      match:
        path: {prefix: /}
        headers: {cookie: {regex: "(.*; )?user=jason(;.*)?"}, x-on: on}
      cluster: reviews-v2
    - match: {protocol: bolt, service: com.example.Hello, method: sayHello}
      cluster: {hello-v1: 99, hello-v2: 1}
      timeout: 3s
    - filters: [{name: answer, status: 204}]
clusters:
  reviews-v2:
    endpoints: [127.0.0.1:9082, {address: 127.0.0.1:9083, weight: 3, metadata: {zone: a}}]
    codec: same
    load_balancer: round_robin
    connect_timeout: 250ms
  legacy: &one
    endpoints: ["unix:/run/legacy.sock"]
  hello-v1: *one
  hello-v2: *one
"""


def test_a_whole_file(registry: Registry) -> None:
    loaded = read_text(GOOD, "f", registry)
    assert loaded.warnings == ()
    config = loaded.config
    (listener,) = config.listeners
    assert listener.fallback == FallbackConfig(cluster="legacy")
    assert listener.codecs == "auto"
    again = listener.filters[1].options
    assert (again.on, again.attempts, again.base) == (("reset", "connect-failure"), 2, 0.025)
    one = ClusterConfig(endpoints=(EndpointConfig(address=Address("", 0, "/run/legacy.sock")),))
    assert config.routes["main"][:2] == (
        RouteConfig(
            hosts=("reviews:9080", "*.reviews.local"),
            match=MatchConfig(
                path=PathMatch(prefix="/"),
                headers={
                    "cookie": StringMatch(regex="(.*; )?user=jason(;.*)?"),
                    "x-on": StringMatch(exact="on"),
                },
            ),
            cluster="reviews-v2",
        ),
        RouteConfig(
            match=MatchConfig(
                protocol=("bolt",),
                service=StringMatch(exact="com.example.Hello"),
                method=("sayHello",),
            ),
            cluster={"hello-v1": 99, "hello-v2": 1},
            timeout=Duration(3),
        ),
    )
    assert config.clusters["legacy"] == config.clusters["hello-v2"] == one
    assert config.clusters["reviews-v2"].connect_timeout == 0.25
    assert load_text(GOOD, "f", registry) == config, "two readings compare equal, for reloads"


def test_every_mistake_is_found_at_once(findings: Callable[[str], list[str]]) -> None:
    wrong = GOOD
    for right, other in (
        ("address: 127.0.0.1:15001", "adress: 127.0.0.1:15001"),
        ("workers: 1", "workers: yes"),
        ("codecs: auto", "codecs: [http1, blot]"),
        ("nested, ", "nestd, "),
        ("attempts: 2", "attempts: 0, tries: 2"),
        ("routes: main", "routes: mian"),
        ("user=jason(", "((("),
        ("hello-v1: 99", "helo-v1: 99"),
        ("3s", "3"),
        ("weight: 3", "weight: many"),
        ("zone: a", "zone: 1"),
        ("codec: same", "codec: http"),
        ("round_robin", "round-robin"),
        ("unix:/run/legacy.sock", "/run/legacy.sock"),
    ):
        assert right in wrong
        wrong = wrong.replace(right, other, 1)
    assert findings(wrong) == [
        '2:10: workers: expected auto or a whole number, found "yes"; allowed: auto',
        "5:5: listeners[0].adress: unknown key (did you mean `address`?); allowed: name, address, codecs, "
        "fallback, filters, routes, normalize_path, merge_slashes, path_with_escaped_slashes_action, "
        "proxy_protocol, tls, server_first, timeouts, limits, transparent, reuse_port, … (1 more)",
        '6:21: listeners[0].codecs[1]: unknown codec "blot" (did you mean `bolt`?); '
        "allowed: auto, bolt, http1, opaque",
        '8:15: listeners[0].filters[0]: unknown filter "nestd" (did you mean `nested`?); '
        "allowed: again, answer, broken, function, nested, odd",
        "8:76: listeners[0].filters[1].attempts: must be >= 1, found the number 0",
        "8:79: listeners[0].filters[1].tries: unknown key; allowed: on, attempts, base, statuses, "
        "largest",
        '9:13: listeners[0].routes: unknown route table "mian" (did you mean `main`?); '
        "allowed: main",
        '15:35: routes.main[0].match.headers.cookie.regex: "(.*; )?(((;.*)?" is not a regular '
        "expression: missing ), unterminated subpattern at position 8",
        '18:17: routes.main[1].cluster.helo-v1: unknown cluster "helo-v1" (did you mean '
        "`hello-v1`?); allowed: reviews-v2, legacy, hello-v1, hello-v2",
        "19:16: routes.main[1].timeout: expected a duration such as 250ms, 3s, 5m, 1h or 0, "
        "found the number 3 (did you mean `3s`?)",
        '23:67: clusters.reviews-v2.endpoints[1].weight: expected a whole number, found "many"',
        "23:90: clusters.reviews-v2.endpoints[1].metadata.zone: expected text, found the number 1 "
        '(did you mean `"1"`?)',
        '24:12: clusters.reviews-v2.codec: unknown codec "http" (did you mean `http1`?); allowed: '
        "auto, same, alpn, bolt, http1, opaque",
        '25:20: clusters.reviews-v2.load_balancer: unknown load balancer "round-robin" (did you mean '
        "`round_robin`?); allowed: least_request, random, round_robin",
        "28:17: clusters.legacy.endpoints[0]: '/run/legacy.sock' is not host:port, [ipv6]:port or "
        "unix:/path",
    ]


def test_a_mistake_hides_none_beside_it_nor_makes_another(
    findings: Callable[[str], list[str]],
) -> None:
    text = """\
listeners:
  - {name: a, address: "h:1", rutes: r, codecs: [blot, 5]}
  - {name: a, address: "h:1", routes: gone, backlog: many}
  - 7
routes:
  r:
    - {clutser: gone, hosts: [1, a*b]}
    - {cluster: {c: half, gone: 1, d: -1}, match: {path: {regex: "(", exact: 1}, tls: maybe}}
    - {filters: [{name: answer, status: x}, {name: nested}]}
clusters:
  c: {endpoints: [h], load_balancer: robin}
  d: 5
"""
    begin = [
        "listeners[0].rutes: unknown key (did you mean `routes`?); allow",
        'listeners[0].codecs[0]: unknown codec "blot" (did you mean `bo',
        "listeners[0].codecs[1]: expected text or a mapping, found the ",
        'listeners[1].name: name "a" is taken by listeners[0] already',
        'listeners[1].address: address "h:1" is taken by listeners[0] a',
        'listeners[1].routes: unknown route table "gone"; allowed: r',
        'listeners[1].backlog: expected a whole number, found "many"',
        "listeners[2]: expected a mapping, found the number 7",
        "routes.r[0].clutser: unknown key (did you mean `cluster`?); al",
        "routes.r[0].hosts[0]: expected text, found the number 1 (did y",
        'routes.r[0].hosts[1]: "a*b" is not a host pattern; expected ho',
        'routes.r[1].cluster.c: expected a whole number, found "half"',
        'routes.r[1].cluster.gone: unknown cluster "gone"; allowed: c, ',
        "routes.r[1].cluster.d: a weight must be 0 or more, found -1",
        "routes.r[1].match.path: exactly one of exact, prefix, segment_",
        'routes.r[1].match.path.regex: "(" is not a regular expression:',
        "routes.r[1].match.path.exact: expected text, found the number ",
        'routes.r[1].match.tls: expected true or false, found "maybe"',
        "routes.r[2].filters[0].status: expected a whole number, found ",
        "clusters.c.endpoints[0]: 'h' is not host:port, [ipv6]:port or ",
        'clusters.c.load_balancer: unknown load balancer "robin" (did y',
        "clusters.d: expected a mapping, found the number 5",
    ]
    for line, beginning in zip(findings(text), begin, strict=True):
        assert line.partition(": ")[2].startswith(beginning)


BASE = """\
listeners: [{{name: a, address: "1.2.3.4:1", routes: r{listener}}}]
routes:
  r:
    - {route}
clusters: {{c: {{endpoints: ["h:1"]{cluster}}}}}
"""


def _mistakes() -> list[tuple[str, str, str]]:
    """Read the table: what is wrong in which part, and below it what must be said."""
    lines = (Path(__file__).parent / "mistakes.txt").read_text(encoding="utf-8").splitlines()
    found = []
    for written, message in zip(lines[::2], lines[1::2], strict=True):
        where, _, text = written.partition(": ")
        found.append((where, text, message.strip()))
    return found


@pytest.mark.parametrize(("where", "text", "message"), _mistakes())
def test_one_mistake(
    findings: Callable[[str], list[str]], where: str, text: str, message: str
) -> None:
    parts = {"listener": "", "route": "{cluster: c}", "cluster": ""}
    parts[where] = text if where == "route" else f", {text}"
    assert findings(BASE.format_map(parts)) == [message]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["1:1: the document is empty"]),
        ("listeners", ['1:1: expected a mapping, found "listeners"']),
        ("[1]", ["1:1: expected a mapping, found a list of 1"]),
        ("{}", ["1:1: key `listeners` is missing"]),
        ("listeners: []", ["1:12: listeners: its length must be >= 1, found a list of 0"]),
        (
            "listeners:\nroutes: 1\nclusters: x",
            [
                "1:11: listeners: expected a list, found nothing",
                "2:9: routes: expected a mapping, found the number 1",
                '3:11: clusters: expected a mapping, found "x"',
            ],
        ),
        (
            "listeners: [{}]",
            [
                "1:13: listeners[0]: key `name` is missing",
                "1:13: listeners[0]: key `address` is missing",
                "1:13: listeners[0]: a listener needs routes, or a fallback to a cluster",
            ],
        ),
        (
            'listeners: [{name: a, address: "h:0", routes: x}]',
            ['1:47: listeners[0].routes: unknown route table "x"; there is none'],
        ),
        (
            "admin: {address: '[::1]:5'}\n"
            "routes: {r: []}\n"
            "listeners:\n"
            "- {name: a, address: 'h:0', routes: r}\n"
            "- {name: b, address: 'h:0', routes: r}\n"
            "- {name: c, address: '[::1]:5', routes: r}\n"
            "- {name: a, address: '[::1]:05', routes: r}\n",
            [
                '1:18: admin.address: address "[::1]:5" is taken by listeners[2] already',
                '7:10: listeners[3].name: name "a" is taken by listeners[0] already',
                '7:22: listeners[3].address: address "[::1]:5" is taken by listeners[2] already',
            ],
        ),
        ("a: 1\na: 2", ["2:1: a: key given twice; the first one is in line 1"]),
        (
            BASE.format(listener="", route="{cluster: c}", cluster="") + "workers: 257",
            ["6:10: workers: must be <= 256, found the number 257"],
        ),
    ],
)
def test_whole_documents(
    findings: Callable[[str], list[str]], text: str, messages: list[str]
) -> None:
    assert findings(text) == messages


def test_shorthands_mean_the_same(registry: Registry) -> None:
    short = """\
listeners: [{name: a, address: "h:1", routes: r, codecs: http1, proxy_protocol: true, timeouts: {idle: 0}}]
routes: {r: [{hosts: h, match: {path: /x, method: GET, query: {q: v}, source: 10.0.0.0/8},
  cluster: c, filters: [again]}]}
clusters: {c: {endpoints: ["h:2"]}}
"""
    full = """\
listeners: [{name: a, address: "h:1", routes: r, codecs: [http1], proxy_protocol: {}, timeouts: {idle: 0}}]
routes: {r: [{hosts: [h], match: {path: {exact: /x}, method: [GET], query: {q: {exact: v}},
  source: [10.0.0.0/8]}, cluster: c, filters: [{name: again}]}]}
clusters: {c: {endpoints: [{address: "h:2"}]}}
"""
    config = load_text(short, "f", registry)
    assert config == load_text(full, "f", registry)
    assert config.listeners[0].proxy_protocol == ProxyProtocolConfig()
    assert config.listeners[0].timeouts == TimeoutsConfig(idle=Duration(0))


def test_only_the_first_findings_are_told(registry: Registry) -> None:
    text = "listeners: []\n" + "".join(f"k{n}: 1\n" for n in range(MAX_FINDINGS + 5))
    with pytest.raises(InvalidConfig, match="… and 6 more") as caught:
        load_text(text, "f", registry)
    assert len(caught.value.findings) == MAX_FINDINGS
    assert caught.value.omitted == 6
    assert isinstance(caught.value, ConfigError)


def test_a_file_of_ten_thousand_clusters_and_routes_is_read(
    registry: Registry, tmp_path: Path
) -> None:
    names = [f"tenant-{n}.example.com" for n in range(10_000)]
    text = "listeners: [{name: edge, address: '127.0.0.1:0', routes: main}]\nroutes:\n  main:\n"
    text += "".join(
        f"    - name: {name}\n      hosts: [{name}]\n      cluster: {name}\n" for name in names
    )
    text += "clusters:\n"
    text += "".join(
        f"  {name}:\n    connections: shared\n    endpoints: ['127.0.0.1:1']\n" for name in names
    )
    path = tmp_path / "many.yaml"
    path.write_text(text)
    loaded = read_file(path, registry)
    assert len(loaded.config.routes["main"]) == len(loaded.config.clusters) == 10_000
    assert not loaded.warnings


def test_warnings_keep_nothing_from_running(registry: Registry) -> None:
    text = """\
admin: {address: 0.0.0.0:9901}
listeners: [{name: a, address: "h:1", routes: r}]
routes:
  r: [{cluster: c}, {cluster: c, timeout: 0}]
  unused: []
clusters:
  c: {endpoints: ["h:2", "h:2"]}
  d: {endpoints: ["h:2"]}
"""
    loaded = read_text(text, "f", registry)
    assert [str(w) for w in loaded.warnings] == [
        "f:1:9: admin.address: not a loopback address: anybody who reaches it may use the admin "
        "interface",
        "f:4:21: routes.r[1]: never reached: routes.r[0] matches everything",
        "f:5:3: routes.unused: no listener uses this route table",
        "f:5:3: routes.unused: no routes: every request is answered with not found",
        "f:7:7: clusters.c.endpoints: h:2 stands here 2 times",
        "f:8:3: clusters.d: no route and no listener uses this cluster",
    ]


def test_files(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_file(path, registry) == load_text(GOOD, "f", registry)
    assert read_file(os.fspath(path), registry).warnings == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": cannot be read: No such file or directory"),
        (b"x" * (MAX_TEXT_BYTES + 1), f": longer than {MAX_TEXT_BYTES} bytes"),
        (b"a: 1\nb: \xc3\xa4\xff", ":2:5: not UTF-8: byte 0xFF"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, registry: Registry, content: bytes | None, message: str
) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        load_file(path, registry)
    assert str(caught.value) == f"{path}{message}"


def test_simple() -> None:
    assert simple("127.0.0.1:15001", ["127.0.0.1:9080", "unix:/x"]) == Config(
        listeners=(
            ListenerConfig(
                name="default",
                address=Address("127.0.0.1", 15001),
                routes="default",
                fallback=FallbackConfig(cluster="default"),
            ),
        ),
        routes={"default": (RouteConfig(cluster="default"),)},
        clusters={
            "default": ClusterConfig(
                endpoints=(
                    EndpointConfig(address=Address("127.0.0.1", 9080)),
                    EndpointConfig(address=Address("", 0, "/x")),
                )
            )
        },
    )


def test_simple_says_which_option_is_wrong() -> None:
    with pytest.raises(InvalidConfig) as caught:
        simple("15001", ["a:1", "b:x"])
    assert str(caught.value).split("\n") == [
        "--listen: '15001' is not host:port, [ipv6]:port or unix:/path",
        "--upstream: 'b:x' is not host:port, [ipv6]:port or unix:/path",
    ]
    with pytest.raises(InvalidConfig, match="--upstream: at least one is needed"):
        simple("a:1", [])


KEYS = [
    f.name
    for c in (Config, ListenerConfig, RouteConfig, MatchConfig, ClusterConfig)
    for f in attrs.fields(c)
]
SCALARS = st.one_of(
    st.sampled_from(
        [
            "a",
            "c",
            "r",
            "h:1",
            "1s",
            "64KiB",
            "on",
            "true",
            "~",
            "again",
            "answer",
            "{}",
            "*a",
            "&a x",
        ]
    ),
    st.integers(-3, 70000).map(str),
    st.text(max_size=8),
)


def _flow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(st.sampled_from([*KEYS, "name", "exact", "zz"]), inner).map(
        lambda kv: f"{kv[0]}: {kv[1]}"
    )
    return st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(pair, max_size=4).map(lambda items: f"{{{', '.join(items)}}}"),
    )


YAMLISH = st.recursive(SCALARS, _flow, max_leaves=30)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.one_of(
        st.text(), YAMLISH, YAMLISH.map(lambda t: f"listeners: {t}\nroutes: {t}\nclusters: {t}")
    )
)
def test_any_text_gives_a_config_or_findings(registry: Registry, text: str) -> None:
    findings: tuple[Finding, ...] = ()
    config: Config | None = None
    try:
        config = load_text(text, "f", registry)
    except InvalidConfig as exc:
        findings = exc.findings
    assert (config is None) == bool(findings)
    assert all(f.line >= 1 and f.column >= 1 and f.message for f in findings)


@pytest.mark.parametrize("key", ["on", "true", "True", '"on"'])
def test_the_key_on_may_be_the_truth_of_other_tools(
    findings: Callable[[str], list[str]], key: str
) -> None:
    wrong = f"{{cluster: c, filters: [{{name: again, {key}: rest}}]}}"
    (found,) = findings(BASE.format(listener="", route=wrong, cluster=""))
    assert "did you mean `reset`" in found  # the value is wrong, and the key is not
